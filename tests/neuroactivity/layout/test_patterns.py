"""The notation: what parses to what, what is refused and how, and any pattern against the reference."""

import numpy as np
import pytest
from hypothesis import given

import neuroactivity as na
from neuroactivity.layout.patterns import NeuronIndex, bind, parse
from tests import reference
from tests.neuroactivity.strategies import arrays, groups, seeds


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("neuron", (("neuron",),)),
        ("neuron in h w", (("neuron",), ("in",), ("h",), ("w",))),
        ("out (neuron hw)", (("out",), ("neuron", "hw"))),
        ("(qkv neuron dim) in", (("qkv", "neuron", "dim"), ("in",))),
        ("  stack   in\tneuron ", (("stack",), ("in",), ("neuron",))),
        ("(neuron)(in)", (("neuron",), ("in",))),
        ("stack stack in neuron", (("stack",), ("stack",), ("in",), ("neuron",))),
        ("in neuron neuron", (("in",), ("neuron",), ("neuron",))),
        ("(stack in) neuron stack", (("stack", "in"), ("neuron",), ("stack",))),
        ("...neuron", (("...",), ("neuron",))),
        ("batch neuron ...", (("batch",), ("neuron",), ("...",))),
        ("a_1 neuron Été", (("a_1",), ("neuron",), ("Été",))),
    ],
)
def test_a_pattern_parses_to_axes_of_names(text, axes):
    assert parse(text).axes == axes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an axis called 'neuron', found none"),
        ("out in", "expected an axis called 'neuron', found none"),
        ("...", "expected an axis called 'neuron', found none"),
        ("Neuron in", "expected an axis called 'neuron', found 'Neuron'; did you mean 'neuron'?"),
        ("neurons in", "expected an axis called 'neuron', found 'neurons'; did you mean 'neuron'?"),
        ("neuron, in", "unexpected 'neuron,' in a pattern; separate names with spaces"),
        ("in,neuron", "unexpected 'in,neuron' in a pattern; separate names with spaces"),
        ("neuron , in", "unexpected ',' in a pattern; separate names with spaces"),
        ("neuron in neuron", "expected several axes called 'neuron' next to each other, without parentheses"),
        ("neuron (neuron in)", "expected several axes called 'neuron' next to each other, without parentheses"),
        ("(neuron neuron)", "expected several axes called 'neuron' next to each other, without parentheses"),
        ("neuron in (in h)", "expected each name once, got 'in' more than once"),
        ("b a neuron a b", "expected each name once, got 'a', 'b' more than once"),
        ("... neuron ...", "expected each name once, got '...' more than once"),
        ("(stack stack) neuron", "expected 'stack' once in a pair of parentheses, got it more than once"),
        ("(neuron in", "expected ')', the pattern ended"),
        ("neuron in)", "unexpected ')' in a pattern"),
        ("()neuron", "unexpected ')' in a pattern"),
        ("((neuron in) h)", "unexpected '(' in a pattern"),
        ("(neuron ...)", "unexpected '...' in a pattern"),
        ("neuron 3", "unexpected '3' in a pattern"),
        ("neuron .. in", "unexpected '..' in a pattern"),
        ("neuron -> in", "unexpected '->' in a pattern"),
    ],
)
def test_a_pattern_that_makes_no_sense_is_an_error(text, message):
    with pytest.raises(na.LayoutError) as caught:
        parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "shape", "known", "names", "sizes"),
    [
        ("neuron in", (4, 3), {}, ("neuron", "in"), (4, 3)),
        ("out (neuron hw)", (5, 12), {"neuron": 4}, ("out", "neuron", "hw"), (5, 4, 3)),
        ("(gate neuron) in", (12, 2), {"gate": 4}, ("gate", "neuron", "in"), (4, 3, 2)),
        ("(a neuron b)", (24,), {"a": 2, "b": 4}, ("a", "neuron", "b"), (2, 3, 4)),
        ("... neuron", (4,), {}, ("neuron",), (4,)),
        ("... neuron", (2, 3, 4), {}, ("...", "...", "neuron"), (2, 3, 4)),
        ("batch neuron ...", (2, 3, 4, 5), {}, ("batch", "neuron", "...", "..."), (2, 3, 4, 5)),
        ("neuron in", (4, 3), {"neuron": 4, "h": 9}, ("neuron", "in"), (4, 3)),
        ("neuron in", (0, 3), {"neuron": 0}, ("neuron", "in"), (0, 3)),
        ("(neuron dim)", (0,), {"dim": 2}, ("neuron", "dim"), (0, 2)),
        ("stack stack in neuron", (3, 2, 5, 4), {}, ("stack", "stack", "in", "neuron"), (3, 2, 5, 4)),
        ("in neuron neuron", (5, 2, 3), {}, ("in", "neuron"), (5, 6)),
        ("... neuron neuron out", (7, 2, 3, 4), {"neuron": 6}, ("...", "neuron", "out"), (7, 6, 4)),
        ("(stack in) (neuron stack)", (6, 8), {"in": 2, "neuron": 4}, ("stack", "in", "neuron", "stack"), (3, 2, 4, 2)),
    ],
)
def test_a_pattern_fits_a_shape(text, shape, known, names, sizes):
    bound = bind(parse(text), shape, known)
    assert (bound.names, bound.sizes) == (names, sizes)


