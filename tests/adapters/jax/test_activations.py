"""Neuron outputs of models, which are run operation by operation."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuroactivity as na
from neuroactivity_jax import activations
from tests.adapters.jax.models import KEY, SEQUENCES, EquinoxImages, LinenAttention, LinenImages, equinox, linen


def test_activations_are_what_the_readers_are_multiplied_with():
    params, apply = linen(LinenImages(), jnp.ones((3, 8, 8, 2)))
    feeds = [("params/Dense_1/kernel", "(hw neuron) out")]
    conv = na.conv("conv", weight=("params/Conv_0/kernel", "h w in neuron"), outgoing=feeds)
    hidden = na.dense(
        "hidden", weight=("params/Dense_1/kernel", "in neuron"), outgoing=[("params/Dense_0/kernel", "neuron out")]
    )
    head = na.dense("head", weight=("params/Dense_0/kernel", "in neuron"), bias="params/Dense_0/bias")
    layout = na.Layout([conv, hidden, head])
    found = jax.jit(lambda params: activations(params, apply, layout=layout))(params)
    kernel, bias = params["params"]["Conv_0"]["kernel"], params["params"]["Conv_0"]["bias"]
    numbers = ("NHWC", "HWIO", "NHWC")
    images = jax.lax.conv_general_dilated(jnp.ones((3, 8, 8, 2)), kernel, (1, 1), "VALID", dimension_numbers=numbers)
    pooled = nn.max_pool(nn.relu(images + bias), (2, 2), (2, 2))
    np.testing.assert_allclose(found["conv"], pooled.reshape(-1, 6), rtol=1e-4, atol=1e-5)
    dense = params["params"]["Dense_1"]
    expected = jnp.tanh(pooled.reshape(3, -1) @ dense["kernel"] + dense["bias"])
    np.testing.assert_allclose(found["hidden"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["head"], apply(params), rtol=1e-4, atol=1e-5)


def test_activations_have_the_form_that_the_layout_names():
    def shapes(params, apply, group):
        layout = na.Layout([group])
        found = jax.eval_shape(lambda params: activations(params, apply, layout=layout), params)
        scores = jax.eval_shape(lambda found: na.tau_dormant(found, layout), found)
        return found[group.name].shape, scores[group.name].shape

    params, apply = linen(LinenAttention(), SEQUENCES)
    attention = {
        "channels": ("in neuron neuron", "neuron neuron out", "... neuron neuron", ((12, 3, 4), (12,))),
        "heads": ("in neuron dim", "neuron in out", "... neuron dim", ((48, 3, 1), (3,))),
    }
    for own, feeds, activation, expected in attention.values():
        views = [("params/attn/value/kernel", own)], [], [("params/attn/out/kernel", feeds)]
        assert shapes(params, apply, na.NeuronGroup("value", *views, activation=activation)) == expected
    model, apply = equinox(EquinoxImages(KEY), jnp.ones((3, 8, 8, 2)))
    static, dynamic = eqx.partition(model, lambda leaf: not eqx.is_array(leaf))
    conv = na.conv("conv", weight=("conv/weight", "neuron in h w"), outgoing=[("layers/0/weight", "out (neuron hw)")])
    assert shapes(dynamic, lambda dynamic: apply(eqx.combine(static, dynamic)), conv) == ((27, 8), (8,))


def test_activations_of_stacks_concatenations_and_layers_used_twice():
    params = {"a": jnp.ones((2, 3, 4)), "b": jnp.ones((2, 4, 1)), "c": jnp.ones((3, 5)), "d": jnp.ones((7, 5))}
    x = jnp.arange(6.0).reshape(2, 3)

    def apply(params):
        hidden = jnp.einsum("bi,sin->sbn", x, params["a"])
        first = x @ params["c"]
        joined = jnp.concatenate([jnp.ones((2, 2)), first], axis=-1)
        return jnp.einsum("sbn,sno->sbo", hidden, params["b"]), joined @ params["d"], 2 * joined @ params["d"]

    index = (-1, -1, *range(5))
    layout = na.Layout(
        [
            na.dense("a", weight=("a", "stack in neuron"), outgoing=[("b", "stack neuron out")]),
            na.dense("c", weight=("c", "in neuron"), outgoing=[na.ParamView("d", "neuron out", index=index)]),
        ]
    )
    found = activations(params, apply, layout=layout)
    np.testing.assert_allclose(found["a"], jnp.einsum("bi,sin->sbn", x, params["a"]))
    first = x @ params["c"]
    np.testing.assert_allclose(found["c"], jnp.concatenate([first, 2 * first]))


def test_neurons_that_no_parameter_reads_are_seen_where_they_are_made():
    params = {"a": jnp.ones((3, 4)), "b": jnp.arange(4.0), "c": jnp.ones((3, 1)), "s": jnp.arange(1.0, 5.0)}
    x = jnp.arange(6.0).reshape(2, 3)

    def apply(params):
        stream = jnp.tanh(x @ params["a"] + params["b"]) + x @ params["c"]
        return jax.nn.standardize(stream) * params["s"]

    groups = [na.dense("a", weight=("a", "in neuron"), bias="b"), na.dense("c", weight=("c", "in neuron"))]
    layout = na.Layout([*groups, na.norm("s", scale="s")])
    found = jax.jit(lambda params: activations(params, apply, layout=layout))(params)
    np.testing.assert_allclose(found["a"], jnp.tanh(x @ params["a"] + params["b"]), rtol=1e-6)
    np.testing.assert_allclose(found["c"], x @ params["c"])
    np.testing.assert_allclose(found["s"], apply(params), rtol=1e-3)
    two_steps = lambda params: jnp.square(x @ params["a"]) * (jax.lax.rsqrt(x.sum()) * params["s"])  # noqa: E731
    found = activations(params, two_steps, layout=na.Layout([layout["s"]]))
    np.testing.assert_allclose(found["s"], two_steps(params), rtol=1e-5)


def test_what_is_not_seen_is_not_guessed():
    """A reader in a branch, a layer of two weights, a scale that something is added to: none, never others'."""
    x = jnp.arange(6.0).reshape(2, 3)
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones(4), "r": jnp.ones((4, 4)), "s": jnp.ones(4), "o": jnp.ones((3, 4))}

    def apply(params):
        hidden = jax.nn.relu(x @ params["a"] + params["b"])
        read = jax.lax.cond(hidden.sum() > 0, lambda: hidden @ params["r"], lambda: hidden)
        return jax.nn.standardize(read) * (1 + params["s"]) + x @ params["o"]

    groups = [
        na.dense("a", weight=("a", "in neuron"), bias="b", outgoing=[("r", "neuron out")]),
        na.NeuronGroup("two", [("o", "in neuron"), ("r", "other neuron")]),
        na.norm("s", scale="s"),
    ]
    for group in groups:
        with pytest.warns(na.ActivityWarning, match=f"no activations for {group.name}: "):
            assert activations(params, apply, layout=na.Layout([group])) == {group.name: None}


