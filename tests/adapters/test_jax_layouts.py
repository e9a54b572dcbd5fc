"""Layouts that find themselves, in every library; the truth is written down by hand from how each model computes."""

import copy

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuroactivity as na
from jax_models import (
    IMAGES,
    KEY,
    SEQUENCES,
    TOKENS,
    EquinoxGated,
    EquinoxImages,
    EquinoxSequence,
    LinenAttention,
    LinenImages,
    LinenMLP,
    LinenRecurrent,
    LinenResidual,
    LinenTokens,
    LinenTwins,
    NNXModel,
    X,
    equinox,
    equinox_twins,
    haiku,
    haiku_images,
    haiku_sequence,
    linen,
    nnx_state,
)
from neuroactivity_jax import gradient_function, layout_of, parameters

MODELS = {
    "linen images": lambda: linen(LinenImages(), IMAGES),
    "linen residual": lambda: linen(LinenResidual(), X),
    "linen attention": lambda: linen(LinenAttention(), SEQUENCES),
    "linen twins": lambda: linen(LinenTwins(), X),
    "linen tokens": lambda: linen(LinenTokens(), TOKENS),
    "linen lstm": lambda: linen(LinenRecurrent(nn.OptimizedLSTMCell), SEQUENCES),
    "nnx": lambda: nnx_state(NNXModel(), SEQUENCES),
    "equinox images": lambda: equinox(EquinoxImages(KEY), IMAGES),
    "equinox gated": lambda: equinox(EquinoxGated(KEY), SEQUENCES),
    "equinox sequence": lambda: equinox(EquinoxSequence(eqx.nn.GRUCell, KEY), TOKENS),
    "equinox twins": lambda: equinox_twins(X),
    "haiku images": lambda: haiku(haiku_images, IMAGES),
    "haiku lstm": lambda: haiku(haiku_sequence(hk.LSTM), TOKENS),
}

INPUT_GATES = ["params/cell/if/kernel", "params/cell/ig/kernel", "params/cell/ii/kernel", "params/cell/io/kernel"]
PROJECTIONS = [
    "attn/key/kernel[neuron out dim]",
    "attn/query/kernel[neuron out dim]",
    "attn/value/kernel[neuron out dim]",
]