@pytest.mark.parametrize(
    ("text", "shape", "known", "message"),
    [
        ("neuron in", (4,), {}, "expected 2 axes, got shape (4,)"),
        ("neuron in", (4, 3, 2), {}, "expected 2 axes, got shape (4, 3, 2)"),
        ("neuron", (), {}, "expected 1 axes, got shape ()"),
        ("batch ... neuron", (4,), {}, "expected at least 2 axes, got shape (4,)"),
        ("neuron in", (4, 3), {"neuron": 5}, "axis 'neuron' of size 4 does not fit neuron=5"),
        ("out (neuron hw)", (5, 12), {"neuron": 5}, "axis 'neuron hw' of size 12 does not fit neuron=5"),
        ("(a neuron)", (12,), {"a": 3, "neuron": 3}, "axis 'a neuron' of size 12 does not fit a=3, neuron=3"),
        ("(a neuron)", (4,), {"a": 0}, "axis 'a neuron' of size 4 does not fit a=0"),
        ("in neuron neuron", (5, 2, 3), {"neuron": 5}, "axes of sizes 2 x 3 do not fit neuron=5"),
        ("(neuron hw)", (12,), {}, "the sizes of 'neuron' and 'hw' cannot both be inferred; give one by name"),
        ("stack (stack in) neuron", (3, 10, 4), {"in": 3}, "axis 'stack in' of size 10 does not fit in=3"),
        ("(a b neuron)", (12,), {"a": 2}, "the sizes of 'b' and 'neuron' cannot both be inferred; give one by name"),
    ],
)
def test_a_shape_that_does_not_fit_is_an_error(text, shape, known, message):
    with pytest.raises(na.LayoutError) as caught:
        bind(parse(text), shape, known)
    assert str(caught.value) == message


def test_sizes_are_plain_numbers_whatever_the_shape_holds():
    """Some libraries' shapes hold their own integers."""
    bound = bind(parse("... (neuron a)"), tuple(np.array([2, 6])), {"a": 3})
    assert bound.sizes == (2, 2, 3)


@pytest.mark.parametrize(("pattern", "order"), [("stack stack neuron", (0, 1, 2)), ("stack neuron stack", (0, 2, 1))])
def test_the_copies_of_several_stacks_are_counted_slowest_first(pattern, order):
    layout = na.Layout([na.NeuronGroup("g", [("w", pattern)])])
    values = np.arange(1.0, 25.0).reshape(3, 2, 4)
    params = {"w": values.transpose(order)}
    scores, rows = na.grama(params, layout)["g"], values.reshape(6, 4)
    np.testing.assert_allclose(scores, rows / rows.mean(axis=1, keepdims=True))
    mask = np.zeros((6, 4), dtype=bool)
    mask[2 * 2 + 1, 3] = True  # the second member of the third seed
    cleared = na.reset_moments(params, {"g": mask}, layout)["w"].transpose(np.argsort(order))
    assert np.argwhere(cleared == 0).tolist() == [[2, 1, 3]]