def test_heads_of_mapped_critics_are_seen():
    params = {"w": jnp.arange(8.0).reshape(2, 4, 1), "b": jnp.arange(2.0).reshape(2, 1)}
    x = jnp.ones((5, 4))
    apply = lambda params: jax.vmap(lambda own: x @ own["w"] + own["b"])(params)  # noqa: E731
    layout = na.Layout([na.dense("out", weight=("w", "stack in neuron"), bias="b")])
    np.testing.assert_allclose(activations(params, apply, layout=layout)["out"], apply(params))


def test_outputs_need_the_axes_of_the_layer():
    group = na.NeuronGroup("a", [("a", "in neuron")], [], [("b", "neuron out")], activation="... neuron neuron")
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
    with pytest.raises(na.LayoutError, match=r"group 'a', .* expected 1 axes called 'neuron', as in 'a'"):
        activations(params, lambda params: jnp.ones((2, 3)) @ params["a"] @ params["b"], layout=na.Layout([group]))


def test_weights_are_followed_through_casts_transposes_and_inner_functions():
    params = {"a": jnp.ones((3, 4)), "b": jnp.arange(8.0).reshape(2, 4)}
    group = na.dense("a", weight=("a", "in neuron"), outgoing=[("b", "out neuron")])
    x = jnp.arange(6.0).reshape(2, 3)

    @jax.checkpoint
    def reader(weight, hidden):
        return jax.jit(lambda weight: hidden @ weight.T.astype(jnp.bfloat16))(jax.lax.stop_gradient(weight))

    for apply in (
        lambda params: reader(params["b"], (x @ params["a"]).astype(jnp.bfloat16)),
        lambda params: jax.vmap(lambda row: params["b"] @ (row @ params["a"]))(x),
        lambda params: jnp.einsum("on,bn->ob", params["b"], x @ params["a"]),
    ):
        found = activations(params, apply, layout=na.Layout([group]))["a"]
        np.testing.assert_allclose(found.astype(jnp.float32), x @ params["a"])


