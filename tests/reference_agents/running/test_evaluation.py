"""What is said of an agent's returns."""

import math

import pytest

from reference_agents.running.evaluation import describe


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_agent_that_has_diverged_has_no_mean(bad):
    described = describe([1.0, bad, -bad])
    assert math.isnan(described["mean"])
    assert math.isnan(described["std"])
    assert describe([1.0, 3.0]) == {"mean": 2.0, "std": 1.0, "returns": [1.0, 3.0]}
