"""Which neurons a reset takes: the threshold, the limit, and the groups that must be left alone."""

import itertools
import math

import numpy as np
import pytest

import neuroactivity as na
from tests import reference
from tests.neuroactivity.backends import to_numpy


def masks_of(scores, backend, dtype=None, **options):
    """The masks of one group, as nested lists."""
    arrays = {"g": backend.asarray(np.asarray(scores, dtype=float), dtype)}
    mask = backend.run(lambda scores: na.reset_masks(scores, **options), arrays)["g"]
    assert tuple(mask.shape) == np.shape(scores)
    assert to_numpy(mask).dtype == bool
    return to_numpy(mask).tolist()


def chosen(scores, backend, **options):
    """The indices of the neurons to reset."""
    return np.flatnonzero(masks_of(scores, backend, **options)).tolist()


def test_comparison_includes_the_threshold(backend):
    """Edge case, comparison: ``score <= tau``."""
    assert chosen([0.5, 0.25, 0.75, 2.5], backend, tau=0.5) == [0, 1]


@pytest.mark.parametrize("tau", [0.01, 0.02, 0.1, 0.3, 0.7])
def test_comparison_is_made_in_the_dtype_of_the_scores(tau, backend):
    """A score that is tau rounded to its own dtype is at tau in every library, and its neighbour above is not."""
    for dtype in {"float32", "float64"} & set(backend.dtypes):
        at = np.asarray(tau, dtype)
        above = np.nextafter(at, np.asarray(1, dtype))
        assert masks_of([float(at), float(above), 2.0], backend, dtype, tau=tau) == [True, False, False]


def test_tau_zero_takes_exactly_the_zeros(backend):
    """Edge case, comparison: with ``tau=0`` exactly the neurons with zero magnitude."""
    assert chosen([1e-30, 0.0, 3.0, -0.0], backend, tau=0.0) == [1, 3]
    assert chosen([1e-30, 0.0, 3.0, 0.0], backend, tau=0) == [1, 3]


def test_default_tau_is_one_hundredth(backend):
    assert chosen([0.0099, 0.0101, 2.0], backend) == [0]


def test_max_fraction_takes_the_lowest_scores_first(backend):
    scores = [0.3, 0.1, 0.4, 0.2, 4.0]
    taken = [chosen(scores, backend, tau=0.5, max_fraction=k / 5) for k in range(6)]
    assert taken == [[], [1], [1, 3], [0, 1, 3], [0, 1, 2, 3], [0, 1, 2, 3]]


def test_max_fraction_breaks_ties_to_the_lower_index(backend):
    """Fault 6: published top-k codes over-select on ties (wanted 2, got 6)."""
    assert chosen([0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 3.0, 0.0], backend, max_fraction=0.25) == [0, 1]
    assert chosen([0.5, 0.25, 0.5, 0.25, 0.25, 9.0], backend, tau=0.5, max_fraction=2 / 6) == [1, 3]
    assert chosen([0.5, 0.25, 0.5, 0.25, 0.5, 9.0], backend, tau=0.5, max_fraction=3 / 6) == [0, 1, 3]


def test_max_fraction_breaks_many_ties_to_the_lower_index(backend):
    """A sort that is not stable keeps the order of short arrays by luck, not of long ones."""
    scores = np.tile([0.5, 0.25, 4.0], 333)
    expected = [*range(1, 999, 3), *range(0, 999, 3)][:500]
    assert chosen(scores, backend, tau=0.5, max_fraction=500 / 999) == sorted(expected)


def test_max_fraction_does_not_disturb_small_scores(backend):
    """Fault 6: a constant added to break ties overrides scores smaller than itself."""
    assert chosen([3e-12, 2e-12, 1e-12, 4.0], backend, max_fraction=0.25) == [2]


@pytest.mark.sampled(20)
@pytest.mark.parametrize(
    ("fraction", "neurons", "limit"),
    [
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.05, 256, 12),
        (0.1, 9, 0),
        (1 / 3, 3, 1),
        (1.0, 7, 7),
        (0.0, 7, 0),
        (1, 5, 5),
    ],
)
def test_max_fraction_counts_as_a_person_does(fraction, neurons, limit, backend):
    """``floor(f * n + 1e-9)``: 29% of 100 are 29, though 0.29 * 100 is 28.999999999999996."""
    stack = np.zeros((2, neurons))
    stack[:, -1] = 1.0  # an active neuron, so that the group is not silent
    expected = min(limit, neurons - 1)
    assert [sum(member) for member in masks_of(stack, backend, max_fraction=fraction)] == [expected, expected]


