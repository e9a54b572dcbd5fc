"""Groups that no parameter reads alone are read after their activation function, or not at all."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuroactivity as na
from neuroactivity_jax import activations, layout_of
from tests.adapters.jax.models import KEY

X = jax.random.normal(jax.random.key(1), (6, 3))
PARAMS = {"a": {"w": jax.random.normal(KEY, (3, 8)), "b": jnp.where(jnp.arange(8) < 3, -100.0, 0.1)}}
LAYOUT = na.Layout([na.dense("a", weight=("a/w", "in neuron"), bias="a/b")])
PRE = X @ PARAMS["a"]["w"] + PARAMS["a"]["b"]


def seen(after):
    """The group's activations in a model that does this to its pre-activations."""
    apply = lambda params: after(X @ params["a"]["w"] + params["a"]["b"])  # noqa: E731
    return jax.jit(lambda params: activations(params, apply, layout=LAYOUT)["a"])(PARAMS)


def layer_norm(z):
    return (z - z.mean(-1, keepdims=True)) * jax.lax.rsqrt(jnp.square(z).mean(-1, keepdims=True))


FUNCTIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "exact gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "leaky relu": jax.nn.leaky_relu,
    "softplus": jax.nn.softplus,
    "mish": jax.nn.mish,
    "hard swish": jax.nn.hard_swish,
    "where": lambda z: jnp.where(z > 0, z, 0.0),
    "none": lambda z: z,
}
READERS = {
    "a sum with another stream": lambda h: h + X @ jnp.ones((3, 8)),
    "a normalisation": layer_norm,
    "the output": lambda h: h,
    "the output, twice": lambda h: (h, h.mean()),
    "a product, shifted and not": lambda h: (h @ jnp.ones((8, 2)), (h - jnp.zeros(8)).mean(0)),
    "a norm behind a reshape": lambda h: layer_norm(h.reshape(2, 3, 8)),
    "a product": lambda h: h @ h.T,
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_read_is_after_the_activation_function(reader):
    np.testing.assert_allclose(seen(lambda z: READERS[reader](jax.nn.relu(z))), jax.nn.relu(PRE), rtol=1e-6)
    np.testing.assert_allclose(seen(lambda z: READERS[reader](z)), PRE, rtol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_activation_function_is_followed(function):
    apply = FUNCTIONS[function]
    np.testing.assert_allclose(seen(lambda z: apply(z) + X @ jnp.ones((3, 8))), apply(PRE), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen(lambda z: layer_norm(apply(z))), apply(PRE), rtol=1e-5, atol=1e-6)


SCALE = jnp.linspace(0.5, 2.0, 8)


def batch_norm(z):
    return (z - z.mean(0)) * jax.lax.rsqrt(z.var(0) + 1e-5) * SCALE


def group_norm(z):
    groups = z.reshape(6, 2, 4)
    mean, var = groups.mean(-1, keepdims=True), groups.var(-1, keepdims=True)
    return ((groups - mean) / jnp.sqrt(var + 1e-5)).reshape(6, 8) * SCALE


def from_flax(norm):
    variables = norm.init(KEY, PRE)
    return lambda z: norm.apply(variables, z, mutable=list(variables))[0]


NORMS = {
    "layer norm": layer_norm,
    "root mean square": lambda z: z * jax.lax.rsqrt(jnp.mean(z**2, -1, keepdims=True)) * SCALE,
    "standardize": jax.nn.standardize,
    "length": lambda z: z / jnp.linalg.norm(z, axis=-1, keepdims=True),
    "batch norm": batch_norm,
    "running statistics": lambda z: (z - SCALE) / jnp.sqrt(SCALE),
    "group norm": group_norm,
    "flax layer norm": from_flax(nn.LayerNorm()),
    "flax RMS norm": from_flax(nn.RMSNorm()),
    "flax group norm": from_flax(nn.GroupNorm(2)),
    "flax batch norm": from_flax(nn.BatchNorm(use_running_average=False)),
    "flax batch norm at rest": from_flax(nn.BatchNorm(use_running_average=True)),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("norm", NORMS)
def test_a_normalisation_reads_what_an_activation_function_in_front_of_it_makes_and_is_followed_otherwise(norm):
    normalise, relu, weight = NORMS[norm], jax.nn.relu, jnp.ones((8, 2))
    np.testing.assert_allclose(seen(lambda z: normalise(relu(z)) @ weight), relu(PRE), rtol=1e-6)
    found = seen(lambda z: relu(normalise(z)) @ weight)
    np.testing.assert_allclose(found, relu(normalise(PRE)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen(lambda z: X @ jnp.ones((3, 8)) + normalise(z)), PRE, rtol=1e-6)


def test_what_is_multiplied_or_masked_or_mixed_is_read_as_it_is_then():
    gate, mask, mix = jax.nn.sigmoid(X @ jnp.ones((3, 8))), X[:, :1] > 0, jnp.arange(12.0).reshape(2, 6)
    gated = seen(lambda z: (jax.nn.relu(z) * gate) @ jnp.ones((8, 2)))
    np.testing.assert_allclose(gated, jax.nn.relu(PRE) * gate, rtol=1e-6)
    np.testing.assert_allclose(seen(lambda z: (z * gate) @ jnp.ones((8, 2))), PRE * gate, rtol=1e-6)
    masked = jnp.where(mask, PRE, 0)
    np.testing.assert_allclose(seen(lambda z: jax.nn.relu(jnp.where(mask, z, 0))), jax.nn.relu(masked), rtol=1e-6)
    np.testing.assert_allclose(seen(lambda z: jax.nn.relu(mix @ z)), jax.nn.relu(mix @ PRE), rtol=1e-5)
    np.testing.assert_allclose(seen(lambda z: jax.nn.relu(z.mean(0))), jax.nn.relu(PRE.mean(0))[None], rtol=1e-5)
    np.testing.assert_allclose(seen(jax.nn.softmax), jax.nn.softmax(PRE), rtol=1e-5)
    np.testing.assert_allclose(seen(lambda z: z.sum(-1)), PRE, rtol=1e-6)


def test_what_layers_write_to_a_residual_stream_is_their_own_part_of_it():
    """Also where every block, and the head, normalises and activates the stream before it reads it."""
    keys = jax.random.split(KEY, 3)
    params = {name: jax.random.normal(key, (8, 8)) for name, key in zip(("one", "two"), keys, strict=False)}
    params["table"] = jax.random.normal(keys[2], (7, 8))
    tokens, weight = jnp.array([1, 4, 2, 1, 0, 5]), jnp.ones((8, 2))

    def blocks(params):
        first = params["table"][tokens]
        second = first + jax.nn.relu(layer_norm(first)) @ params["one"]
        third = second + jax.nn.relu(layer_norm(second)) @ params["two"]
        return first, second, third

    layout = na.Layout([na.dense(name, weight=(name, "in neuron")) for name in params])
    first, second, third = blocks(params)
    found = activations(params, lambda params: layer_norm(blocks(params)[2]) @ weight, layout=layout)
    np.testing.assert_allclose(found["table"], first)
    np.testing.assert_allclose(found["one"], second - first, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["two"], third - second, rtol=1e-4, atol=1e-5)
    apply = lambda params: jax.nn.relu(layer_norm(blocks(params)[2])) @ weight  # noqa: E731
    with pytest.warns(na.ActivityWarning, match="no activations for two: "):
        found = activations(params, apply, layout=layout)
    np.testing.assert_allclose(found["one"], second - first, rtol=1e-4, atol=1e-5)


def test_one_neuron_that_multiplies_or_is_added_to_many():
    params = {"a": {"w": jax.random.normal(KEY, (3, 1)), "b": jnp.ones(1)}}
    other, made = X @ jnp.ones((3, 8)), X @ params["a"]["w"] + params["a"]["b"]
    run = lambda after: activations(  # noqa: E731
        params, lambda params: after(X @ params["a"]["w"] + params["a"]["b"]), layout=LAYOUT
    )["a"]
    np.testing.assert_allclose(run(lambda z: (z + other) @ jnp.ones((8, 2))), made, rtol=1e-6)
    with pytest.warns(na.ActivityWarning, match="no activations for a: "):
        assert run(lambda z: (jax.nn.sigmoid(z) * other) @ jnp.ones((8, 2))) is None


def test_layers_that_are_added_and_then_activated_are_each_read_as_the_result():
    params = {name: {"w": jax.random.normal(jax.random.key(n), (3, 8))} for n, name in enumerate("ab")}
    apply = lambda params: jax.nn.relu(X @ params["a"]["w"] + X @ params["b"]["w"]) @ jnp.ones((8, 2))  # noqa: E731
    layout = na.Layout([na.dense(name, weight=(f"{name}/w", "in neuron")) for name in "ab"])
    found = activations(params, apply, layout=layout)
    expected = jax.nn.relu(X @ params["a"]["w"] + X @ params["b"]["w"])
    for name in "ab":
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


UNSEEN = {
    "a function of a sum": lambda z: jax.nn.relu(z + X @ jnp.ones((3, 8))),
    "a function of a part": lambda z: jax.nn.relu(z[:, :4]),
    "a function of every other": lambda z: jnp.tanh(z[:, ::2]),
    "a function of a concatenation": lambda z: jax.nn.relu(jnp.concatenate([z, X], axis=-1)),
    "two functions": lambda z: (jax.nn.relu(z) @ jnp.ones((8, 2)), jax.nn.relu(-z) @ jnp.ones((8, 2))),
    "inside a branch": lambda z: jax.lax.cond(X.sum() > 0, lambda: jax.nn.relu(z), lambda: jnp.tanh(z)),
    "a function behind merged axes": lambda z: jax.nn.relu(z.reshape(-1)),
    "a function of a normalised sum": lambda z: jax.nn.relu(layer_norm(z + X @ jnp.ones((3, 8)))),
    "a function of a pooled sum": lambda z: jax.nn.relu((z + X @ jnp.ones((3, 8))).mean(0)),
    "a function of a running sum": lambda z: jax.nn.relu(jnp.cumsum(z, 0)),
}


@pytest.mark.parametrize("after", UNSEEN)
def test_a_pre_activation_is_never_put_in_the_place_of_an_activation(after):
    with pytest.warns(na.ActivityWarning, match="no activations for a: "):
        assert seen(UNSEEN[after]) is None


def test_dead_neurons_of_a_sum_of_layers_score_zero():
    class Sum(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.relu(nn.Dense(8, name="a")(x)) + nn.relu(nn.Dense(8, name="b")(x)))

    params = jax.tree.map(jnp.array, Sum().init(KEY, X))
    params["params"]["a"]["bias"] = params["params"]["a"]["bias"].at[:3].set(-100.0)
    apply = lambda params: Sum().apply(params, X)  # noqa: E731
    layout = layout_of(params, apply)
    assert layout["params/a"].status == "shared"
    score = na.tau_dormant(activations(params, apply, layout=layout), layout)["params/a"]
    assert np.flatnonzero(score == 0)[:3].tolist() == [0, 1, 2]


class Recurrent(nn.Module):
    """A layer in front of a scanned recurrent core, and one behind it."""

    @nn.compact
    def __call__(self, x):
        hidden = nn.relu(nn.Dense(6, name="before")(x))
        hidden = nn.RNN(nn.GRUCell(4), name="core")(hidden)
        return nn.Dense(2, name="out")(nn.relu(nn.Dense(5, name="behind")(hidden)))


@pytest.mark.slow
def test_a_layer_in_front_of_a_scanned_core_is_seen():
    x = jax.random.normal(KEY, (2, 7, 3))
    params = Recurrent().init(KEY, x)
    apply = lambda params: Recurrent().apply(params, x)  # noqa: E731
    layout = layout_of(params, apply)
    found = jax.jit(lambda params: activations(params, apply, layout=layout))(params)
    before = params["params"]["before"]
    expected = nn.relu(x @ before["kernel"] + before["bias"])
    first = layout["params/before"].outgoing
    assert first
    assert {view.param.split("/")[1] for view in first} == {"GRUCell_0"}
    np.testing.assert_allclose(np.sort(found["params/before"], 0), np.sort(expected.reshape(-1, 6), 0), rtol=1e-5)
    assert all(output is not None for output in found.values())


def test_layers_that_are_scanned_are_seen_copy_by_copy():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x + nn.Dense(3, name="down")(nn.relu(nn.Dense(8, name="up")(x))), None

    stack = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)()
    params = stack.init(KEY, X, None)
    apply = lambda params: stack.apply(params, X, None)[0]  # noqa: E731
    layout = na.Layout(
        [
            na.dense(
                "up",
                weight=("params/up/kernel", "stack in neuron"),
                bias="params/up/bias",
                outgoing=[("params/down/kernel", "stack neuron out")],
            ),
            na.dense("down", weight=("params/down/kernel", "stack in neuron"), bias="params/down/bias"),
        ]
    )
    found = jax.jit(lambda params: activations(params, apply, layout=na.Layout([layout["up"]])))(params)["up"]
    stream, up, down = X, params["params"]["up"], params["params"]["down"]
    for copy in range(2):
        hidden = nn.relu(stream @ up["kernel"][copy] + up["bias"][copy])
        np.testing.assert_allclose(found[copy], hidden, rtol=1e-5, atol=1e-6)
        stream = stream + hidden @ down["kernel"][copy] + down["bias"][copy]
    with pytest.warns(na.ActivityWarning, match="no activations for down: "):
        assert activations(params, apply, layout=na.Layout([layout["down"]]))["down"] is None