TRUTH = {
    "linen images": {
        "params/Conv_0": ("h w in neuron", "exclusive", ["params/Dense_1/kernel[(hw neuron) out]"]),
        "params/Dense_0": ("in neuron", "head", []),
        "params/Dense_1": ("in neuron", "exclusive", ["params/Dense_0/kernel[neuron out]"]),
    },
    "linen residual": {
        "params/Dense_0": ("in neuron", "through_norm", []),
        "params/Dense_1": ("in neuron", "through_norm", ["params/Dense_2/kernel[neuron out]"]),
        "params/Dense_2": ("in neuron", "through_norm", []),
        "params/Dense_3": ("in neuron", "head", []),
        "params/Dense_4": ("in neuron", "head", []),
        "params/LayerNorm_0": ("neuron", "shared", []),
        "params/LayerNorm_1": ("neuron", "exclusive", ["params/Dense_2/kernel[neuron out]"]),
        "params/LayerNorm_2": ("neuron", "shared", []),
    },
    "linen attention": {
        "params/Dense_0": ("in neuron", "shared", []),
        "params/Dense_1": ("in neuron", "head", []),
        "params/LayerNorm_0": ("neuron", "exclusive", [f"params/{view}" for view in PROJECTIONS]),
        "params/attn/key": ("in stack neuron", "partner", []),
        "params/attn/out": ("head in neuron", "shared", []),
        "params/attn/query": ("in stack neuron", "partner", []),
        "params/attn/value": ("in stack neuron", "exclusive", ["params/attn/out/kernel[stack neuron out]"]),
    },
    "linen twins": {
        "params/critics/Dense_0": ("stack in neuron", "exclusive", ["params/critics/Dense_1/kernel[stack neuron out]"]),
        "params/critics/Dense_1": ("stack in neuron", "exclusive", ["params/critics/Dense_2/kernel[stack neuron out]"]),
        "params/critics/Dense_2": ("stack in neuron", "head", []),
    },
    "linen tokens": {
        "params/BatchNorm_0": ("neuron", "exclusive", ["params/Dense_1/kernel[neuron out]"]),
        "params/Conv_0": ("k in neuron", "exclusive", ["params/Dense_0/kernel[neuron out]"]),
        "params/Dense_0": ("in neuron", "exclusive", ["params/Dense_1/kernel[neuron out]"]),
        "params/Dense_1": ("in neuron", "head", []),
        "params/Embed_0": ("vocabulary neuron", "exclusive", ["params/Conv_0/kernel[k neuron out]"]),
    },
    "linen lstm": {
        "params/Dense_0": ("in neuron", "exclusive", [f"{gate}[neuron out]" for gate in INPUT_GATES]),
        "params/Dense_1": ("in neuron", "head", []),
        "params/cell": (
            ", ".join(["in neuron"] * 4 + ["other neuron"] * 4),
            "exclusive",
            [*(f"params/cell/h{gate}/kernel[neuron other]" for gate in "fgio"), "params/Dense_1/kernel[neuron out]"],
        ),
    },
    "nnx": {
        "attn/key": ("in stack neuron", "partner", []),
        "attn/out": ("head in neuron", "exclusive", ["cell/dense_i/kernel[neuron (gate out)]"]),
        "attn/query": ("in stack neuron", "partner", []),
        "attn/value": ("in stack neuron", "exclusive", ["attn/out/kernel[stack neuron out]"]),
        "cell": (
            "in (gate neuron), other (gate neuron)",
            "exclusive",
            ["cell/dense_h/kernel[neuron (gate other)]", "out/kernel[neuron out]"],
        ),
        "layers/0": ("in neuron", "exclusive", ["layers/1/kernel[neuron out]"]),
        "layers/1": ("in neuron", "through_norm", PROJECTIONS),
        "norm": ("neuron", "exclusive", PROJECTIONS),
        "out": ("in neuron", "head", []),
    },
    "equinox images": {
        "conv": ("neuron in h w", "through_norm", ["layers/0/weight[out (neuron hw)]"]),
        "norm": ("neuron", "exclusive", ["layers/0/weight[out (neuron hw)]"]),
        "layers/0": ("neuron in", "exclusive", ["layers/1/weight[out neuron]"]),
        "layers/1": ("neuron in", "head", []),
    },
    "equinox gated": {
        "left": ("neuron in k", "exclusive", ["out/weight[out (neuron hw)]"]),
        "right": ("neuron in k", "exclusive", ["out/weight[out (neuron hw)]"]),
        "out": ("neuron in", "head", []),
    },
    "equinox sequence": {
        "embedding": (
            "vocabulary neuron",
            "exclusive",
            [f"attn/{part}_proj/weight[out neuron]" for part in ("query", "key", "value")],
        ),
        "attn/query_proj": ("neuron in", "partner", []),
        "attn/key_proj": ("neuron in", "partner", []),
        "attn/value_proj": ("neuron in", "exclusive", ["attn/output_proj/weight[out neuron]"]),
        "attn/output_proj": ("neuron in", "exclusive", ["cell/weight_ih[(gate out) neuron]"]),
        "cell": (
            "(gate neuron) in, (gate neuron) other",
            "exclusive",
            ["cell/weight_hh[(gate other) neuron]", "out/weight[out neuron]"],
        ),
        "out": ("neuron in", "head", []),
    },
    "equinox twins": {
        "layers/0": ("stack neuron in", "exclusive", ["layers/1/weight[stack out neuron]"]),
        "layers/1": ("stack neuron in", "exclusive", ["layers/2/weight[stack out neuron]"]),
        "layers/2": ("stack neuron in", "head", []),
    },
    "haiku images": {
        "batch_norm": ("one1 one2 one3 neuron", "exclusive", ["mlp/~/linear_0/w[(hw neuron) out]"]),
        "conv2_d": ("h w in neuron", "exclusive", ["conv2_d_transpose/w[h w out neuron]"]),
        "conv2_d_transpose": ("h w neuron in", "exclusive", ["mlp/~/linear_0/w[(hw neuron) out]"]),
        "mlp/~/linear_0": ("in neuron", "exclusive", ["mlp/~/linear_1/w[neuron out]"]),
        "mlp/~/linear_1": ("in neuron", "head", []),
    },
    "haiku lstm": {
        "embed": ("vocabulary neuron", "exclusive", ["lstm/linear/w[neuron (gate out)]"]),
        "linear": ("in neuron", "head", []),
        "lstm": (
            "in (gate neuron)",
            "exclusive",
            ["lstm/linear/w[neuron (gate other)]", "linear/w[neuron out]"],
        ),
    },
}


