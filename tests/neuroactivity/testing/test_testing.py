"""``assert_same_activity``: it passes what differs by rounding or order of axes alone, and finds everything else."""

import re

import numpy as np
import pytest
import torch

import neuroactivity as na
from neuroactivity.testing import assert_same_activity

CHANNELS, PIXELS = 4, 6


def scores(*values, dtype=np.float32):
    return {"scores": {"fc": np.array(values, dtype)}}


FC = na.Layout([na.dense("fc", weight=("fc.weight", "neuron in"))])


def rejects(message, *args, **kwargs):
    with pytest.raises(AssertionError, match=re.escape(message)):
        assert_same_activity(*args, **kwargs)


def test_rounding_is_allowed_and_more_is_found_where_it_is():
    eps = float(np.finfo(np.float32).eps)
    a = scores(0.5, 2.0, 0.5)
    assert_same_activity(a, scores(0.5 + 15 * eps, 2.0 - 30 * eps, 0.5), layouts=FC)
    b = scores(0.5 + 17 * eps, 2.0 - 40 * eps, 0.5)
    rejects("group 'fc': 2 of 3 scores differ, most at neuron 1: 2.0 against 1.9999952", a, b, layouts=FC)
    rejects("20 rounding units apart where 16 are allowed", a, b, layouts=FC)
    assert_same_activity(a, b, layouts=FC, ulps=20)


def test_the_unit_is_that_of_the_coarser_dtype():
    a = scores(0.5, 1.5, dtype=np.float64)
    assert_same_activity(a, scores(0.5 + 1e-6, 1.5), layouts=FC)
    rejects("group 'fc'", a, scores(0.5 + 1e-6, 1.5, dtype=np.float64), layouts=FC)


@pytest.mark.parametrize(("x", "y", "same"), [(np.nan, np.nan, True), (np.nan, 1.0, False), (0.0, np.nan, False)])
def test_not_a_number_equals_itself_alone(x, y, same):
    if same:
        assert_same_activity(scores(x, x), scores(y, y), layouts=FC)
    else:
        rejects("scores differ", scores(x, x), scores(y, y), layouts=FC)


def test_masks_may_differ_within_the_band_around_tau_alone():
    a, b = scores(0.009995, 1.99), scores(0.010005, 1.99)
    assert_same_activity(a, b, layouts=FC, ulps=1000)
    message = "neuron 0 is reset in only one of the two networks, with scores 0.00999"
    rejects(message, a, b, layouts=FC, ulps=1000, tie_band=1e-6)


def test_masks_may_differ_within_the_band_around_the_last_that_is_reset():
    a, b = scores(0.002, 0.002001, 3.9), scores(0.002001, 0.002, 3.9)
    assert_same_activity(a, b, layouts=FC, ulps=1000, max_fraction=0.34)
    rejects("neuron 0 is reset in only one", a, b, layouts=FC, ulps=1000, max_fraction=0.34, tie_band=1e-7)
    far = scores(0.004, 0.002, 3.9)
    rejects("neuron 0 is reset in only one", a, far, layouts=FC, ulps=1e9, max_fraction=0.34)


def test_stack_members_are_told_apart():
    layout = na.Layout([na.dense("fc", weight=("w", "stack in neuron"))])
    a = {"scores": {"fc": np.array([[1.0, 1.0], [0.5, 1.5]])}}
    b = {"scores": {"fc": np.array([[1.0, 1.0], [0.5, 1.6]])}}
    rejects("most at neuron 1 of stack member 1", a, b, layouts=layout)
    a["scores"]["fc"][1], b["scores"]["fc"][1] = (0.009999, 1.99), (0.010001, 1.99)
    assert_same_activity(a, b, layouts=layout, ulps=1e12)


