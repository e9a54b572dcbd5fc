"""The statistics agree with definitions, with rliable, and with what they claim about themselves."""

import doctest
import itertools
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reference_agents.compare import statistics
from reference_agents.compare.statistics import (
    Estimate,
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap,
)

FIRST = np.array([[52.0, 310], [61, 280], [75, 450], [58, 390], [90, 335]])
SECOND = np.array([[40.0, 300], [55, 260], [61, 410], [47, 290], [66, 355], [35, 270], [80, 310]])
SCALE = np.array([100.0, 500])

# Made with rliable 1.2.0 (aggregate_iqm and probability_of_improvement through get_interval_estimates, with 50,000
# resamples) on NumPy 2.2.6, SciPy 1.17.1, pandas 2.3.3 and arch 7.2.0: the estimate, and the lowest and highest of each
# end of the interval over np.random.seed(0) to np.random.seed(4).
RLIABLE = {
    "mean of 5 runs": (interquartile_mean, [FIRST[:, :1]], 64.66666666666667, (54.0, 54.0), (85.0, 85.0)),
    "mean of 7 runs": (interquartile_mean, [SECOND[:, :1]], 53.8, (42.2, 42.4), (67.2, 67.4)),
    "mean of 3 runs": (interquartile_mean, [FIRST[:3, :1]], 62.666666666666664, (52.0, 52.0), (75.0, 75.0)),
    "mean of 5 runs, 2 tasks": (
        interquartile_mean,
        [FIRST / SCALE],
        0.6683333333333333,
        (0.59, 0.59),
        (0.7916666666666666, 0.7949999999999999),
    ),
    "mean of 7 runs, 2 tasks": (
        interquartile_mean,
        [SECOND / SCALE],
        0.585,
        (0.5225, 0.5237499999999999),
        (0.66125, 0.6625),
    ),
    "probability": (
        probability_of_improvement,
        [FIRST[:, :1], SECOND[:, :1]],
        0.7,
        (0.35714285714285715, 0.37142857142857144),
        (0.9428571428571428, 0.9571428571428572),
    ),
    "probability, 2 tasks": (
        probability_of_improvement,
        [FIRST, SECOND],
        0.7,
        (0.4714285714285714, 0.4714285714285714),
        (0.8928571428571428, 0.8999999999999999),
    ),
}

scores = partial(arrays, np.float64, elements=st.integers(-3, 3).map(float))
shapes = st.tuples(st.integers(1, 6), st.integers(1, 3))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("case", RLIABLE.values(), ids=RLIABLE)
def test_rliable_says_the_same(case):
    statistic, samples, value, low, high = case
    estimate = stratified_bootstrap(*samples, statistic=statistic, rng=rng(), resamples=50_000)
    assert estimate.value == pytest.approx(value, rel=1e-12)
    # Few seeds have few resamples, so the ends jump: 1% of the value is less than two of these steps.
    assert low[0] - 0.01 * value <= estimate.low <= low[1] + 0.01 * value
    assert high[0] - 0.01 * value <= estimate.high <= high[1] + 0.01 * value


def test_the_examples_in_the_docstrings_are_right():
    assert doctest.testmod(statistics) == (0, 4)


@given(shapes.flatmap(scores))
def test_the_interquartile_mean_is_that_of_the_middle_half(x):
    flat = sorted(x.ravel())
    cut = len(flat) // 4
    middle = flat[cut : len(flat) - cut]
    assert float(interquartile_mean(x)) == pytest.approx(sum(middle) / len(middle))


@pytest.mark.parametrize("runs", range(1, 4))
def test_of_fewer_than_four_runs_the_interquartile_mean_is_the_mean(runs):
    x = rng().normal(size=(runs, 1))
    assert float(interquartile_mean(x)) == pytest.approx(x.mean())


def test_one_run_that_went_astray_does_not_move_the_interquartile_mean():
    assert interquartile_mean([[1.0], [2], [3], [4]]) == interquartile_mean([[1.0], [2], [3], [1e12]])


@given(st.data(), shapes, st.integers(1, 6))
def test_the_probability_counts_the_pairs_task_by_task(data, shape, others):
    x, y = data.draw(scores(shape)), data.draw(scores((others, shape[1])))
    wins = [(a > b) + 0.5 * (a == b) for task in range(shape[1]) for a, b in itertools.product(x[:, task], y[:, task])]
    assert float(probability_of_improvement(x, y)) == pytest.approx(sum(wins) / len(wins))
    assert float(probability_of_improvement(y, x)) == pytest.approx(1 - sum(wins) / len(wins))


@given(shapes.flatmap(scores))
def test_nothing_improves_on_itself(x):
    assert float(probability_of_improvement(x, x)) == pytest.approx(0.5)


def test_a_task_may_have_any_scale():
    units = np.array([1e-3, 1e6])
    assert probability_of_improvement(FIRST, SECOND) == probability_of_improvement(
        FIRST * units + 7, SECOND * units + 7
    )


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_a_batch_is_worked_entry_by_entry(shape):
    x, y = rng(0).normal(size=(*shape, 5, 2)), rng(1).normal(size=(*shape, 3, 2))
    means, probabilities = interquartile_mean(x), probability_of_improvement(x, y)
    assert means.shape == probabilities.shape == shape
    for entry in np.ndindex(shape):
        assert means[entry] == pytest.approx(float(interquartile_mean(x[entry])))
        assert probabilities[entry] == pytest.approx(float(probability_of_improvement(x[entry], y[entry])))


