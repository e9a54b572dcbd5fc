"""The probe of plasticity: Adam's steps in every library, and a network of dead neurons that cannot fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch

from neuroactivity import LayoutError, analysis
from tests.neuroactivity.backends import to_numpy

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 4)).astype(np.float32), RNG.normal(size=(32, 1)).astype(np.float32)
SHAPES = {"w1": (4, 16), "b1": (16,), "w2": (16, 1)}
WEIGHTS = {name: RNG.normal(0, 0.5, shape).astype(np.float32) for name, shape in SHAPES.items()}
STEPS, RATE = 40, 0.02


def loss_in_jax(params):
    hidden = jax.nn.relu(X @ params["w1"] + params["b1"])
    return jnp.mean((hidden @ params["w2"] - Y) ** 2)


def in_jax(params):
    return jax.value_and_grad(loss_in_jax)(params)


def in_torch(params):
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    hidden = torch.relu(torch.from_numpy(X) @ leaves["w1"] + leaves["b1"])
    loss = (hidden @ leaves["w2"] - torch.from_numpy(Y)).square().mean()
    return loss.detach(), dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def in_tensorflow(params):
    with tf.GradientTape() as tape:
        tape.watch(params)
        hidden = tf.nn.relu(X @ params["w1"] + params["b1"])
        loss = tf.reduce_mean((hidden @ params["w2"] - Y) ** 2)
    return loss, tape.gradient(loss, params)


def by_torch_adam():
    """The losses of PyTorch's own Adam."""
    params = {name: torch.from_numpy(value.copy()) for name, value in WEIGHTS.items()}
    optimizer, losses = torch.optim.Adam(params.values(), lr=RATE), []
    for _ in range(STEPS + 1):
        loss, grads = in_torch(params)
        losses.append(float(loss))
        for name, grad in grads.items():
            params[name].grad = grad
        optimizer.step()
    return losses


@pytest.mark.parametrize(
    ("asarray", "loss_and_grads"), [(torch.from_numpy, in_torch), (jnp.asarray, in_jax), (tf.constant, in_tensorflow)]
)
def test_the_losses_are_adams_and_the_weights_stay(asarray, loss_and_grads):
    params = {name: asarray(value.copy()) for name, value in WEIGHTS.items()}
    found = analysis.fitting_losses(params, loss_and_grads, steps=STEPS, learning_rate=RATE)
    assert to_numpy(found) == pytest.approx(np.array(by_torch_adam()), rel=1e-3)
    assert all(np.array_equal(to_numpy(value), WEIGHTS[name]) for name, value in params.items())


def test_it_runs_inside_jit():
    fit = jax.jit(lambda params: analysis.fitting_losses(params, in_jax, steps=3))
    assert fit(jax.tree.map(jnp.asarray, WEIGHTS)).shape == (4,)


@pytest.mark.slow
def test_dead_neurons_do_not_fit():
    params = jax.tree.map(jnp.asarray, WEIGHTS)
    alive = analysis.fitting_losses(params, in_jax, learning_rate=RATE)
    dead = analysis.fitting_losses(params | {"b1": params["b1"] - 100}, in_jax, learning_rate=RATE)
    assert alive[-1] < 0.5 * alive[0]
    assert dead[-1] == pytest.approx(float(dead[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": 0}, "steps: .* got 0"), ({"learning_rate": -1.0}, "learning_rate: .* got -1.0")],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        analysis.fitting_losses({}, in_jax, **options)


@pytest.mark.parametrize(
    ("grads", "message"),
    [({"v": np.ones(2)}, "'v' is in one only"), ({"w": np.ones(3)}, r"'w': expected shape \(2,\)")],
)
def test_gradients_that_do_not_fit_are_named(grads, message):
    with pytest.raises(LayoutError, match=message):
        analysis.fitting_losses({"w": np.ones(2)}, lambda params: (np.float32(0), grads))


@pytest.mark.counts(faults=2)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_steps_in_low_precision_are_adams(dtype):
    """A weight without gradient stays, and the others reach their target."""
    target = torch.tensor([1.0, 0.0])

    def loss(params):
        assert params["w"].dtype == dtype
        difference = params["w"].float() - target
        return difference.square().mean(), {"w": difference.to(dtype)}

    losses = analysis.fitting_losses({"w": torch.zeros(2, dtype=dtype)}, loss, steps=60, learning_rate=0.05)
    assert torch.isfinite(losses).all()
    assert losses[-1] < 0.05 * losses[0]