def test_the_copies_of_two_stacks_are_matched_in_any_order_of_axes():
    def layout(*patterns):
        weight, feeds, reads = patterns
        views = [("w", weight)], [], [("q", feeds, {"out": 1})]
        return na.Layout([na.NeuronGroup("h", *views, neurons=5), na.NeuronGroup("q", [("q", reads, {"in": 5})])])

    rng = np.random.default_rng(0)
    weight, feeds = rng.normal(size=(3, 2, 4, 5)), rng.normal(size=(3, 2, 5, 1))
    one = layout("stack stack in neuron", "stack stack neuron out", "stack stack in neuron")
    two = layout("neuron stack in stack", "stack (neuron stack) out", "stack (in stack) neuron")
    a = {"scores": {}, "params": {"w": weight, "q": feeds}}
    b = {"w": weight.transpose(3, 0, 2, 1), "q": feeds.transpose(0, 2, 1, 3).reshape(3, 10, 1).copy()}
    assert_same_activity(a, {"scores": {}, "params": b}, layouts=(one, two))
    b["q"][2, 3] += 0.5
    rejects("group 'q'", a, {"scores": {}, "params": b}, layouts=(one, two))


def channels_first(hw="hw"):
    return na.Layout(
        [
            na.conv("conv", weight=("conv.weight", "neuron in h w"), outgoing=[("fc.weight", f"out (neuron {hw})")]),
            na.dense("fc", weight=("fc.weight", "neuron in"), bias="fc.bias", outgoing=[("out.weight", "out neuron")]),
        ]
    )


def channels_last(index=False):
    view = na.ParamView("Dense_0/kernel", "(hw neuron) out")
    if index:
        view = na.ParamView(
            "Dense_0/kernel", "neuron out", index=[channel for _ in range(PIXELS) for channel in range(CHANNELS)]
        )
    return na.Layout(
        [
            na.conv("Conv_0", weight=("Conv_0/kernel", "h w in neuron"), outgoing=[view]),
            na.dense(
                "Dense_0",
                weight=("Dense_0/kernel", "in neuron"),
                bias="Dense_0/bias",
                outgoing=[("Dense_1/kernel", "neuron out")],
            ),
        ]
    )


def conv_pair():
    """One network in the conventions of torch and of Flax."""
    rng = np.random.default_rng(0)
    conv, bias = rng.normal(size=(CHANNELS, 3, 2, 2)), rng.normal(size=5)
    fc, out = rng.normal(size=(5, CHANNELS, PIXELS)), rng.normal(size=(2, 5))
    first = {"conv.weight": conv, "fc.weight": fc.reshape(5, -1), "fc.bias": bias, "out.weight": out}
    last = {
        "Conv_0/kernel": conv.transpose(2, 3, 1, 0).copy(),
        "Dense_0/kernel": fc.transpose(2, 1, 0).reshape(-1, 5),
        "Dense_0/bias": bias.copy(),
        "Dense_1/kernel": out.T.copy(),
    }
    return first, last


@pytest.mark.parametrize("index", [False, True])
def test_axes_and_flattened_inputs_are_brought_into_one_order(index):
    first, last = conv_pair()
    layouts = channels_first(), channels_last(index)
    a = {"scores": na.grama(first, layouts[0]), "params": first}
    b = {"scores": na.grama(last, layouts[1]), "params": last}
    assert_same_activity(a, b, layouts=layouts)
    assert_same_activity(b, a, layouts=layouts[::-1])


@pytest.mark.parametrize("param", ["Conv_0/kernel", "Dense_0/kernel", "Dense_0/bias", "Dense_1/kernel"])
def test_one_entry_that_differs_is_found_in_any_parameter(param):
    first, last = conv_pair()
    layouts = channels_first(), channels_last()
    a = {"scores": na.grama(first, layouts[0]), "params": first}
    b = {"scores": na.grama(last, layouts[1]), "params": last}
    flat = last[param].reshape(-1)
    flat[-1] += 1e-9
    rejects(f"(in b {param!r})", a, b, layouts=layouts)


def test_swapped_pixels_are_found():
    first, last = conv_pair()
    layouts = channels_first(), channels_last()
    a = {"scores": na.grama(first, layouts[0]), "params": first}
    last["Dense_0/kernel"] = last["Dense_0/kernel"].reshape(PIXELS, CHANNELS, 5)[::-1].reshape(-1, 5)
    b = {"scores": na.grama(last, layouts[1]), "params": last}
    rejects("incoming parameter 'fc.weight' (in b 'Dense_0/kernel')", a, b, layouts=layouts)


