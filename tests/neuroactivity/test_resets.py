"""Writing a reset: what comes from ``fresh``, what becomes zero, and that nothing else changes by a bit."""

import numpy as np
import pytest

import neuroactivity as na
from tests import reference
from tests.neuroactivity.backends import dtype_name, to_numpy
from tests.neuroactivity.cases import CASES, CONCATENATION, DENSE_TORCH, RESIDUAL, TWIN_CRITICS, VARIED

CHAIN = na.Layout(
    [
        na.dense("a", weight=("a.w", "neuron in"), bias="a.b", outgoing=[("b.w", "out neuron")]),
        na.dense("b", weight=("b.w", "neuron in"), bias="b.b", outgoing=[("c.w", "out neuron")]),
        na.dense("c", weight=("c.w", "neuron in"), bias="c.b", resettable=False),
    ]
)
SHAPES = {"a.w": (3, 2), "a.b": (3,), "b.w": (4, 3), "b.b": (4,), "c.w": (2, 4), "c.b": (2,)}


def ramp(start):
    """Parameters of the chain in which every entry has its own value."""
    values = np.arange(start, start + 1000.0)
    return {
        name: values[i * 50 : i * 50 + np.prod(shape)].reshape(shape) for i, (name, shape) in enumerate(SHAPES.items())
    }


def mask(n, *indices):
    """A mask of n neurons, True at the indices."""
    return np.isin(np.arange(n), indices)


def assert_same(result, expected, inputs):
    """Equal values, the inputs' dtypes and shapes, every parameter there."""
    assert set(result) == set(expected)
    for name, array in expected.items():
        if array is None:
            assert result[name] is None
            continue
        assert dtype_name(result[name]) == dtype_name(inputs[name])
        np.testing.assert_array_equal(to_numpy(result[name]), array, err_msg=name, strict=True)


@pytest.mark.sampled(40)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_resets_are_the_references(case, backend):
    """Parameters, moments that become zero, and moments that become what the optimizer starts with."""

    def compute(params, fresh, masks):
        moments = na.reset_moments(params, masks, case.layout), na.reset_moments(params, masks, case.layout, fresh)
        return na.reset(params, fresh, masks, case.layout), *moments

    params, fresh = backend.arrays(case.draw(seed=1)), backend.arrays(case.draw(seed=2))
    masks = case.draw_masks(seed=3)
    exact, exact_fresh = ({name: to_numpy(array) for name, array in arrays.items()} for arrays in (params, fresh))
    results = backend.run(compute, params, fresh, backend.arrays(masks))
    assert_same(results[0], reference.reset(exact, exact_fresh, masks, case.layout), params)
    assert_same(results[1], reference.reset_moments(exact, masks, case.layout), params)
    assert_same(results[2], reference.reset_moments(exact, masks, case.layout, exact_fresh), params)


@pytest.mark.sampled(16)
@pytest.mark.parametrize("case", VARIED, ids=lambda case: case.name)
def test_every_dtype_is_kept(case, backend):
    """The values of ``fresh`` in the dtype of the parameter, to the bit, also in the low precisions."""
    masks = case.draw_masks(seed=7)
    for dtype in backend.dtypes[:-1]:  # the last is that of the tests above
        params, fresh = backend.arrays(case.draw(seed=8), dtype), backend.arrays(case.draw(seed=9), dtype)
        exact = [{name: to_numpy(array) for name, array in arrays.items()} for arrays in (params, fresh)]
        expected = reference.reset(*exact, masks, case.layout)
        result = backend.run(lambda *args: na.reset(*args, case.layout), params, fresh, backend.arrays(masks))
        assert_same(result, expected, params)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_masks_together_write_every_entry_that_the_layout_owns(case):
    """With all neurons masked nothing old is left in a resettable group's entries, and moments are zero there."""
    masks = {name: np.ones(shape, dtype=bool) for name, shape in case.scores.items()}
    ones = {name: np.ones(shape) for name, shape in case.shapes.items()}
    moments = na.reset_moments(ones, masks, case.layout)
    result = na.reset(ones, {name: 2 * array for name, array in ones.items()}, masks, case.layout)
    for name in ones:
        np.testing.assert_array_equal(moments[name] == 0, result[name] != 1)


