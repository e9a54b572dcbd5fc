"""Layouts that are discovered in every library, against the truth written down by hand."""

import copy

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuroactivity as na
from neuroactivity_jax import gradient_function, layout_of, parameters
from tests.adapters.jax.models import (
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
from tests.adapters.jax.truth import TRUTH

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


@pytest.mark.sampled(5)
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
        assert (layout["left"].unscored[0].pattern, layout["left"].activation) == ("neuron k", "batch neuron ...")


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


def attention(params, change):
    """Attention whose heads are changed in between before the output projection reads them."""
    q, k, v = (
        jnp.einsum("bti,ihd->bthd", SEQUENCES, params["attn"][name]["kernel"]) + params["attn"][name]["bias"]
        for name in ("query", "key", "value")
    )
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
    attended = change(jnp.einsum("bhts,bshd->bthd", weights, v))
    out = jnp.einsum("bthd,hdo->bto", attended, params["attn"]["out"]["kernel"]) + params["attn"]["out"]["bias"]
    return jnp.tanh(out) @ params["head"]["kernel"] + params["head"]["bias"]


def attention_parameters(heads_read):
    keys = jax.random.split(KEY, 5)
    part = lambda key: {"kernel": jax.random.normal(key, (3, 2, 4)), "bias": jnp.zeros((2, 4))}  # noqa: E731
    attn = {name: part(key) for name, key in zip(("query", "key", "value"), keys, strict=False)}
    attn["out"] = {"kernel": jax.random.normal(keys[3], (heads_read, 4, 6)), "bias": jnp.zeros(6)}
    return {"attn": attn, "head": {"kernel": jax.random.normal(keys[4], (6, 2)), "bias": jnp.zeros(2)}}


def test_heads_that_are_read_in_another_order_are_found():
    params = attention_parameters(2)
    layout = layout_of(params, lambda params: attention(params, lambda heads: heads[:, :, ::-1]))
    value = layout["attn/value"]
    assert (value.status, [view.pattern for view in value.outgoing]) == ("exclusive", ["neuron neuron out"])
    assert value.outgoing[0].index == (4, 5, 6, 7, 0, 1, 2, 3)
    assert [view.pattern for view in value.incoming + value.unscored] == ["in neuron neuron", "neuron neuron"]
    assert summary(layout)["attn/out"][:2] == ("head in neuron", "exclusive")


def test_what_a_pattern_cannot_say_is_unproved():
    """Every channel is read four times in a row."""
    params = attention_parameters(8)
    layout = layout_of(params, lambda params: attention(params, lambda heads: heads.repeat(4, 3).reshape(4, 3, 8, 4)))
    value = layout["attn/value"]
    assert (value.status, value.resettable, value.outgoing) == ("unproved", False, ())
    assert value.reason == "what it feeds was found, but cannot be written down"
    assert [view.pattern for view in value.incoming + value.unscored] == ["in neuron neuron", "neuron neuron"]


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


def test_parameters_that_apply_does_not_read_are_remarked():
    """A trunk with one of its two heads: what the other reads is not seen, unless it is given."""
    params = {
        name: {"kernel": jax.random.normal(jax.random.key(n), shape), "bias": jnp.full(shape[1], 0.1)}
        for n, (name, shape) in enumerate({"trunk": (5, 8), "actor": (8, 2), "critic": (8, 1)}.items())
    }

    def head(name):
        dense = lambda own, x: x @ own["kernel"] + own["bias"]  # noqa: E731
        return lambda params: dense(params[name], nn.relu(dense(params["trunk"], X)))

    remark = (
        "proved: feeds nothing else in what apply returns; the tree also holds 2 parameters outside it: give readers="
    )
    with pytest.warns(na.ActivityWarning, match="no gradient reaches actor from what the model"):
        assert remark in layout_of(params, head("critic")).describe()
    layout = layout_of(params, head("critic"), readers=[head("actor")])
    assert layout["trunk"].reason == "proved: feeds nothing else"


@pytest.mark.counts(faults=1)
@pytest.mark.filterwarnings("ignore:no gradient reaches")
@pytest.mark.parametrize("chosen", [True, False])
def test_a_trunk_that_chooses_an_action_beside_its_head_is_not_exclusive(chosen):
    """The choice has no gradient, and is an output all the same."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"encoder": (5, 16), "gate": (16, 3), "head": (16, 3)}
    params = {
        name: {"w": jax.random.normal(key, shape)} for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    x = jax.random.normal(keys[0], (8, 5))

    def apply(params):
        hidden = jax.nn.relu(x @ params["encoder"]["w"])
        choice = jnp.argmax(hidden @ params["gate"]["w"], -1)
        key = jax.random.key(0)  # which is no number
        return (hidden @ params["head"]["w"], choice, key) if chosen else (hidden @ params["head"]["w"], key)

    rule = lambda name, value: na.dense(name.split("/")[0], weight=(name, "in neuron"))  # noqa: E731
    layout = layout_of(params, apply, rule=rule)
    assert layout["encoder"].status == ("unproved" if chosen else "exclusive")
