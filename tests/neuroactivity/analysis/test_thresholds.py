"""Fractions of inactive neurons at several thresholds: inclusive, as those of masks and reports."""

import math

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity import analysis
from tests.neuroactivity.cases import DENSE_TORCH

NAN = math.nan


def test_fractions_at_several_thresholds(backend):
    """Each threshold is inclusive and compared in the dtype of the scores, as masks are."""
    scores = backend.arrays({"fc": np.array([0.0, 0.0, 0.1, 0.2, 0.3, 5.4]), "b": np.array([0.05, 1.95])})
    found = analysis.inactive_fractions(scores, [0, 0.1, 0.05, 10])
    assert found == {"fc": (2 / 6, 3 / 6, 2 / 6, 1.0), "b": (0.0, 0.5, 0.5, 1.0)}
    for dtype in {"float32", "float64"} & set(backend.dtypes):
        at = {"g": backend.asarray(np.array([0.3, 1.7]), dtype)}
        assert analysis.inactive_fractions(at, [0.3])["g"] == (0.5,)


def test_fractions_leave_out_members_that_are_not_finite(backend):
    stack = np.array([[0.0, 2.0], [NAN, 0.0], [0.0, math.inf], [0.0, 0.0]])
    found = analysis.inactive_fractions(backend.arrays({"some": stack, "none": np.array([NAN, NAN])}), [0.01])
    assert found["some"] == (0.75,)
    assert math.isnan(found["none"][0])


def test_fractions_are_those_of_a_report():
    scores = {name: np.random.default_rng(1).exponential(size=shape) for name, shape in DENSE_TORCH.scores.items()}
    found = analysis.inactive_fractions(scores, [0.5])
    for name, group in scores.items():
        assert found[name] == (na.summarize({name: group}, DENSE_TORCH.layout, 0.5)[name].inactive_fraction,)


@pytest.mark.parametrize("tau", [-0.01, NAN, math.inf, "0.1", None])
def test_a_threshold_out_of_range_is_an_error(tau):
    with pytest.raises(ValueError, match=f"^taus: expected finite numbers of 0 or more, got {tau!r}$"):
        analysis.inactive_fractions({}, [0.0, tau])
