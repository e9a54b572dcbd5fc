"""Rows name exactly the entries that a reset writes, in its order, and whose they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity.wrapping import written_rows
from tests import reference
from tests.neuroactivity.cases import CASES, DENSE_TORCH, draw
from tests.neuroactivity.strategies import groups, seeds

OUTGOING = ("zero", "fresh", "keep")


def moved(array, rows):
    """A view of an array whose first axes are those that rows count."""
    return np.moveaxis(array.reshape(rows.bound.sizes), rows.axes, range(len(rows.axes)))


def reset_by_rows(params, fresh, masks, layout, outgoing):
    new = {name: array.copy() for name, array in params.items()}
    shapes = {name: array.shape for name, array in params.items()}
    for rows in written_rows(
        {n: np.flatnonzero(mask).tolist() for n, mask in masks.items()}, layout, shapes, outgoing=outgoing
    ):
        empty = rows.role == "outgoing" and outgoing == "zero"
        values = 0.0 if empty else moved(fresh[rows.view.param], rows)[rows.places]
        moved(new[rows.view.param], rows)[rows.places] = values
    return new


def assert_same_reset(layout, shapes, scored, seed, outgoing):
    params, fresh = draw(shapes, seed), draw(shapes, seed + 1)
    generator = np.random.default_rng(seed)
    masks = {name: generator.random(shape) < 0.5 for name, shape in scored.items()}
    expected = na.reset(params, fresh, masks, layout, outgoing=outgoing)
    for name, array in reset_by_rows(params, fresh, masks, layout, outgoing).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@given(groups(), seeds, st.sampled_from(OUTGOING))
def test_rows_are_what_a_reset_writes(drawn, seed, outgoing):
    layout, shapes, scored = drawn
    assert_same_reset(layout, shapes, {"g": scored}, seed, outgoing)


@pytest.mark.parametrize("outgoing", OUTGOING)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_are_what_a_reset_writes_in_every_layout(case, outgoing):
    assert_same_reset(case.layout, case.shapes, case.scores, 3, outgoing)


@given(groups(), st.data())
def test_each_row_belongs_to_its_owner(drawn, data):
    layout, shapes, scored = drawn
    owner = data.draw(st.integers(0, int(np.prod(scored)) - 1))
    mask = np.arange(np.prod(scored)).reshape(scored) == owner
    written = {name: np.zeros(shape, dtype=bool) for name, shape in shapes.items()}
    for rows in written_rows({"g": [owner]}, layout, shapes):
        assert set(rows.owners) <= {owner}
        assert len(rows.owners) == len(rows.places[0])
        moved(written[rows.view.param], rows)[rows.places] = True
    expected = {name: np.zeros(shape, dtype=bool) for name, shape in shapes.items()}
    roles = ("incoming", "unscored", "outgoing")
    for param, position in reference.entries_to_reset(roles, expected, {"g": mask}, layout):
        expected[param][position] = True
    for name, array in written.items():
        np.testing.assert_array_equal(array, expected[name])


def test_outgoing_rows_come_last():
    neurons = {name: range(np.prod(shape)) for name, shape in DENSE_TORCH.scores.items()}
    roles = [rows.role == "outgoing" for rows in written_rows(neurons, DENSE_TORCH.layout, DENSE_TORCH.shapes)]
    assert roles == sorted(roles)
    assert any(roles)


def test_a_missing_parameter_is_an_error():
    layout = na.Layout([na.dense("a", weight=("w", "in neuron"), outgoing=[("v", "neuron out")])])
    with pytest.raises(na.LayoutError, match="group 'a': parameter 'v' is missing"):
        written_rows({"a": [0]}, layout, {"w": (2, 1)})
    assert [rows.view.param for rows in written_rows({"a": [0]}, layout, {"w": (2, 1)}, outgoing="keep")] == ["w"]


def test_a_neuron_behind_the_last_of_an_index_owns_nothing_there():
    group = na.NeuronGroup("a", [("w", "neuron"), na.ParamView("v", "neuron", index=(0, 1))])
    rows = written_rows({"a": [1, 2]}, na.Layout([group]), {"w": (3,), "v": (2,)})
    assert {each.view.param: (each.places, each.owners) for each in rows} == {
        "w": (((1, 2),), (1, 2)),
        "v": (((1,),), (1,)),
    }
