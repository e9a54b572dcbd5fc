"""Kinds of neurons by two scores: answers known by construction, the definition counted, errors."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity import analysis
from tests.neuroactivity.backends import to_numpy

NAN = math.nan
KINDS = analysis.Kinds._fields


def kinds_of(activation, gradient, backend, **options):
    """By kind the places of its neurons, computed the backend's way."""
    arrays = [{"g": backend.asarray(np.asarray(scores, dtype=float))} for scores in (activation, gradient)]
    found = backend.run(lambda a, g: analysis.kinds(a, g, **options), *arrays)["g"]
    for mask in found:
        assert to_numpy(mask).dtype == bool
        assert tuple(mask.shape) == np.shape(activation)
    return {kind: np.argwhere(to_numpy(mask)).squeeze(-1).tolist() for kind, mask in zip(KINDS, found, strict=True)}


def level(scores, i, count):
    """1 where a score is high, -1 where it is low, 0 otherwise: the definition, counted."""
    if not all(map(math.isfinite, scores)):
        return 0
    high = sum(other > scores[i] for other in scores) < count
    low = sum(other < scores[i] for other in scores) < count
    return high - low


def test_planted_kinds_are_found(backend):
    """A quarter of the eight neurons is two, and the other four are nothing in particular."""
    activation = [0.0, 0.1, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0]
    gradient = [5.0, 0.0, 4.0, 0.01, 1.0, 1.0, 1.0, 1.0]
    found = kinds_of(activation, gradient, backend)
    assert found == {"high_high": [2], "high_low": [3], "low_high": [0], "low_low": [1]}


def test_neurons_of_equal_scores_are_of_one_kind(backend):
    """Four dead neurons where a quarter is two: all four are low, none is preferred by its index."""
    activation = [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0]
    gradient = [3.0, 4.0, 0.0, 2.0, 3.0, 0.0, 1.0, 0.0]
    found = kinds_of(activation, gradient, backend)
    assert found == {"high_high": [], "high_low": [7], "low_high": [0, 1, 4], "low_low": [5]}


def test_a_score_that_is_high_and_low_is_neither():
    """A group of equal scores; and dead neurons so many that fewer than half are above them."""
    stack = {"g": np.array([[0.0] * 4, [1.0] * 4, [0.0, 0.0, 0.0, 4.0]])}
    found = analysis.kinds(stack, stack, fraction=0.5)["g"]
    assert not (found.low_low | found.high_low | found.low_high).any()
    assert np.argwhere(found.high_high).tolist() == [[2, 3]]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_members_of_a_stack_are_ranked_apart_and_one_that_is_not_finite_is_of_no_kind(bad, backend):
    """In either score, and only the member where it is."""
    stack = np.array([[1.0, 2.0, 3.0, 4.0], [40.0, 30.0, 20.0, 10.0], [1.0, bad, 3.0, 4.0]])
    arrays, well = {"g": backend.asarray(stack)}, {"g": backend.asarray(np.stack([stack[0], stack[1], stack[0]]))}
    for pair in ((arrays, well), (well, arrays)):
        found = backend.run(analysis.kinds, *pair)["g"]
        np.testing.assert_array_equal(to_numpy(found.high_high), [[0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
        np.testing.assert_array_equal(to_numpy(found.low_low), [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
        assert not to_numpy(found.high_low).any()
        assert not to_numpy(found.low_high).any()


@pytest.mark.parametrize(
    ("fraction", "neurons", "count"), [(0.29, 100, 29), (0.05, 256, 12), (0, 7, 0), (0.25, 3, 0), (0.5, 4, 2)]
)
def test_the_fraction_counts_as_a_person_does(fraction, neurons, count):
    scores = {"g": np.arange(neurons, dtype=float)}
    found = analysis.kinds(scores, scores, fraction=fraction)["g"]
    assert [found.high_high.sum(), found.low_low.sum()] == [count, count]


def test_groups_of_several_sizes_keep_their_names_and_order():
    """Groups of one shape are computed together; here two of three."""
    values = {"a": [1.0, 2.0, 3.0, 4.0], "b": [1.0, 2.0], "c": [4.0, 3.0, 2.0, 1.0]}
    arrays = {name: np.array(scores) for name, scores in values.items()}
    found = analysis.kinds(arrays, dict(reversed(arrays.items())))
    assert list(found) == ["a", "b", "c"]
    assert [kind.high_high.tolist().index(True) for kind in (found["a"], found["c"])] == [3, 0]
    assert not found["b"].high_high.any()
    assert analysis.kinds({}, {}) == {}


SCORES = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=1, max_dims=2, max_side=9), elements=st.sampled_from([0, 0.1, 1, 2, 3, NAN])
)


@given(SCORES, st.integers(0, 2**32 - 1), st.sampled_from([0, 0.1, 0.25, 1 / 3, 0.5]))
def test_kinds_are_those_of_the_definition(activation, seed, fraction):
    gradient = np.random.default_rng(seed).permuted(activation, axis=-1)
    found = analysis.kinds({"g": activation}, {"g": gradient}, fraction=fraction)["g"]
    count = math.floor(fraction * activation.shape[-1] + 1e-9)
    for place in np.ndindex(activation.shape):
        levels = [level(scores[place[:-1]].tolist(), place[-1], count) for scores in (activation, gradient)]
        expected = [levels == [a, g] for a in (1, -1) for g in (1, -1)]
        assert [bool(mask[place]) for mask in found] == expected


@pytest.mark.parametrize("fraction", [-0.1, 0.51, 25, NAN, "25%", None])
def test_a_fraction_out_of_range_is_an_error(fraction):
    with pytest.raises(ValueError, match=rf"^fraction: expected a number in \[0, 0.5\], got {fraction!r}$"):
        analysis.kinds({}, {}, fraction=fraction)


@pytest.mark.parametrize(
    ("activation", "gradient", "message"),
    [
        ({"a": 3, "b": 3}, {"a": 3}, "group 'b' is missing in gradient_scores; there are a"),
        ({}, {"a": 3}, "group 'a' is missing in activation_scores; there are no groups"),
        (
            {"a": (2, 3)},
            {"a": 6},
            "group 'a', gradient_scores: expected shape (2, 3) as of activation_scores, got (6,)",
        ),
        ({"a": ()}, {"a": 3}, "group 'a', activation_scores: expected shape (neurons,) or (stack, neurons), got ()"),
    ],
)
def test_scores_that_do_not_fit_together_are_an_error(activation, gradient, message):
    zeros = [{name: np.zeros(shape) for name, shape in shapes.items()} for shapes in (activation, gradient)]
    with pytest.raises(na.LayoutError) as caught:
        analysis.kinds(*zeros)
    assert str(caught.value) == message


def test_scores_that_are_no_arrays_are_an_error():
    with pytest.raises(TypeError, match=r"^group 'a', gradient_scores: expected an array .*, got list$"):
        analysis.kinds({"a": np.zeros(2)}, {"a": [0.0, 1.0]})
