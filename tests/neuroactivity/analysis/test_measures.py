"""Ranks and magnitudes: known answers, a plain reference in NumPy, every array library, and errors."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroactivity import LayoutError, analysis
from tests.neuroactivity.backends import to_numpy

RANKS = ("stable_rank", "effective_rank", "approximate_rank", "feature_rank")
FRACTIONS = ("active_fraction", "saturated_fraction", "zero_gradient_fraction")
NAN = math.nan


def compute(name, values, backend, dtype=None, **options):
    """One measure of one layer, computed the backend's way."""
    function = getattr(analysis, name)
    found = backend.run(
        lambda x: function({"fc": x}, **options)["fc"], backend.asarray(np.asarray(values, float), dtype)
    )
    return to_numpy(found)


def orthogonal(size, seed=0):
    """An orthogonal matrix, so that the singular values of a product are known."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def with_singular_values(*sigma):
    """A matrix of 6 samples with these singular values."""
    return orthogonal(6)[:, : len(sigma)] * np.array(sigma) @ orthogonal(len(sigma), seed=1)


@pytest.mark.sampled(20)
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("stable_rank", {}, (16 + 4 + 4) / 16),
        ("effective_rank", {}, math.exp(0.5 * math.log(2) + 2 * 0.25 * math.log(4))),
        ("approximate_rank", {}, 3),
        ("approximate_rank", {"delta": 0.3}, 2),
        ("approximate_rank", {"delta": 0.2, "power": 2}, 2),
        ("feature_rank", {"epsilon": 3 / math.sqrt(6)}, 1),
        ("feature_rank", {"epsilon": 0}, 3),
    ],
)
def test_ranks_of_known_singular_values(name, options, expected, backend):
    found = compute(name, with_singular_values(4.0, 2.0, 2.0), backend, **options)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("name", RANKS)
def test_a_stack_has_a_rank_for_each_member_and_a_bad_member_spoils_only_its_own(name, backend):
    good, bad = with_singular_values(3.0, 1.0), np.full((6, 2), NAN)
    found = compute(name, np.stack([good, 0 * good, bad]), backend)
    assert found[0] == pytest.approx(compute(name, good, backend), rel=1e-5)
    assert found[1] == 0
    assert math.isnan(found[2])


@pytest.mark.sampled(20)
@pytest.mark.parametrize("name", [*RANKS, *FRACTIONS, "feature_norm"])
def test_low_precision_is_computed_in_float32(name, backend):
    values = with_singular_values(4.0, 2.0, 1.0)
    for dtype in backend.dtypes:
        function = getattr(analysis, name)
        found = backend.run(lambda x, function=function: function({"fc": x})["fc"], backend.asarray(values, dtype))
        wide = "float64" if dtype == "float64" else "float32"
        assert wide in str(found.dtype)
        assert np.all(np.isfinite(to_numpy(found)))


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    ("name", "options", "values", "expected"),
    [
        ("active_fraction", {}, [[0.0, 2.0], [-1.0, 3.0]], 0.75),
        ("saturated_fraction", {}, [[-1.0, -0.75, 0.0, 0.95]], 0.5),
        ("saturated_fraction", {"bounds": (0.0, 1.0), "within": 0.25}, [[0.25, 0.5, 0.625, 0.875]], 0.5),
        ("zero_gradient_fraction", {}, [[0.0, -0.5], [0.25, 0.0], [1.0, 2.0], [0.5, 0.5]], 0.25),
        ("feature_norm", {}, [[3.0, 4.0], [0.0, 1.0]], 3.0),
    ],
)
def test_magnitudes_of_known_values(name, options, values, expected, backend):
    assert compute(name, values, backend, **options) == pytest.approx(expected)


MATRICES = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-8, 8, width=16)
)


@given(MATRICES)
def test_ranks_agree_with_a_plain_reference(features):
    sigma = np.linalg.svd(features, compute_uv=False)
    found = {name: float(getattr(analysis, name)({"fc": features})["fc"]) for name in RANKS}
    if sigma[0] == 0:
        assert set(found.values()) == {0.0}
        return
    shares = [value / sum(sigma) for value in sigma if value > 0]
    assert found["stable_rank"] == pytest.approx(sum(value**2 for value in sigma) / sigma[0] ** 2)
    assert found["effective_rank"] == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    enough = [k for k in range(1, len(sigma) + 1) if sum(sigma[:k]) >= 0.99 * sum(sigma) * (1 - 1e-12)]
    assert found["approximate_rank"] in (enough[0], enough[0] + 1)  # a tie may fall to either side
    assert found["feature_rank"] == sum(value > 0.01 * math.sqrt(len(features)) for value in sigma)
    assert all(rank <= min(features.shape) + 1e-9 for rank in found.values())
    assert found["stable_rank"] <= found["effective_rank"] ** 2 + 1e-9


@given(MATRICES, st.floats(0.25, 4))
def test_only_feature_rank_depends_on_the_scale(features, scale):
    for name in ("stable_rank", "effective_rank"):
        function = getattr(analysis, name)
        assert function({"fc": scale * features})["fc"] == pytest.approx(function({"fc": features})["fc"], rel=1e-6)


@given(MATRICES)
def test_fractions_and_norms_agree_with_a_plain_reference(values):
    entries = values.ravel().tolist()
    count = len(entries)
    assert analysis.active_fraction({"fc": values})["fc"] == sum(h != 0 for h in entries) / count
    assert analysis.zero_gradient_fraction({"fc": values})["fc"] == sum(g == 0 for g in entries) / count
    close = sum(h <= -0.95 or h >= 0.95 for h in entries) / count
    assert analysis.saturated_fraction({"fc": values}, within=0.025)["fc"] == pytest.approx(close)
    lengths = [math.hypot(*row) for row in values.tolist()]
    assert analysis.feature_norm({"fc": values})["fc"] == pytest.approx(sum(lengths) / len(lengths))
    assert analysis.norm({"a": values, "b": values[0]}) == pytest.approx(math.hypot(*entries, *values[0]))
    assert analysis.distance({"a": values}, {"a": 0 * values}) == pytest.approx(math.hypot(*entries))


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", FRACTIONS)
def test_fractions_of_outputs_that_are_not_finite_cannot_be_told(name, backend):
    assert math.isnan(compute(name, [[0.0, math.inf]], backend))
    assert math.isnan(compute(name, [[0.0, NAN]], backend))


def test_norms_are_the_same_in_every_library(backend):
    arrays = {"w": np.array([[3.0, 0.0], [0.0, 0.0]]), "b": np.array([4.0])}
    found = backend.run(analysis.norm, backend.arrays(arrays))
    moved = backend.run(analysis.distance, backend.arrays(arrays), backend.arrays({k: -v for k, v in arrays.items()}))
    assert (to_numpy(found), to_numpy(moved)) == (5.0, 10.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analysis.stable_rank({"fc": np.ones(3)}), r"'fc': expected shape .* got \(3,\)"),
        (lambda: analysis.effective_rank({"fc": np.ones((0, 3))}), r"'fc': .* got shape \(0, 3\)"),
        (lambda: analysis.stable_rank({"fc": np.ones((2, 3), int)}), "'fc': expected a real floating dtype"),
        (lambda: analysis.approximate_rank({}, delta=0), "delta: .* got 0"),
        (lambda: analysis.approximate_rank({}, power=3), "power: expected 1 or 2, got 3"),
        (lambda: analysis.feature_rank({}, epsilon=-1), "epsilon: .* got -1"),
        (lambda: analysis.saturated_fraction({}, bounds=(1, 0)), r"bounds: .* got \(1, 0\)"),
        (lambda: analysis.saturated_fraction({}, within=0.6), "within: .* got 0.6"),
        (lambda: analysis.active_fraction({"fc": np.ones(0)}), "'fc': expected at least one entry"),
        (lambda: analysis.active_fraction({"fc": np.ones(2, int)}), "'fc': expected a real floating dtype"),
        (lambda: analysis.feature_norm({"fc": np.array(1.0)}), "'fc': expected shape"),
        (lambda: analysis.norm({}), "expected at least one array"),
        (lambda: analysis.distance({"a": np.ones(2)}, {"b": np.ones(2)}), "the same names, 'a' is in one only"),
        (lambda: analysis.distance({"a": np.ones(2)}, {"a": np.ones(3)}), r"'a': expected shape \(3,\)"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises((ValueError, LayoutError), match=message):
        call()


def test_what_is_no_array_is_named():
    with pytest.raises(TypeError, match="'fc': "):
        analysis.stable_rank({"fc": [[1.0]]})
    with pytest.raises(TypeError, match="'fc': "):
        analysis.active_fraction({"fc": [[1.0]]})


@pytest.mark.counts(faults=2)
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e20])
def test_ranks_but_one_do_not_depend_on_the_scale_however_large(scale):
    features = {"fc": (scale * np.diag([2.0, 1.0, 1.0])).astype(np.float32)}
    assert analysis.stable_rank(features)["fc"] == pytest.approx(1.5)
    assert analysis.approximate_rank(features, power=2)["fc"] == 3
    assert analysis.effective_rank(features)["fc"] == pytest.approx(2.83, abs=0.01)
