"""What outgoing parameters become other than zero: small, fresh, or what they were."""

import numpy as np
import pytest

import neuroactivity as na
from tests import reference
from tests.neuroactivity.backends import to_numpy
from tests.neuroactivity.cases import CASES
from tests.neuroactivity.test_resets import CHAIN, SHAPES, assert_same, mask, ramp

OTHER = ("small", "fresh", "keep")


@pytest.mark.sampled(20)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_other_outgoing_values_are_the_references(case, backend):
    """Small ones to rounding, all others to the bit; moments are cleared where parameters are written."""

    def compute(params, fresh, masks):
        """All in one function, which compiles sooner than three."""
        moments = [na.reset_moments(params, masks, case.layout, fresh, outgoing=outgoing) for outgoing in OTHER]
        return [na.reset(params, fresh, masks, case.layout, outgoing=outgoing) for outgoing in OTHER], moments

    params, fresh, masks = backend.arrays(case.draw(seed=1)), backend.arrays(case.draw(seed=2)), case.draw_masks(seed=3)
    exact, exact_fresh = ({name: to_numpy(array) for name, array in arrays.items()} for arrays in (params, fresh))
    for outgoing, result, moments in zip(
        OTHER, *backend.run(compute, params, fresh, backend.arrays(masks)), strict=True
    ):
        expected = reference.reset(exact, exact_fresh, masks, case.layout, outgoing)
        if outgoing != "small":
            assert_same(result, expected, params)
        for name, array in expected.items():
            found, told = to_numpy(result[name]), f"{name}, {outgoing}"
            np.testing.assert_allclose(found, array, rtol=1e-5 if outgoing == "small" else 0, err_msg=told)
            unwritten = array == exact[name]
            np.testing.assert_array_equal(found[unwritten], array[unwritten], err_msg=told)
        assert_same(moments, reference.reset_moments(exact, masks, case.layout, exact_fresh, outgoing), params)


def test_small_outgoing_values_have_a_fiftieth_of_the_size_of_living_ones(backend):
    params, fresh = ramp(1), ramp(-500)
    masks = backend.arrays({"a": mask(3, 1)})
    result = to_numpy(na.reset(backend.arrays(params), backend.arrays(fresh), masks, CHAIN, outgoing="small")["b.w"])
    living = np.sqrt((params["b.w"][:, [0, 2]] ** 2).mean())
    assert np.sqrt((result[:, 1] ** 2).mean()) == pytest.approx(0.02 * living, rel=1e-5)


def test_where_no_neuron_lives_small_is_zero_and_fresh_zeros_stay_zero():
    zeros = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for masked, fresh in (((0, 1, 2), ramp(1)), ((1,), zeros)):
        result = na.reset(ramp(1), fresh, {"a": mask(3, *masked)}, CHAIN, outgoing="small")
        np.testing.assert_array_equal(result["b.w"][:, list(masked)], 0)


@pytest.mark.parametrize("outgoing", ["zeros", None, True])
def test_another_value_of_outgoing_is_an_error(outgoing):
    masks = {"a": mask(3, 1)}
    with pytest.raises(ValueError, match="outgoing: expected 'zero', 'small', 'fresh' or 'keep', got"):
        na.reset(ramp(1), ramp(2), masks, CHAIN, outgoing=outgoing)
    with pytest.raises(ValueError, match="outgoing: expected"):
        na.reset_moments(ramp(1), masks, CHAIN, outgoing=outgoing)


@pytest.mark.counts(faults=3)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e20])
def test_what_a_reset_neuron_had_is_no_part_of_the_size_of_small_values(bad, backend):
    """Fault 14 of published codes: zero times NaN is NaN."""
    params, fresh = ramp(1), ramp(-500)
    params["b.w"][0, 1] = bad
    masks = backend.arrays({"a": mask(3, 0, 1)})
    result = to_numpy(na.reset(backend.arrays(params), backend.arrays(fresh), masks, CHAIN, outgoing="small")["b.w"])
    living = np.sqrt((params["b.w"][:, 2] ** 2).mean())
    for column in (0, 1):
        assert np.sqrt((result[:, column] ** 2).mean()) == pytest.approx(0.02 * living, rel=1e-5)


def test_small_values_are_those_of_a_part_that_each_neuron_has():
    """Two readers read two neurons each, the second one of them twice."""
    views = [("a", "out neuron"), ("b", "out neuron")]
    readers = [na.ParamView(*views[0], index=[0, 1, 1]), na.ParamView(*views[1], index=[2, 3])]
    layout = na.Layout([na.dense("g", weight=("w", "neuron in"), outgoing=readers)])
    params = {"w": np.ones((4, 3)), "a": np.ones((5, 3)), "b": np.ones((5, 2))}
    masks = {"g": np.array([True, False, False, True])}
    result = na.reset(params, {name: 7 * value for name, value in params.items()}, masks, layout, outgoing="small")
    np.testing.assert_allclose(result["a"][:, 0], 0.02)
    np.testing.assert_allclose(result["b"][:, 1], 0.02)