@given(groups(), seeds)
def test_any_pattern_reduces_as_the_reference_does(drawn, seed):
    layout, shapes, _ = drawn
    grads = arrays(shapes, seed)
    scores = na.grama(grads, layout)["g"]
    expected = reference.grama(grads, layout)["g"]
    assert scores.shape == expected.shape
    np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=0)


@given(groups(), seeds)
def test_any_pattern_is_written_as_the_reference_does(drawn, seed):
    layout, shapes, scores = drawn
    params, fresh = arrays(shapes, seed), arrays(shapes, seed + 1)
    masks = {"g": np.random.default_rng(seed).random(scores) < 0.5}
    results = na.reset(params, fresh, masks, layout), na.reset_moments(params, masks, layout)
    expected = reference.reset(params, fresh, masks, layout), reference.reset_moments(params, masks, layout)
    for result, arrays_expected in zip(results, expected, strict=True):
        for name, array in arrays_expected.items():
            np.testing.assert_array_equal(result[name], array, err_msg=name, strict=True)


def test_the_reference_by_hand():
    """The reference reads the notation as a person does: owners of every entry of four small arrays."""

    def owners(pattern, shape, neurons=None, sizes=None, index=None):
        return dict(reference.owned_entries(pattern, shape, sizes or {}, index, neurons))

    assert owners("neuron in", (2, 2)) == {(0, 0): (0,), (0, 1): (0,), (1, 0): (1,), (1, 1): (1,)}
    assert owners("(neuron hw)", (4,), neurons=2) == {(0,): (0,), (1,): (0,), (2,): (1,), (3,): (1,)}
    assert owners("(hw neuron)", (4,), neurons=2) == {(0,): (0,), (1,): (1,), (2,): (0,), (3,): (1,)}
    assert owners("neuron stack", (1, 2)) == {(0, 0): (0, 0), (0, 1): (1, 0)}
    assert owners("stack neuron stack", (2, 1, 2)) == {
        (0, 0, 0): (0, 0), (0, 0, 1): (1, 0), (1, 0, 0): (2, 0), (1, 0, 1): (3, 0)
    }  # fmt: skip
    assert owners("... neuron", (1, 1, 2)) == {(0, 0, 0): (0,), (0, 0, 1): (1,)}
    assert owners("neuron", (3,), index=(1, -1, 0)) == {(0,): (1,), (2,): (0,)}
    assert owners("(gate neuron)", (4,), sizes={"gate": 2}) == {(0,): (0,), (1,): (1,), (2,): (0,), (3,): (1,)}


def test_an_index_lists_the_positions_of_each_neuron():
    index = NeuronIndex.of((0, -1, 2, 0))
    assert index.positions == ((0, 3), (), (2,))
    assert index.counts(5) == (2, 0, 1, 0, 0)
    assert NeuronIndex.of(()).positions == NeuronIndex.of((-1, -1)).positions == ()


def test_neurons_that_own_nothing_in_a_parameter_are_judged_by_the_others():
    views = [("w", "neuron"), na.ParamView("v", "neuron", index=(0,)), na.ParamView("u", "neuron", index=(-1, -1))]
    grads = {"w": np.array([1.0, 2.0, 3.0]), "v": np.array([3.0]), "u": np.array([9.0, 9.0])}
    magnitudes = na.grama(grads, na.Layout([na.NeuronGroup("g", views)]))["g"]
    np.testing.assert_allclose(magnitudes / magnitudes[0], [1.0, 1.0, 1.5])


def test_a_group_that_owns_no_entry_is_silent_and_no_error():
    group = na.NeuronGroup("g", [na.ParamView("u", "neuron", index=(-1, -1))], neurons=2)
    assert na.grama({"u": np.array([9.0, 9.0])}, na.Layout([group]))["g"].tolist() == [0.0, 0.0]
