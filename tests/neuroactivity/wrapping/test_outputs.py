"""Neuron outputs are brought into any form that an activation pattern names, in every array library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity.layout.patterns import parse
from neuroactivity.wrapping import arrange_outputs, join_neurons, read_by_norms, take_neurons
from tests.neuroactivity.backends import to_numpy


@pytest.mark.parametrize(
    ("shape", "pattern", "arranged"),
    [
        ((5, 3), "... neuron", (5, 3)),
        ((5, 3), "batch neuron", (5, 3)),
        ((5, 3), "neuron batch", (3, 5)),
        ((5, 7, 3), "neuron batch", (3, 35)),
        ((5, 7, 3), "batch time neuron", (5, 7, 3)),
        ((35, 3), "batch time neuron", (35, 1, 3)),
        ((5, 3), "a b c neuron", (5, 1, 1, 3)),
        ((5, 7, 3), "batch neuron ...", (5, 3, 7)),
        ((5, 3), "batch neuron ...", (5, 3)),
        ((5, 4, 6, 3), "batch neuron ...", (5, 3, 4, 6)),
        ((5, 4, 6, 3), "batch neuron h w", (5, 3, 4, 6)),
        ((5, 4, 6, 3), "... neuron", (5, 4, 6, 3)),
        ((5, 2, 3), "... (neuron dim)", (5, 6)),
        ((5, 3), "... (neuron dim)", (5, 3)),
        ((5, 7, 2, 3), "... neuron dim", (5, 7, 3, 2)),
        ((5, 3), "... neuron dim", (5, 3, 1)),
        ((5, 7, 2, 3), "(batch time) (dim neuron)", (35, 6)),
        ((4, 5, 3), "stack ... neuron", (4, 5, 3)),
        ((4, 5, 3), "neuron stack batch", (3, 4, 5)),
        ((4, 2, 5, 3), "stack stack batch neuron", (4, 2, 5, 3)),
    ],
)
def test_shapes(shape, pattern, arranged):
    assert arrange_outputs(np.zeros(shape), parse(pattern)).shape == arranged


def test_neurons_of_several_axes_are_laid_out_again():
    values = np.arange(2 * 12).reshape(2, 12)
    arranged = arrange_outputs(values, parse("... neuron neuron"), neurons=(3, 4))
    np.testing.assert_array_equal(arranged, values.reshape(2, 3, 4))


def test_a_pattern_without_an_axis_for_the_samples_is_an_error():
    with pytest.raises(na.LayoutError, match=r"^expected an axis for the samples in the activation pattern$"):
        arrange_outputs(np.zeros((5, 3)), parse("neuron"))
    assert arrange_outputs(np.zeros((1, 3)), parse("neuron")).shape == (3,)


PATTERNS = [
    "... neuron",
    "neuron ...",
    "batch neuron",
    "neuron batch",
    "batch neuron ...",
    "a neuron b",
    "a b c neuron",
    "... (neuron dim)",
    "(dim neuron) ...",
    "... neuron dim",
    "a ... neuron b",
]


@given(st.sampled_from(PATTERNS), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(2, 5), st.data())
def test_the_scores_are_those_of_the_outputs_whatever_the_pattern(pattern, others, neurons, data):
    """Scores average over all other axes, so that any arrangement has those of ``... neuron``."""
    values = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(*others, neurons))

    def scores(activation, outputs):
        group = na.NeuronGroup("g", [("w", "neuron in")], activation=activation, neurons=neurons)
        return na.tau_dormant({"g": outputs}, na.Layout([group]))["g"]

    arranged = arrange_outputs(values, parse(pattern))
    np.testing.assert_allclose(scores(pattern, arranged), scores("... neuron", values), rtol=1e-12)


def test_an_array_of_any_library_is_arranged(backend):
    values = np.arange(60, dtype="float32").reshape(5, 4, 3)
    arranged = arrange_outputs(backend.asarray(values), parse("neuron batch"))
    np.testing.assert_array_equal(to_numpy(arranged), values.transpose(2, 0, 1).reshape(3, 20))


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("out neuron", lambda x: x),
        ("neuron out", lambda x: x),
        ("out (neuron hw)", lambda x: x.reshape(5, 3, 4).transpose(0, 2, 1)),
        ("out (hw neuron)", lambda x: x.reshape(5, 4, 3)),
    ],
)
def test_neurons_are_taken_out_of_the_axis_that_their_reader_reads(pattern, taken):
    width = 12 if "hw" in pattern else 3
    values = np.arange(5 * width).reshape(5, width)
    np.testing.assert_array_equal(take_neurons(values, na.ParamView("w", pattern), 3, 1), taken(values))


def test_neurons_are_taken_by_an_index_in_the_order_of_the_neurons(backend):
    values = np.arange(10, dtype="float32").reshape(2, 5)
    reader = na.ParamView("w", "out neuron", index=(-1, 1, 0, -1, 2))
    taken = take_neurons(backend.asarray(values), reader, 3, 1)
    np.testing.assert_array_equal(to_numpy(taken), values[:, [2, 1, 4]])
    twice = na.ParamView("w", "out neuron", index=(0, 1, 1, 0, -1))
    taken = take_neurons(backend.asarray(values), twice, 2, 1)
    np.testing.assert_array_equal(to_numpy(taken), values[:, [[0, 1], [3, 2]]])


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (na.ParamView("w", "out neuron"), "an axis of 4 features cannot be read as neuron, 3 neurons"),
        (na.ParamView("w", "out (neuron hw)"), "an axis of 4 features cannot be read as neuron x hw, 3 neurons"),
        (na.ParamView("w", "out neuron", index=(0, 1, -1, 0)), "parameter 'w' reads not all neurons equally often"),
        (na.ParamView("w", "out neuron", index=(0, 1, 2, 0)), "parameter 'w' reads not all neurons equally often"),
    ],
)
def test_a_reader_that_was_given_something_else_is_an_error(reader, message):
    with pytest.raises(na.LayoutError) as caught:
        take_neurons(np.zeros((5, 4)), reader, 3, 1)
    assert str(caught.value) == message


def test_axes_behind_the_neurons_stay():
    values = np.arange(5 * 6 * 2 * 7).reshape(5, 6, 2, 7)
    taken = take_neurons(values, na.ParamView("w", "out (neuron hw)"), 3, 1)
    np.testing.assert_array_equal(taken, values.reshape(5, 3, 2, 2, 7).transpose(0, 2, 3, 4, 1))


@pytest.mark.parametrize(("index", "taken"), [((-1, 0, -1), [[1], [4]]), ((0, -1, 0), [[[0], [2]], [[3], [5]]])])
def test_one_neuron_is_taken_by_an_index(index, taken):
    reader = na.ParamView("w", "out neuron", index=index)
    assert take_neurons(np.arange(6).reshape(2, 3), reader, 1, 1).tolist() == taken


def test_an_axis_of_two_unknown_sizes_is_an_error():
    with pytest.raises(na.LayoutError, match=r"^an axis of 12 features cannot be read as neuron x a x b, 3 neurons$"):
        take_neurons(np.zeros((5, 12)), na.ParamView("w", "out (neuron a b)"), 3, 1)
    known = na.ParamView("w", "out (neuron a b)", {"a": 2})
    assert take_neurons(np.zeros((5, 12)), known, 3, 1).shape == (5, 2, 2, 3)


def test_groups_that_norms_read():
    """A norm has vectors alone, and reads a group if the group feeds all that the norm feeds."""
    out, other = ("out", "o neuron"), ("other", "o neuron")

    def read(scale, *feeds):
        norm = na.NeuronGroup("norm", [("g", scale)], outgoing=[out])
        group = na.NeuronGroup("fc", [("w", "neuron in")], outgoing=feeds)
        return read_by_norms(na.Layout([group, norm]))

    assert read("neuron", out) == read("neuron", out, other) == {"fc"}
    assert read("neuron", other) == read("neuron in", out) == set()
    stacked = na.NeuronGroup("norm", [("g", "stack neuron")], outgoing=[("out", "stack o neuron")])
    group = na.NeuronGroup("fc", [("w", "stack neuron in")], outgoing=[("out", "stack o neuron")])
    assert read_by_norms(na.Layout([group, stacked])) == {"fc"}
    matrix = na.NeuronGroup("matrix", [("v", "neuron in"), ("g", "neuron")], outgoing=[out])
    assert read_by_norms(na.Layout([na.NeuronGroup("fc", [("w", "neuron in")], outgoing=[out]), matrix])) == set()


def test_parts_of_other_shapes_with_as_many_samples_are_put_together():
    assert join_neurons([(np.zeros((2, 2, 1)), [0]), (np.ones((4, 1)), [1])], 2).tolist() == [[0.0, 1.0]] * 4
    assert join_neurons([(np.zeros((2, 3, 2, 1)), [0]), (np.zeros((2, 6, 1)), [1])], 2).shape == (12, 2)
    assert join_neurons([(np.zeros((2, 3, 1)), [0]), (np.zeros((2, 4, 1)), [1])], 2, samples_axis=1) is None


def test_calls_of_one_shape_keep_it_and_those_without_samples_are_one_each():
    assert join_neurons([(np.zeros((2, 5, 3)), range(3))] * 2, 3).shape == (4, 5, 3)
    assert join_neurons([(np.arange(3.0), range(3))] * 2, 3).tolist() == [[0.0, 1.0, 2.0]] * 2


def test_neurons_read_in_parts_are_put_together():
    left, right = np.arange(6.0).reshape(3, 2), np.arange(10.0, 16.0).reshape(3, 2)
    joined = join_neurons([(left, [2, 0]), (right, [-1, 1])], 3)
    np.testing.assert_array_equal(joined, np.stack([left[:, 1], right[:, 1], left[:, 0]], axis=1))


def test_whoever_reads_all_neurons_is_preferred_and_a_neuron_is_taken_from_the_first_part():
    whole, part, more = np.ones((3, 3)), np.zeros((3, 2)), np.full((3, 2), 5.0)
    np.testing.assert_array_equal(join_neurons([(part, [0, 1]), (whole, [0, 1, 2])], 3), whole)
    np.testing.assert_array_equal(join_neurons([(part, [0, 1]), (more, [1, 2])], 3), [[0.0, 0.0, 5.0]] * 3)


def test_several_calls_are_more_samples_of_any_size():
    small, large = np.zeros((2, 3)), np.ones((2, 4, 3))
    assert join_neurons([(small, range(3)), (small, range(3))], 3).shape == (4, 3)
    assert join_neurons([(small, range(3)), (large, range(3))], 3).shape == (10, 3)
    stacked = np.zeros((2, 5, 3))
    assert join_neurons([(stacked, range(3))] * 2, 3, samples_axis=1).shape == (2, 10, 3)


def test_samples_of_any_library_are_joined_and_one_call_is_left_as_it_is(backend):
    small, large = backend.asarray(np.zeros((2, 3))), backend.asarray(np.ones((2, 4, 3)))
    assert tuple(join_neurons([(small, range(3)), (large, range(3))], 3).shape) == (10, 3)
    assert tuple(join_neurons([(large[0, 0, ...], range(3))], 3).shape) == (3,)
    assert tuple(join_neurons([(large, range(3))], 3).shape) == (2, 4, 3)


def test_several_positions_of_a_neuron_are_samples_and_uneven_ones_are_not_joined():
    assert join_neurons([(np.zeros((2, 6)), [0, 0, 1, 1, 2, 2])], 3).shape == (2, 2, 3)
    assert join_neurons([(np.zeros((2, 5, 6)), [0, 0, 1, 1, 2, 2])], 3).shape == (2, 5, 2, 3)
    assert join_neurons([(np.zeros((2, 3)), [0, 0, 1])], 2) is None
    assert join_neurons([(np.zeros((2, 2)), [0, 1])], 3) is None
    assert join_neurons([(np.zeros((2, 1)), [0]), (np.zeros((3, 1)), [1])], 2) is None