def test_seeds_are_drawn_on_each_task_and_in_each_group_on_their_own():
    drawn = []
    x, y = np.array([[0.0, 10], [1, 11], [2, 12]]), np.array([[20.0, 30], [21, 31]])

    def record(first, second):
        drawn.append((first, second))
        return np.asarray(first.sum(axis=(-2, -1)))

    stratified_bootstrap(x, y, statistic=record, rng=rng(), resamples=2_500)
    first, second = (np.concatenate(parts) for parts in zip(*drawn[1:], strict=True))
    assert first.shape == (2_500, 3, 2)
    assert second.shape == (2_500, 2, 2)
    columns = [values[..., task] for values in (first, second) for task in (0, 1)]
    for column, source in zip(columns, (x[:, 0], x[:, 1], y[:, 0], y[:, 1]), strict=True):
        assert set(column.ravel()) == set(source)
    for one, other in itertools.combinations(columns, 2):
        assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.06


def test_equal_generators_give_equal_intervals_and_others_others():
    estimates = [
        stratified_bootstrap(rng(9).normal(size=(8, 2)), statistic=interquartile_mean, rng=rng(seed), resamples=500)
        for seed in (0, 0, 1)
    ]
    assert estimates[0] == estimates[1]
    assert estimates[0].value == estimates[2].value
    assert estimates[0].low != estimates[2].low


def test_a_higher_level_gives_a_wider_interval():
    x = rng(1).normal(size=(10, 1))
    inner, outer = (
        stratified_bootstrap(x, statistic=interquartile_mean, rng=rng(), level=level) for level in (0.5, 0.95)
    )
    assert outer.low < inner.low < inner.value < inner.high < outer.high


def test_one_seed_has_no_interval():
    alone = stratified_bootstrap([[3.0, 5.0]], statistic=interquartile_mean, rng=rng())
    assert alone.value == 4
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    pair = stratified_bootstrap([[3.0]], [[1.0], [2.0]], statistic=probability_of_improvement, rng=rng())
    assert pair.value == 1
    assert math.isnan(pair.low)


def test_runs_that_agree_leave_no_doubt():
    estimate = stratified_bootstrap(np.full((6, 2), 2.5), statistic=interquartile_mean, rng=rng(), resamples=50)
    assert estimate == Estimate(2.5, 2.5, 2.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    x = np.array([[1.0], [bad], [2.0]])
    for call in (
        lambda: interquartile_mean(x),
        lambda: probability_of_improvement([[1.0]], x),
        lambda: stratified_bootstrap(x, statistic=interquartile_mean, rng=rng()),
    ):
        with pytest.raises(ValueError, match=r"^scores: expected finite values, got NaN or infinity$"):
            call()


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 0)])
def test_seeds_and_tasks_must_be_there(shape):
    with pytest.raises(
        ValueError, match=r"^scores: expected shape \(\.\.\., seeds, tasks\) with no axis empty, got \("
    ):
        interquartile_mean(np.zeros(shape))


def test_bad_arguments_are_named():
    bootstrap = partial(stratified_bootstrap, statistic=interquartile_mean, rng=rng())
    with pytest.raises(ValueError, match=r"^scores: expected as many tasks in both groups, got 2 and 1$"):
        probability_of_improvement(FIRST, FIRST[:, :1])
    with pytest.raises(ValueError, match=r"^samples: expected shapes \(seeds, tasks\), got \[\(1, 5, 2\)\]$"):
        bootstrap(FIRST[None])
    with pytest.raises(ValueError, match=r"^samples: expected shapes \(seeds, tasks\), got \[\]$"):
        bootstrap()
    with pytest.raises(ValueError, match=r"^resamples: expected at least 1, got 0$"):
        bootstrap(FIRST, resamples=0)
    for level in (0, 1, math.nan):
        with pytest.raises(ValueError, match=rf"^level: expected a value between 0 and 1, got {level}$"):
            bootstrap(FIRST, level=level)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "tasks", "coverage"), [(3, 1, 0.75), (3, 2, 0.85), (5, 1, 0.90), (10, 1, 0.935), (5, 4, 0.91)]
)
def test_the_interval_covers_the_truth_as_often_as_the_report_says(seeds, tasks, coverage):
    """On a single task three seeds span the truth in 3 of 4 cases, and the interval is their span at most."""
    generator = rng(2)
    estimates = [
        stratified_bootstrap(
            generator.normal(size=(seeds, tasks)), statistic=interquartile_mean, rng=generator, resamples=1_000
        )
        for _ in range(4_000)
    ]
    assert np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates]) == pytest.approx(coverage, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "false_claims"), [(3, 0.19), (5, 0.09), (10, 0.06)])
def test_groups_without_a_difference_are_told_apart_as_rarely_as_the_report_says(seeds, false_claims):
    generator = rng(3)
    estimates = [
        stratified_bootstrap(
            *generator.normal(size=(2, seeds, 1)), statistic=probability_of_improvement, rng=generator, resamples=1_000
        )
        for _ in range(4_000)
    ]
    claimed = [not estimate.low <= 0.5 <= estimate.high for estimate in estimates]
    assert np.mean(claimed) == pytest.approx(false_claims, abs=0.02)