@pytest.fixture(autouse=True)
def unoptimized():
    """Compile sooner: nothing here is about speed."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def summary(layout):
    """Own patterns, status and what is fed, by group."""
    return {
        group.name: (
            ", ".join(view.pattern for view in group.incoming),
            group.status,
            [f"{view.param}[{view.pattern}]" for view in group.outgoing],
        )
        for group in layout.values()
    }


@pytest.mark.parametrize("name", list(MODELS))
def test_what_is_found_is_true(name):
    params, apply = MODELS[name]()
    layout = layout_of(params, apply)
    layout.validate(parameters(params))
    assert summary(layout) == TRUTH[name]
    assert na.Layout.from_dict(layout.to_dict()) == layout
    if name == "haiku lstm":
        assert layout["embed"].outgoing[0].index == (*range(8), *[-1] * 6)
    if name == "equinox gated":
        assert (layout["left"].partners, layout["right"].partners) == (("right",), ("left",))
        assert (layout["left"].restored[0].pattern, layout["left"].activation) == ("neuron k", "batch neuron ...")


def test_whole_heads_are_found():
    params, apply = linen(LinenAttention(), SEQUENCES)
    layout = layout_of(params, apply, attention="heads")
    truth = (", ".join(["in neuron dim"] * 3), "exclusive", ["params/attn/out/kernel[neuron in out]"])
    assert summary(layout)["params/attn"] == truth
    assert layout["params/attn"].count({"params/attn/query/kernel": (8, 3, 4)}) == 3
    layout.validate(parameters(params))


def test_bfloat16_is_probed_as_it_is():
    params, apply = linen(LinenMLP(10), X)
    layout = layout_of(jax.tree.map(lambda value: value.astype(jnp.bfloat16), params), apply)
    assert [group.status for group in layout.values()] == ["exclusive", "exclusive", "head"]


def test_residual_neurons_can_be_passed_over():
    params, apply = linen(LinenResidual(), X)
    layout = layout_of(params, apply, shared="skip")
    assert not layout["params/LayerNorm_0"].resettable
    assert layout["params/LayerNorm_1"].resettable


def test_the_parameters_and_generators_are_left_as_they_were():
    params, apply = linen(LinenMLP(10), X)
    before, state = copy.deepcopy(params), np.random.get_state()[1].tolist()
    layout_of(params, apply)
    jax.tree.map(np.testing.assert_array_equal, params, before)
    assert np.random.get_state()[1].tolist() == state


def test_a_layout_found_can_be_verified_and_a_wrong_one_is_refused():
    params, apply = linen(LinenMLP(10), X)
    params = jax.device_get(params)
    grad_fn, layout = gradient_function(params, apply), layout_of(params, apply)
    na.verify_layout(layout, parameters(params), grad_fn)
    wrong = [("params/Dense_2/kernel", "neuron out")]
    group = na.dense("first", weight=("params/Dense_0/kernel", "in neuron"), bias="params/Dense_0/bias", outgoing=wrong)
    with pytest.raises(na.LayoutError, match="'params/Dense_2/kernel' have gradients while their neurons are silent"):
        na.verify_layout(na.Layout([group]), parameters(params), grad_fn)


def dense(values, x):
    return x @ values["w"] + values["b"]


def two_layers(key=KEY):
    first, second = jax.random.split(key)
    return {
        "first": {"w": jax.random.normal(first, (5, 8)), "b": jnp.zeros(8)},
        "second": {"w": jax.random.normal(second, (8, 3)), "b": jnp.zeros(3)},
    }


def test_outputs_that_add_up_to_nothing_are_seen():
    params = two_layers()

    def apply(params):
        output = dense(params["second"], jnp.tanh(dense(params["first"], X)))
        return output, -output

    assert summary(layout_of(params, apply))["first"] == ("in neuron", "exclusive", ["second/w[neuron out]"])


def test_what_a_pattern_cannot_say_is_unproved():
    """The heads are read in another order than they are made in."""
    keys = jax.random.split(KEY, 5)
    part = lambda key: {"kernel": jax.random.normal(key, (3, 2, 4)), "bias": jnp.zeros((2, 4))}  # noqa: E731
    attn = {name: part(key) for name, key in zip(("query", "key", "value"), keys, strict=False)}
    attn["out"] = {"kernel": jax.random.normal(keys[3], (2, 4, 6)), "bias": jnp.zeros(6)}
    params = {"attn": attn, "head": {"kernel": jax.random.normal(keys[4], (6, 2)), "bias": jnp.zeros(2)}}

    def apply(params, flip):
        q, k, v = (
            jnp.einsum("bti,ihd->bthd", SEQUENCES, params["attn"][name]["kernel"]) + params["attn"][name]["bias"]
            for name in ("query", "key", "value")
        )
        weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
        attended = jnp.einsum("bhts,bshd->bthd", weights, v)[:, :, ::flip]
        out = jnp.einsum("bthd,hdo->bto", attended, params["attn"]["out"]["kernel"]) + params["attn"]["out"]["bias"]
        return jnp.tanh(out) @ params["head"]["kernel"] + params["head"]["bias"]

    layout = layout_of(params, lambda params: apply(params, -1))
    value = layout["attn/value"]
    assert (value.status, value.resettable, value.outgoing) == ("unproved", False, ())
    assert value.reason == "what it feeds was found, but cannot be written down"
    assert [view.pattern for view in value.incoming + value.restored] == ["in stack neuron", "stack neuron"]
    assert summary(layout)["attn/out"] == ("head in neuron", "exclusive", ["head/kernel[neuron out]"])


class Distribution:
    """An output that is no container."""

    def __init__(self, logits):
        self.logits, self.name, self.kind = logits, "categorical", Distribution


def test_outputs_are_found_in_objects():
    params, apply = linen(LinenMLP(10), X)
    layout = layout_of(params, lambda params: {"policy": Distribution(apply(params)), "steps": 3})
    assert summary(layout)["params/Dense_2"][1] == "head"


def test_what_cannot_be_probed_is_said_in_one_line():
    params, apply = linen(LinenMLP(10), X)
    with pytest.raises(na.LayoutError, match="cannot be probed: expected a floating-point output, got"):
        layout_of(params, lambda params: apply(params).argmax(-1))
    with pytest.raises(na.LayoutError, match="found no layer with neurons among theta, x; give rule="):
        layout_of({"x": jnp.ones(3), "theta": jnp.ones((2, 2))}, apply)
    with pytest.raises(na.LayoutError, match="found no layer with neurons among no floating-point arrays"):
        layout_of({}, apply)
    with pytest.raises(ValueError, match="shared: expected 'incoming' or 'skip', got 'both'"):
        layout_of(params, apply, shared="both")
    stopped = lambda params: apply(jax.lax.stop_gradient(params)) + params["params"]["Dense_0"]["bias"].sum()  # noqa: E731
    with pytest.warns(
        na.ActivityWarning, match="no gradient reaches params/Dense_1, params/Dense_2 from what the model"
    ):
        layout_of(params, stopped)