def test_max_fraction_of_one_resets_all_that_are_inactive(backend):
    """Fault 6: percentage 100 reset a single neuron; here it is no limit, and still resets no active neuron."""
    scores = [0.0, 0.0, 0.0, 4.0]
    assert chosen(scores, backend, max_fraction=1.0) == chosen(scores, backend) == [0, 1, 2]


def test_limits_are_exact_for_every_percentage_and_width():
    """For every whole percentage and every width the limit is that of integer arithmetic."""
    for percent, neurons in itertools.product(range(101), (1, 3, 7, 64, 100, 255, 256)):
        scores = {"g": np.array([0.0] * (neurons - 1) + [1.0])}
        mask = na.reset_masks(scores, max_fraction=percent / 100)["g"]
        assert mask.sum() == min(percent * neurons // 100, neurons - 1)


def test_the_lowest_are_chosen_whatever_their_scores(backend):
    scores = backend.arrays({"fc": np.array([0.9, 1.1, 0.7, 1.3]), "twins": np.array([[0.5, 1.5], [1.2, 0.8]])})
    masks = na.reset_masks(scores, lowest=0.5)
    assert to_numpy(masks["fc"]).tolist() == [True, False, True, False]
    assert to_numpy(masks["twins"]).tolist() == [[True, False], [False, True]]


def test_the_lowest_are_neither_in_silent_groups_nor_in_groups_that_are_not_finite(backend):
    scores = backend.arrays({"silent": np.zeros(4), "broken": np.full(4, np.nan)})
    assert not any(to_numpy(mask).any() for mask in na.reset_masks(scores, lowest=1.0).values())


def test_a_limit_holds_for_the_lowest_too():
    scores = {"fc": np.array([0.9, 1.1, 0.7, 1.3])}
    assert na.reset_masks(scores, lowest=0.5, max_fraction=0.25)["fc"].tolist() == [False, False, True, False]
    assert not na.reset_masks(scores, lowest=0.5, max_fraction=0)["fc"].any()


def test_silent_group_is_left_alone(backend):
    """Fault 1: an all-zero layer must not reset everything; the cause is usually a dead layer further on."""
    assert chosen([0.0, 0.0, 0.0], backend) == []
    assert chosen([0.0, 0.0, 0.0], backend, max_fraction=0.4) == []


def test_silent_group_is_reset_on_demand(backend):
    assert chosen([0.0, 0.0, 0.0], backend, reset_silent=True) == [0, 1, 2]
    assert chosen([0.0, 0.0, 0.0], backend, reset_silent=True, max_fraction=0.7) == [0, 1]
    assert chosen([0.0, 2.0], backend, reset_silent=True) == [0]


@pytest.mark.sampled(16)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("reset_silent", [False, True])
def test_group_that_is_not_finite_is_left_alone(bad, reset_silent, backend):
    """Fault 1: one NaN emptied a layer's mask, one Inf marked every other neuron; here both mean no reset."""
    assert chosen([0.0, bad, 0.0], backend, reset_silent=reset_silent) == []
    assert chosen([bad, bad], backend, reset_silent=reset_silent, max_fraction=0.5) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_bad_gradient_resets_nothing_from_end_to_end(bad, backend):
    """Fault 1, from the gradient to the mask, and only in the group and the stack member where it is."""
    layout = na.Layout(
        [
            na.dense("sick", weight=("a", "neuron in")),
            na.dense("well", weight=("b", "neuron in")),
            na.dense("half", weight=("c", "stack neuron in")),
        ]
    )
    healthy = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    grads = {"a": healthy.copy(), "b": healthy, "c": np.stack([healthy, healthy])}
    grads["a"][2, 0] = grads["c"][1, 2, 1] = bad
    masks = backend.run(lambda grads: na.reset_masks(na.grama(grads, layout)), backend.arrays(grads))
    masks = {name: to_numpy(mask).tolist() for name, mask in masks.items()}
    assert masks == {
        "sick": [False] * 3,
        "well": [True, False, False],
        "half": [[True, False, False], [False] * 3],
    }


def test_stack_members_are_judged_alone(backend):
    """Threshold, limit, silence and finiteness hold for each member of a stack by itself."""
    stack = [[0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [math.nan, 0.0, 0.0], [0.2, 0.1, 2.7], [1.0, 1.0, 1.0]]
    nothing = [False] * 3
    assert masks_of(stack, backend, tau=0.2) == [[True, True, False], nothing, nothing, [True, True, False], nothing]
    limited = masks_of(stack, backend, tau=0.2, max_fraction=0.4)
    assert limited == [[True, False, False], nothing, nothing, [False, True, False], nothing]
    silent = masks_of(stack, backend, tau=0.2, reset_silent=True)
    assert silent == [[True, True, False], [True] * 3, nothing, [True, True, False], nothing]


def test_empty_groups_and_no_groups(backend):
    assert masks_of(np.zeros((0,)), backend, max_fraction=0.5) == []
    assert masks_of(np.zeros((2, 0)), backend, reset_silent=True) == [[], []]
    assert na.reset_masks({}) == {}


def test_scores_are_not_changed(backend):
    scores = {"g": backend.asarray([0.0, 2.0, 1.0])}
    na.reset_masks(scores, max_fraction=0.5)
    assert to_numpy(scores["g"]).tolist() == [0.0, 2.0, 1.0]


def test_masks_on_many_random_scores_are_the_references(backend):
    generator = np.random.default_rng(0)
    scores = {"flat": generator.integers(0, 4, 12) / 4, "stack": generator.integers(0, 4, (3, 7)) / 4}
    arrays = backend.arrays(scores)
    for tau, limit, silent in itertools.product((0.0, 0.25, 0.5), (None, 0.0, 0.3, 0.5, 1.0), (False, True)):
        options = {"max_fraction": limit, "reset_silent": silent}
        masks = na.reset_masks(arrays, tau, **options)
        expected = reference.reset_masks(scores, tau, **options)
        assert {name: to_numpy(mask).tolist() for name, mask in masks.items()} == {
            name: mask.tolist() for name, mask in expected.items()
        }


@pytest.mark.parametrize("tau", [-0.01, math.nan, math.inf, "0.1", None])
def test_tau_out_of_range_is_an_error(tau):
    with pytest.raises(ValueError, match=f"^tau: expected a finite number of 0 or more, got {tau!r}$"):
        na.reset_masks({}, tau)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, 5, math.nan, "5%"])
