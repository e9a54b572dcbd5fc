"""The factor by which a young moment is handed over to the clock of the run."""

import numpy as np
import pytest

from neuroactivity.wrapping.clock import YOUNG, handing_over_factor


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999, 1 - 1e-9])
@pytest.mark.parametrize("count", [YOUNG, YOUNG + 1, 10_000])
def test_an_average_is_the_same_under_both_counts(decay, count):
    """Averages of ones: what has been seen of them, over what is assumed to have been seen."""
    seen = {t: sum((1 - decay) * decay**k for k in range(t)) for t in (YOUNG, count)}
    assert handing_over_factor(decay, count, YOUNG) == pytest.approx(seen[count] / seen[YOUNG], rel=1e-6)


def test_entries_are_young_for_as_many_steps_as_the_documentation_says():
    assert YOUNG == 200


def test_an_average_that_forgets_at_once_has_no_bias():
    assert handing_over_factor(0.0, 10_000, 1) == 1.0


def test_counts_may_be_arrays():
    factors = handing_over_factor(0.5, np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    assert factors.tolist() == [1.0, 1.5]