@pytest.mark.parametrize(
    ("pattern", "order", "shape"),
    [
        ("... neuron", "bn", (5, 4)),
        ("batch neuron ...", "bn", (5, 4)),
        ("neuron batch", "nb", (4, 5)),
        ("... (neuron dim)", "bn", (5, 4)),
        ("batch time neuron", "bn", (5, 1, 4)),
        ("neuron batch time", "nb", (4, 5, 1)),
    ],
)
def test_outputs_have_the_axes_that_the_pattern_names(pattern, order, shape):
    params, x = {"a": jnp.ones((3, 4)) * jnp.arange(4), "b": jnp.ones((4, 2))}, jnp.arange(15.0).reshape(5, 3)
    group = na.NeuronGroup("a", [("a", "in neuron")], [], [("b", "neuron out")], activation=pattern, neurons=4)
    layout = na.Layout([group])
    found = activations(params, lambda params: jnp.tanh(x @ params["a"]) @ params["b"], layout=layout)
    expected = jnp.tanh(x @ params["a"])
    np.testing.assert_allclose(found["a"], jnp.einsum(f"bn->{order}", expected).reshape(shape), rtol=1e-6)
    score = na.tau_dormant(found, layout)["a"]
    np.testing.assert_allclose(score, expected.mean(0) / expected.mean(), rtol=1e-5)


def test_outputs_of_a_stack_have_the_axes_that_the_pattern_names():
    params, x = {"a": jnp.arange(24.0).reshape(2, 3, 4), "b": jnp.ones((2, 4, 1))}, jnp.arange(15.0).reshape(5, 3)
    hidden = lambda params: jnp.einsum("bi,sin->sbn", x, params["a"])  # noqa: E731
    for pattern, order in (("neuron batch stack", "nbs"), ("batch stack neuron", "bsn"), ("stack ... neuron", "sbn")):
        views = [("a", "stack in neuron")], [], [("b", "stack neuron out")]
        layout = na.Layout([na.NeuronGroup("a", *views, activation=pattern)])
        found = activations(params, lambda params: jnp.matmul(hidden(params), params["b"]), layout=layout)
        np.testing.assert_allclose(found["a"], jnp.einsum(f"sbn->{order}", hidden(params)))


def test_a_pattern_without_samples_is_refused():
    group = na.NeuronGroup("a", [("a", "in neuron")], [], [("b", "neuron out")], activation="neuron")
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
    with pytest.raises(na.LayoutError, match="group 'a', activation 'neuron': expected an axis for the samples in the"):
        activations(params, lambda params: jnp.ones((2, 3)) @ params["a"] @ params["b"], layout=na.Layout([group]))


def test_readers_that_do_not_read_all_neurons_equally_often_are_passed_over():
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2)), "c": jnp.ones((4, 2))}
    x = jnp.arange(6.0).reshape(2, 3)
    apply = lambda params: jnp.tanh(x @ params["a"]) @ params["b"] + (x @ params["a"]) @ params["c"]  # noqa: E731
    partial = na.ParamView("b", "neuron out", index=(0, 1, 2, -1))
    whole, parts = [
        na.Layout([na.NeuronGroup("a", [("a", "in neuron")], [], views)])
        for views in ([partial, ("c", "neuron out")], [partial])
    ]
    np.testing.assert_allclose(activations(params, apply, layout=whole)["a"], x @ params["a"])
    with pytest.warns(na.ActivityWarning, match="no activations for a: "):
        assert activations(params, apply, layout=parts)["a"] is None


def test_a_reader_that_does_not_fit_is_named_with_its_group():
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
    views = [("a", "in neuron")], [], [("b", "(neuron hw) out", {"hw": 3})]
    layout = na.Layout([na.NeuronGroup("a", *views)])
    with pytest.raises(na.LayoutError, match=r"group 'a', activation '\.\.\. neuron': an axis of "):
        activations(params, lambda params: jnp.ones((2, 3)) @ params["a"] @ params["b"], layout=layout)


@pytest.mark.counts(faults=1)
def test_a_weight_that_reads_two_trunks_does_not_mix_them_up():
    params = {name: {"w": jax.random.normal(key, (5, 16)), "b": jnp.zeros(16)} for name, key in
              zip("ab", jax.random.split(KEY), strict=True)}  # fmt: skip
    params = {**params, "h": {"w": jnp.ones((16, 2))}}
    params["a"]["b"] = params["a"]["b"].at[3].set(-100.0)
    x = jax.random.normal(KEY, (7, 5))

    def made(params, name):
        return jax.nn.relu(x @ params[name]["w"] + params[name]["b"])

    out = [("h/w", "neuron out")]
    layout = na.Layout([na.dense(name, weight=(f"{name}/w", "in neuron"), outgoing=out) for name in "ab"])
    seen = activations(params, lambda p: made(p, "a") @ p["h"]["w"] + made(p, "b") @ p["h"]["w"], layout=layout)
    for name in "ab":
        np.testing.assert_allclose(seen[name], made(params, name), rtol=1e-6)
    scores = na.tau_dormant(seen, layout)
    assert scores["a"][3] == 0 < scores["b"][3]
