"""Statistics of the plasticity study, against values worked out by hand."""

import itertools

import numpy as np
import pytest

from benchmarks.plasticity.statistics import at_the_end, holm, interquartile, rank_correlation, sign_flip


def test_the_end_is_the_last_quarter():
    assert at_the_end([[9.0] * 6 + [1.0, 3.0], [0.0] * 8]).tolist() == [2.0, 0.0]
    assert at_the_end([[5.0, 7.0]]).tolist() == [7.0]


def test_sign_flips_are_all_tried():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 7))
    difference = first - second
    sums = [np.dot(signs, difference) for signs in itertools.product((-1, 1), repeat=7)]
    assert sign_flip(first, second) == np.mean(np.abs(sums) >= abs(difference.sum()) - 1e-9)
    assert sign_flip(second, first) == sign_flip(first, second)
    assert sign_flip([1.0, 2.0], [1.0, 2.0]) == 1
    assert sign_flip(np.ones(20), np.zeros(20)) == 2 / 2**20
    with pytest.raises(ValueError, match="seeds: expected 1 to 20"):
        sign_flip(np.ones(21), np.zeros(21))


def test_holm_multiplies_by_what_is_left_and_never_falls():
    assert holm({"a": 0.01, "b": 0.02, "c": 0.021, "d": 0.9}) == pytest.approx(
        {"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.9}
    )
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1, "b": 1}


def test_rank_correlation_shares_ranks_among_equals():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 1e9]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 2], [1, 2, 3]) == pytest.approx(np.corrcoef([0.5, 0.5, 2], [0, 1, 2])[0, 1])
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_the_interval_holds_the_middle():
    estimate = interquartile(np.arange(20.0))
    assert estimate.low < estimate.value == 9.5 < estimate.high