def test_axes_of_other_names_are_matched_in_their_order():
    split = na.Layout([na.dense("qkv", weight=("w", "neuron in", {}))])
    opened = na.Layout([na.dense("qkv", weight=("w", "neuron head dim"))])
    values = np.arange(24.0).reshape(2, 12)
    a = {"scores": {}, "params": {"w": values}}
    assert_same_activity(a, {"scores": {}, "params": {"w": values.reshape(2, 3, 4)}}, layouts=(split, opened))
    other = {"scores": {}, "params": {"w": np.zeros((2, 3, 3))}}
    rejects(
        "axes {'neuron': 2, 'in': 12} against {'neuron': 2, 'head': 3, 'dim': 3}", a, other, layouts=(split, opened)
    )


def test_a_fused_projection_equals_separate_ones():
    rng = np.random.default_rng(1)
    fused = rng.normal(size=(12, 5))
    parts = {name: fused[4 * i : 4 * i + 4] for i, name in enumerate("qkv")}
    index = [[i - 4 * part if 0 <= i - 4 * part < 4 else -1 for i in range(12)] for part in range(3)]
    one = na.Layout([na.NeuronGroup(n, [na.ParamView("in", "neuron in", index=index[i])]) for i, n in enumerate("qkv")])
    three = na.Layout([na.dense(name, weight=(name, "neuron in")) for name in "qkv"])
    b = {"scores": {}, "params": parts}
    assert_same_activity({"scores": {}, "params": {"in": fused}}, b, layouts=(one, three))
    rejects("group 'q'", {"scores": {}, "params": {"in": fused[::-1].copy()}}, b, layouts=(one, three))


