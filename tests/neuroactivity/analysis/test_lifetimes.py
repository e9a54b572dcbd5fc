"""Spells of inactivity: those that were planted, where every inactive measurement belongs, errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity import analysis
from neuroactivity.analysis import Spell

HISTORY = ["..####..", "#.......", "........", ".#.##..#", "########"]  # neurons by measurements, # = inactive
RESETS = ["...#....", "........", "..#.....", "....#..#", "........"]
SPELLS = (
    Spell(0, None, 2, 2, "reset"),
    Spell(0, None, 4, 2, "recovered"),
    Spell(1, None, 0, 1, "recovered"),
    Spell(3, None, 1, 1, "recovered"),
    Spell(3, None, 3, 2, "reset"),
    Spell(3, None, 7, 1, "reset"),
    Spell(4, None, 0, 8, "open"),
)


def drawn(rows):
    """Masks, measurements first, of a drawing in which a row is a neuron."""
    return np.array([[mark == "#" for mark in row] for row in rows]).T


def test_planted_spells_are_found(backend):
    """Recovery, reset with and without an inactive measurement after it, a spell from the first to the last one."""
    inactive, reset = ({"g": [backend.asarray(mask) for mask in drawn(rows)]} for rows in (HISTORY, RESETS))
    assert analysis.lifetimes(inactive, reset=reset) == {"g": SPELLS}


def test_a_leading_axis_of_time_is_a_sequence_of_masks(backend):
    inactive, reset = ({"g": backend.asarray(drawn(rows))} for rows in (HISTORY, RESETS))
    assert analysis.lifetimes(inactive, reset=reset) == {"g": SPELLS}


def test_without_resets_a_neuron_recovers_by_itself():
    """A group that is absent from the resets was not reset."""
    inactive = {"a": drawn(["##.#"]), "b": drawn(["##.#"])}
    spells = (Spell(0, None, 0, 2, "recovered"), Spell(0, None, 3, 1, "open"))
    assert analysis.lifetimes(inactive) == {"a": spells, "b": spells}
    found = analysis.lifetimes(inactive, reset={"b": drawn([".#.."])})
    assert found["a"] == spells
    assert [spell.end for spell in found["b"]] == ["reset", "open"]


def test_spells_of_a_stack_name_the_member(backend):
    first, second = drawn(["#.", ".."]), drawn(["..", ".#"])
    inactive = {"twins": backend.asarray(np.stack([first, second], axis=1))}  # (time, stack, neurons)
    assert analysis.lifetimes(inactive)["twins"] == (Spell(0, 0, 0, 1, "recovered"), Spell(1, 1, 1, 1, "open"))


def test_no_measurements_and_no_groups_have_no_spells():
    assert analysis.lifetimes({"a": [], "b": np.zeros((0, 3), dtype=bool)}) == {"a": (), "b": ()}
    assert analysis.lifetimes({}) == {}


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([(1,), (3,), (2, 3)]))
def test_spells_say_where_every_inactive_measurement_belongs(seed, times, shape):
    """Each is in exactly one spell; its end is what the masks say of the last and of the next measurement."""
    generator = np.random.default_rng(seed)
    inactive = generator.random((times, *shape)) < 0.7
    reset = generator.random((times, *shape)) < 0.3
    covered = np.zeros_like(inactive, dtype=int)
    for spell in analysis.lifetimes({"g": inactive}, reset={"g": reset})["g"]:
        place = (spell.neuron,) if spell.member is None else (spell.member, spell.neuron)
        last = spell.start + spell.length - 1
        covered[(slice(spell.start, last + 1), *place)] += 1
        assert not reset[(slice(spell.start, last), *place)].any()
        if spell.end == "reset":
            assert reset[(last, *place)]
        else:
            assert not reset[(last, *place)]
            assert (spell.end == "open") == (last == times - 1)
            assert spell.end == "open" or not inactive[(last + 1, *place)]
        before = (spell.start - 1, *place)
        assert spell.start == 0 or not inactive[before] or reset[before]
    np.testing.assert_array_equal(covered, inactive)


@pytest.mark.parametrize(
    ("inactive", "reset", "message"),
    [
        ([(2, bool)], {"b": [(2, bool)]}, "group 'b' of reset is missing in inactive; there are a"),
        ([(2, bool), (3, bool)], {}, "group 'a', inactive, measurement 1: expected shape (2,), got (3,)"),
        ([(2, float)], {}, "group 'a', inactive, measurement 0: expected a boolean mask, got float64"),
        ([(2, bool)], {"a": [(2, int)]}, "group 'a', reset, measurement 0: expected a boolean mask, got int64"),
        (
            [(2, bool)],
            {"a": [(2, bool)] * 2},
            "group 'a', reset: expected 1 masks of shape (2,) as of inactive, got 2 of shape (2,)",
        ),
        (
            [((), bool)],
            {},
            "group 'a', inactive, measurement 0: expected shape (neurons,) or (stack, neurons), got ()",
        ),
    ],
)
def test_masks_that_do_not_fit_together_are_an_error(inactive, reset, message):
    masks = [np.zeros(shape, dtype) for shape, dtype in inactive]
    resets = {name: [np.zeros(shape, dtype) for shape, dtype in series] for name, series in reset.items()}
    with pytest.raises(na.LayoutError) as caught:
        analysis.lifetimes({"a": masks}, reset=resets)
    assert str(caught.value) == message


def test_the_table_counts_ends_and_lengths():
    lines = analysis.lifetime_table({"fc": SPELLS, "quiet": ()}).splitlines()
    assert lines[0].split() == ["group", "spells", "reset", "open", "recovered", "median", "length", "longest"]
    assert lines[2].split() == ["fc", "7", "3", "1", "3", "42.9%", "2", "8"]
    assert lines[3].split() == ["quiet", "0", "0", "0", "0", "n/a"]