def test_a_reset_by_hand(backend):
    """Incoming and unscored, and outgoing: a row and a bias from fresh, a column zero, nothing else."""
    params, fresh = ramp(1), ramp(2001)
    masks = backend.arrays({"a": mask(3, 1)})
    result = na.reset(backend.arrays(params), backend.arrays(fresh), masks, CHAIN)
    expected = {name: array.copy() for name, array in params.items()}
    expected["a.w"][1] = fresh["a.w"][1]
    expected["a.b"][1] = fresh["a.b"][1]
    expected["b.w"][:, 1] = 0
    assert_same(result, expected, result)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_zero_wins_where_incoming_and_outgoing_meet(order, backend):
    """Fault 7: the next layer's re-initialisation overwrote the zeros just written. In whichever order masks come."""
    params, fresh = ramp(1), ramp(2001)
    masks = {"a": mask(3, 0), "b": mask(4, 2)}
    masks = backend.arrays({name: masks[name] for name in order})
    result = to_numpy(na.reset(backend.arrays(params), backend.arrays(fresh), masks, CHAIN)["b.w"])
    np.testing.assert_array_equal(result[:, 0], np.zeros(4))
    np.testing.assert_array_equal(result[2, 1:], fresh["b.w"][2, 1:])


def test_a_recurrent_weight_is_fresh_in_its_rows_and_zero_in_its_columns():
    """Fault 7 within one group: a hidden unit feeds the others through the weight that also produces it."""
    layout = na.Layout([na.recurrent("rnn", input="i", recurrent="r", gates=1)])
    params = {"i": np.ones((3, 2)), "r": np.ones((3, 3))}
    fresh = {name: 7 * array for name, array in params.items()}
    result = na.reset(params, fresh, {"rnn": mask(3, 1)}, layout)
    np.testing.assert_array_equal(result["r"], [[1, 0, 1], [7, 0, 7], [1, 0, 1]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_old_values_that_are_not_finite_are_replaced(bad, backend):
    """Fault 14: ``w * (1 - mask)`` keeps NaN. A selection replaces it, in rows, columns and moments."""
    sick = {name: np.full(shape, bad) for name, shape in SHAPES.items()}
    masks = backend.arrays({"a": mask(3, 0, 1, 2), "b": mask(4, 0, 1, 2, 3)})
    result = na.reset(backend.arrays(sick), backend.arrays(ramp(1)), masks, CHAIN)
    moments = na.reset_moments(backend.arrays(sick), masks, CHAIN)
    for name in ("a.w", "a.b", "b.w", "b.b", "c.w"):
        assert np.isfinite(to_numpy(result[name])).all()
        assert (to_numpy(moments[name]) == 0).all()
    assert not np.isfinite(to_numpy(result["c.b"])).any()


def test_fresh_values_that_are_not_finite_stay_where_they_are_masked(backend):
    """The other half of fault 14: ``fresh * mask`` would spread a NaN of ``fresh`` over healthy neurons."""
    fresh = {name: np.full(shape, np.nan) for name, shape in SHAPES.items()}
    masks = backend.arrays({"a": mask(3, 1)})
    result = na.reset(backend.arrays(ramp(1)), backend.arrays(fresh), masks, CHAIN)
    assert np.isnan(to_numpy(result["a.w"])).sum() == 2
    assert np.isfinite(to_numpy(result["b.w"])).all()


def test_untouched_entries_keep_their_bits(backend):
    """Edge case, bit-identical: the payload of a NaN, the sign of a zero, the smallest denormal, in every library."""
    masks = {"a": mask(3, 1), "b": mask(4, 3)}
    touched = na.reset_moments({name: np.ones(shape) for name, shape in SHAPES.items()}, masks, CHAIN)
    masks = backend.arrays(masks)
    for dtype in {"float16", "float32", "float64"} & set(backend.dtypes):
        integer = np.dtype(dtype.replace("float", "uint"))
        generator = np.random.default_rng(11)
        top = 2 ** (8 * integer.itemsize)
        bits = {name: generator.integers(0, top, shape, dtype=integer) for name, shape in SHAPES.items()}
        bits["a.w"][0] = [np.array(-0.0, dtype).view(integer), 1]
        bits["a.b"][0] = np.array(np.nan, dtype).view(integer) + 5
        params = {name: backend.asarray(array.view(dtype), dtype) for name, array in bits.items()}
        fresh = backend.arrays(ramp(1), dtype)
        written, cleared = na.reset(params, fresh, masks, CHAIN), na.reset_moments(params, masks, CHAIN)
        for name, old in bits.items():
            same = touched[name] != 0
            for result in (written, cleared):
                new = np.asarray(result[name]).view(integer)
                np.testing.assert_array_equal(new[same], old[same], err_msg=f"{name}, {dtype}")
                assert (new[~same] != old[~same]).any() or same.all()


@pytest.mark.sampled(16)
@pytest.mark.parametrize("case", VARIED, ids=lambda case: case.name)
def test_inputs_are_not_changed(case, backend):
    """Edge case, inputs are never mutated by the core: the mappings and the arrays."""
    arrays = [case.draw(1), case.draw(2), case.draw_masks(3)]
    inputs = [backend.arrays(values) for values in arrays]
    before = [{name: to_numpy(array).copy() for name, array in values.items()} for values in inputs]
    params, fresh, masks = inputs
    na.reset(params, fresh, masks, case.layout)
    na.reset_moments(params, masks, case.layout, fresh)
    for values, old in zip(inputs, before, strict=True):
        assert list(values) == list(old)
        for name, array in values.items():
            np.testing.assert_array_equal(to_numpy(array), old[name])


def test_parameters_outside_the_layout_come_back_as_they_are():
    """Other parameters need be no arrays at all; what is not written is the very object that was given."""
    marker = object()
    params = ramp(1) | {"step": marker}
    result = na.reset(params, ramp(5), {"a": mask(3, 1)}, CHAIN)
    assert result["step"] is marker
    assert result["c.w"] is params["c.w"]
    assert list(result) == list(params)


def test_output_heads_are_passed_over(backend):
    """Edge case, output heads: masked like any group, but ``reset`` leaves them, whatever the mask says."""
    params = backend.arrays(ramp(1))
    masks = backend.arrays({"c": mask(2, 0, 1)})
    assert_same(na.reset(params, {}, masks, CHAIN), ramp(1), params)
    assert_same(na.reset_moments(params, masks, CHAIN), ramp(1), params)


def test_groups_absent_from_masks_are_left_alone(backend):
    """Edge case, a group that is absent from masks; neither its parameters nor its fresh values are needed."""
    params = backend.arrays({name: array for name, array in ramp(1).items() if name != "a.w"})
    fresh = backend.arrays({name: array for name, array in ramp(2001).items() if name[0] == "b"})
    result = na.reset(params, fresh, backend.arrays({"b": mask(4, 0)}), CHAIN)
    np.testing.assert_array_equal(to_numpy(result["b.w"])[0], ramp(2001)["b.w"][0])
    assert_same(na.reset(params, {}, {}, CHAIN), {name: to_numpy(array) for name, array in params.items()}, params)


def test_members_of_a_stack_are_reset_apart(backend):
    """Fault 10: twin critics flattened into one batch had their neurons merged."""
    params = {name: np.ones(shape) for name, shape in TWIN_CRITICS.shapes.items()}
    fresh = {name: np.full(shape, 7.0) for name, shape in TWIN_CRITICS.shapes.items()}
    masks = backend.arrays({"h": np.stack([mask(5, 2), mask(5, 0, 4)])})
    result = na.reset(backend.arrays(params), backend.arrays(fresh), masks, TWIN_CRITICS.layout)
    for member, indices in enumerate(([2], [0, 4])):
        rest = [i for i in range(5) if i not in indices]
        assert (to_numpy(result["h/w"])[member][:, indices] == 7).all()
        assert (to_numpy(result["h/b"])[member][indices] == 7).all()
        assert (to_numpy(result["q/w"])[member][indices] == 0).all()
        assert all((to_numpy(result[name])[member][..., rest] == 1).all() for name in ("h/w", "h/b"))
        assert (to_numpy(result["q/w"])[member][rest] == 1).all()


def test_scores_of_a_stack_are_those_of_its_members_alone():
    """Fault 10, on the scores: each critic is scored as if it were the only one."""
    grads = TWIN_CRITICS.draw(1)
    grads["h/w"][1] *= 1e6
    alone = na.Layout([na.dense("h", weight=("h/w", "in neuron"))])
    together = na.grama(grads, TWIN_CRITICS.layout)["h"]
    for member in range(2):
        np.testing.assert_array_equal(together[member], na.grama({"h/w": grads["h/w"][member]}, alone)["h"])


def test_a_stream_is_reset_with_all_its_writers_and_readers():
    """Fault 3: on a residual connection the skip's consumer kept its weights."""
    ones = {name: np.ones(shape) for name, shape in RESIDUAL.shapes.items()}
    sevens = {name: 7 * array for name, array in ones.items()}
    result = na.reset(ones, sevens, {"stream": mask(4, 3)}, RESIDUAL.layout)
    for writer in ("embed.w", "block.out.w"):
        assert (result[writer][3] == 7).all()
        assert (result[writer][:3] == 1).all()
    for reader in ("block.in.w", "head.w"):
        assert (result[reader][:, 3] == 0).all()
        assert (result[reader][:, :3] == 1).all()


def test_a_concatenation_is_cleared_at_the_index_and_nowhere_else():
    """-1 is nobody's: the columns of the observation stay, also when the last neuron is reset."""
    ones = {name: np.ones(shape) for name, shape in CONCATENATION.shapes.items()}
    result = na.reset(ones, ones, {"features": mask(3, 2)}, CONCATENATION.layout)
    assert (np.flatnonzero((result["fc.w"] == 0).all(axis=0)) == [2, 5]).all()
    assert result["fc.w"].sum() == 4 * 6


@pytest.mark.parametrize("names", [("layer_1", "layer_10"), ("layer_10", "layer_1")])
def test_zeros_land_in_the_layer_that_is_named(names):
    """Faults 4 and 8: order and index do not pair arrays, names do."""
    first, second = names
    layout = na.Layout([na.dense(first, weight=(first, "neuron in"), outgoing=[(second, "out neuron")])])
    params = {name: np.ones((3, 3)) for name in sorted({*names, "layer_2"})}
    result = na.reset(params, params, {first: mask(3, 0)}, layout)
    assert (result[second][:, 0] == 0).all()
    assert result["layer_2"].sum() == 9


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_subset_of_moments_may_be_none(case):
    """A parameter without a moment, like one that never got a gradient, stays None; the others are reset."""
    masks = case.draw_masks(1)
    for seed in range(8):
        present = np.random.default_rng(seed).random(len(case.shapes)) < 0.5
        moments = case.draw(2)
        moments = {name: moments[name] if there else None for name, there in zip(moments, present, strict=True)}
        expected = reference.reset_moments(moments, masks, case.layout)
        assert_same(na.reset_moments(moments, masks, case.layout), expected, moments)


def test_no_mask_is_true_in_dense_torch():
    """An all-False mask writes nothing, bit by bit."""
    params, fresh = DENSE_TORCH.draw(1), DENSE_TORCH.draw(2)
    masks = {name: np.zeros(shape, dtype=bool) for name, shape in DENSE_TORCH.scores.items()}
    assert_same(na.reset(params, fresh, masks, DENSE_TORCH.layout), params, params)