def attention(out):
    """Values and output projection of attention, as Flax holds them and as PyTorch does, with heads of two channels."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(5, 3, 2)), rng.normal(size=(3, 2))
    flax = {"v/kernel": kernel, "v/bias": bias, "o/kernel": out.reshape(3, 2, 4)}
    torch_ = {"v.weight": kernel.reshape(5, 6).T, "v.bias": bias.reshape(6), "o.weight": out.T}
    return {"scores": {}, "params": flax}, {"scores": {}, "params": torch_}


ATTENTION = (
    na.Layout(
        [
            na.dense(
                "v",
                weight=("v/kernel", "in neuron neuron"),
                bias="v/bias",
                outgoing=[("o/kernel", "neuron neuron out")],
            ),
            na.dense("o", weight=("o/kernel", "head in neuron")),
        ]
    ),
    na.Layout(
        [
            na.dense("v", weight=("v.weight", "neuron in"), bias="v.bias", outgoing=[("o.weight", "out neuron")]),
            na.dense("o", weight=("o.weight", "neuron in")),
        ]
    ),
)


@pytest.mark.parametrize("change", [None, 0, 3, 5])
def test_axes_that_count_neurons_together_equal_one(change):
    out = np.random.default_rng(1).normal(size=(6, 4))
    flax, _ = attention(out)
    if change is not None:
        out = out.copy()
        out[change, 2] += 1
    _, other = attention(out)
    assert_same_activity(flax, flax, layouts=ATTENTION[0])
    if change is None:
        assert_same_activity(flax, other, layouts=ATTENTION)
    else:
        rejects("group 'o', incoming parameter 'o/kernel'", flax, other, layouts=ATTENTION)


def test_axes_that_are_read_variously_are_not_compared():
    layout = na.Layout([ATTENTION[0]["v"], na.dense("o", weight=("o/kernel", "stack in neuron"))])
    with pytest.raises(na.LayoutError, match="'o/kernel': cannot be compared, its axes are read variously"):
        assert_same_activity(*[attention(np.ones((6, 4)))[0]] * 2, layouts=layout)


def test_neurons_whose_masks_differ_within_the_band_are_spared_with_their_readers():
    layout = na.Layout(
        [
            na.dense("a", weight=("a", "neuron in"), bias="a.bias", outgoing=[("b", "out neuron")]),
            na.dense("b", weight=("b", "neuron in")),
        ]
    )
    rng = np.random.default_rng(2)
    params = {"a": rng.normal(size=(3, 2)), "a.bias": rng.normal(size=3), "b": rng.normal(size=(2, 3))}
    one = {"a": np.array([0.009999, 1.49, 1.5]), "b": np.array([1.0, 1.0])}
    two = {"a": np.array([0.010001, 1.49, 1.5]), "b": np.array([1.0, 1.0])}
    fresh = {name: np.full_like(value, 9.0) for name, value in params.items()}
    a = {"scores": one, "params": na.reset(params, fresh, na.reset_masks(one), layout)}
    b = {"scores": two, "params": na.reset(params, fresh, na.reset_masks(two), layout)}
    assert not np.array_equal(a["params"]["b"], b["params"]["b"])
    assert_same_activity(a, b, layouts=layout, ulps=1e12)
    b["params"]["b"][1, 2] += 0.5
    rejects("group 'b'", a, b, layouts=layout, ulps=1e11)


def test_frameworks_may_differ():
    a = scores(0.5, 1.5)
    assert_same_activity(a, {"scores": {"fc": torch.tensor([0.5, 1.5])}}, layouts=FC)
    rejects("neuron 1", a, {"scores": {"fc": torch.tensor([0.5, 1.25])}}, layouts=FC)


def test_groups_that_cannot_be_matched_are_named():
    two = na.Layout([na.dense(name, weight=(name, "neuron in")) for name in ("fc", "more")])
    rejects("1 groups (fc) against 2 (fc, more)", scores(1.0), scores(1.0), layouts=(FC, two))
    rejects("group 'fc': scored in only one", scores(1.0), {"scores": {}}, layouts=FC)
    rejects("scores of shape (1,) against (2,)", scores(1.0), scores(1.0, 1.0), layouts=FC)
    biased = na.Layout([na.dense("fc", weight=("fc.weight", "neuron in"), bias="b")])
    a = {"scores": {}, "params": {"fc.weight": np.ones((2, 2)), "b": np.ones(2)}}
    message = "incoming 'fc.weight' against incoming 'fc.weight', unscored 'b'"
    rejects(message, a, a, layouts=(FC, biased))


@pytest.mark.parametrize(
    ("a", "message"),
    [
        ({}, "a: expected a mapping with 'scores'"),
        ([1], "a: expected a mapping with 'scores' and, if wanted, 'params', got list"),
        ({"scores": {}, "grads": {}}, "a: expected a mapping"),
        ({"scores": {}, "params": {}}, "expected 'params' in both of a and b, or in neither"),
        ({"scores": {"typo": np.ones(2)}}, "a: group 'typo' of the scores is not in its layout (fc)"),
    ],
)
def test_arguments_are_checked(a, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        assert_same_activity(a, scores(1.0), layouts=FC)


def test_a_layout_that_does_not_fit_is_said():
    wrong = {"scores": {}, "params": {"other": np.ones(2)}}
    with pytest.raises(na.LayoutError, match=r"fc\.weight"):
        assert_same_activity(wrong, wrong, layouts=FC)


def test_a_difference_in_a_stack_is_named_by_member_neuron_and_place():
    layout = na.Layout([na.dense("q", weight=("w", "stack in neuron"))])
    a = np.arange(1.0, 31.0, dtype=np.float32).reshape(2, 3, 5)
    b = a.copy()
    b[1, 2, 3] += 1
    sides = [{"scores": {}, "params": {"w": array}} for array in (a, b)]
    rejects(
        "incoming parameter 'w': neuron 3 of stack member 1 at in 2 differs: 29.0 against 30.0", *sides, layouts=layout
    )


@pytest.mark.parametrize(
    "options", [{"layouts": None}, {"layouts": (FC, FC, FC)}, {"ulps": -1}, {"tie_band": float("nan")}]
)
def test_arguments_of_another_form_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        assert_same_activity(scores(1.0), scores(1.0), **{"layouts": FC} | options)
