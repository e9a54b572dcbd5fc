"""When a measurement is due."""

import numpy as np
import pytest

from neuroactivity.wrapping import check_every, is_due


def test_due_at_every_multiple_counted_from_one():
    assert [step for step in range(1, 10) if is_due(step, every=3)] == [3, 6, 9]
    assert all(is_due(step, every=1) for step in range(1, 5))


@pytest.mark.parametrize("every", [250, np.int64(250), np.array(250)])
def test_an_interval_is_any_whole_number(every):
    assert type(check_every(every)) is int
    assert check_every(every) == 250


@pytest.mark.parametrize("every", [0, -1, np.int32(0), 250.0, "250", None, np.array([250, 250])])
def test_an_interval_is_nothing_else(every):
    with pytest.raises(ValueError, match="every: expected a whole number of steps of 1 or more, got"):
        check_every(every)