def test_max_fraction_out_of_range_is_an_error(fraction):
    """Five per cent is 0.05, not 5."""
    with pytest.raises(ValueError, match=rf"^max_fraction: expected a number in \[0, 1\] or None, got {fraction!r}$"):
        na.reset_masks({}, max_fraction=fraction)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, "half"])
def test_lowest_out_of_range_is_an_error(fraction):
    with pytest.raises(ValueError, match=r"lowest: expected a number in \[0, 1\] or None"):
        na.reset_masks({"fc": np.ones(3)}, lowest=fraction)


def test_options_are_named():
    with pytest.raises(TypeError):
        na.reset_masks({}, 0.01, 0.05)
    with pytest.raises(TypeError):
        na.reset_masks(scores={})


def test_scores_that_are_no_arrays_are_an_error():
    with pytest.raises(TypeError, match=r"^expected an array \(NumPy, PyTorch, JAX, TensorFlow, .*\), got list$"):
        na.reset_masks({"fc": [0.0, 2.0]})


@pytest.mark.parametrize("limit", [{"max_fraction": 0.5}, {"lowest": 0.5}])
def test_others_are_chosen_in_the_place_of_protected_neurons(limit, backend):
    """Not those that were reset a moment ago, whose outgoing weights are zero and whose scores are the lowest."""
    scores = {"fc": np.array([0.0, 0.0, 0.0, 4.0]), "twins": np.array([[0.0, 0.1, 3.9, 0.0], [1.0, 1.0, 1.0, 1.0]])}
    held = {"fc": np.array([True, False, False, False]), "twins": np.array([[True, False, False, False], [False] * 4])}

    def choose(scores, held):
        return na.reset_masks(scores, 0.5, protected=held, **limit)

    found = backend.run(choose, backend.arrays(scores), {n: backend.asarray(mask) for n, mask in held.items()})
    assert to_numpy(found["fc"]).tolist() == [False, True, True, False]
    assert to_numpy(found["twins"])[0].tolist() == [False, True, False, True]
    assert not (to_numpy(found["twins"]) & held["twins"]).any()


@pytest.mark.parametrize("options", [{}, {"max_fraction": 1.0}, {"lowest": 1.0}, {"reset_silent": True}])
def test_without_a_limit_that_is_reached_protected_neurons_are_just_left_out(options):
    rng = np.random.default_rng(0)
    scores = {"fc": rng.random(50), "silent": np.zeros(4), "broken": np.array([np.nan, 0.0])}
    held = {
        "fc": rng.random(50) < 0.5,
        "silent": np.array([True, False, False, False]),
        "broken": np.array([True, False]),
    }
    masks = na.reset_masks(scores, 0.3, **options)
    found = na.reset_masks(scores, 0.3, protected=held, **options)
    assert list(found) == list(scores)
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask & ~held[name])
    assert found["fc"].any()
