"""Gradients of what layers return before their activation functions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import neuroactivity as na
import neuroactivity_torch
from neuroactivity_jax import activation_gradients, gradients, layout_of
from tests.adapters.jax.models import KEY, SEQUENCES, LinenImages, LinenRecurrent, LinenResidual, LinenTwins, X, linen


def square(output):
    return sum(jnp.square(leaf).mean() for leaf in jax.tree.leaves(output))


def dense(key, into, out):
    return {"kernel": jax.random.normal(key, (into, out)), "bias": jnp.full(out, 0.1)}


PARAMS = {"a": dense(KEY, 5, 8), "b": dense(jax.random.key(1), 8, 6), "c": dense(jax.random.key(2), 6, 2)}
LAYOUT = na.Layout(
    [na.dense(name, weight=(f"{name}/kernel", "in neuron"), bias=f"{name}/bias") for name in PARAMS],
)


def layer(params, x):
    return x @ params["kernel"] + params["bias"]


@pytest.mark.parametrize("function", [jax.nn.relu, jnp.tanh, jax.nn.silu])
def test_they_are_the_gradients_of_each_sample_as_in_pytorch(function):
    def apply(params):
        return layer(params["c"], function(layer(params["b"], function(layer(params["a"], X)))))

    found = jax.jit(lambda params: activation_gradients(params, apply, loss=square, layout=LAYOUT))(PARAMS)
    first = layer(PARAMS["a"], X)
    second = layer(PARAMS["b"], function(first))
    behind = lambda second: square(layer(PARAMS["c"], function(second)))  # noqa: E731
    expected = jax.grad(lambda first: behind(layer(PARAMS["b"], function(first))))(first)
    np.testing.assert_allclose(found["a"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["b"], jax.grad(behind)(second), rtol=1e-4, atol=1e-5)
    if function is jax.nn.relu:
        for name, value in torch_gradients().items():
            np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-4, atol=1e-5)


def torch_gradients():
    """The same of the same network in PyTorch."""
    model = torch.nn.Sequential()
    for name, arrays in PARAMS.items():
        made = torch.nn.Linear(*arrays["kernel"].shape)
        made.load_state_dict({"weight": torch.tensor(arrays["kernel"]).T, "bias": torch.tensor(arrays["bias"])})
        model.add_module(name, made)
        if name != "c":
            model.add_module(f"after_{name}", torch.nn.ReLU())
    groups = [na.dense(name, weight=(f"{name}.weight", "neuron in"), bias=f"{name}.bias") for name in PARAMS]
    loss = lambda output: output.square().mean()  # noqa: E731
    x = torch.tensor(np.asarray(X))
    return neuroactivity_torch.activation_gradients(model, x, loss=loss, layout=na.Layout(groups))


def test_they_find_dead_relu_neurons_which_gradients_of_outputs_do_not():
    """Also one whose weights and bias are zero, where the function's own derivative counts."""
    params = {**PARAMS, "a": jax.tree.map(lambda x: x.at[..., :2].set(0.0), PARAMS["a"])}
    params["a"]["bias"] = params["a"]["bias"].at[2:4].set(-100.0)
    apply = lambda params: layer(params["c"], layer(params["b"], jax.nn.relu(layer(params["a"], X))))  # noqa: E731
    scores = na.grama(activation_gradients(params, apply, loss=square, layout=LAYOUT), LAYOUT, signal="activations")
    assert np.flatnonzero(scores["a"] == 0).tolist() == [0, 1, 2, 3]
    hidden = jax.nn.relu(layer(params["a"], X))
    outputs = {"a": jax.grad(lambda hidden: square(layer(params["c"], layer(params["b"], hidden))))(hidden)}
    assert (na.grama(outputs, na.Layout([LAYOUT["a"]]), signal="activations")["a"] == 0).sum() == 0


@pytest.mark.slow
def test_the_gradients_of_parameters_are_sums_of_them():
    """Of every group of networks with convolutions, normalisations, a residual stream and stacks of layers."""
    for model, x in ((LinenImages(), jnp.ones((3, 8, 8, 2))), (LinenResidual(), X), (LinenTwins(), X)):
        params, apply = linen(model, x)
        layout = layout_of(params)
        own = jax.jit(
            lambda params, apply=apply, layout=layout: activation_gradients(params, apply, loss=square, layout=layout)
        )
        found = own(params)
        grads = bias_gradients(params, apply)
        for name, group in layout.items():
            np.testing.assert_allclose(found[name].sum(-2), grads[group.unscored[0].param], rtol=1e-3, atol=1e-5)


def bias_gradients(params, apply):
    return gradients(jax.jit(jax.grad(lambda params: square(apply(params))))(params))


@pytest.mark.slow
def test_there_are_none_inside_of_loops_and_where_the_loss_does_not_reach():
    params, apply = linen(LinenRecurrent(nn.GRUCell), SEQUENCES)
    found = activation_gradients(params, apply, loss=square, layout=layout_of(params))
    assert {name for name, value in found.items() if value is None} == {"params/cell"}
    apply = lambda params: (layer(params["a"], X), layer(params["c"], layer(params["b"], X @ jnp.ones((5, 8)))))  # noqa: E731
    found = activation_gradients(PARAMS, apply, loss=lambda out: out[1].sum(), layout=LAYOUT)
    assert found["a"] is None
    assert found["b"].shape == (16, 6)
    scaled = na.Layout([na.norm("scale", scale="a/bias")])
    apply = lambda params: X @ params["a"]["kernel"] * params["a"]["bias"]  # noqa: E731
    assert activation_gradients(PARAMS, apply, loss=jnp.sum, layout=scaled) == {"scale": None}
