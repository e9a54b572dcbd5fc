"""From a series of probes to a view: which neuron feeds which position, and how that is written down."""

import pytest

import neuroactivity as na
from neuroactivity.discovery.decoding import decode, feeding_view, fill_regular

AXIS = ("w", 1)
OFTEN = 10


# decode: which neuron feeds which position


def test_a_position_is_fed_by_the_neuron_that_was_active_whenever_it_was_live():
    silenced = OFTEN * [{"u": frozenset(members)} for members in ([0], [1], [0, 1], [])]
    live = OFTEN * [{AXIS: row} for row in ([True, False], [False, True], [False, False], [True, True])]
    readers = decode(silenced, live, {"u": 2}, least=2)[AXIS]
    assert readers.feeds("u") == {0: 1, 1: 0}
    assert readers.undecided == frozenset()


def test_a_position_that_is_rarely_live_is_undecided():
    silenced = OFTEN * [{"u": frozenset([0])}, {"u": frozenset([1])}, {"u": frozenset()}]
    live = OFTEN * [{AXIS: [True, False]}, {AXIS: [True, False]}, {AXIS: [True, True]}]
    readers = decode(silenced, live, {"u": 2}, least=OFTEN + 1)[AXIS]
    assert readers.feeds("u") == {}
    assert readers.undecided == {1}


def test_a_position_with_several_candidates_is_fed_by_none_alone():
    silenced = OFTEN * [{"u": frozenset([0, 1])}, {"u": frozenset([2])}]
    live = OFTEN * [{AXIS: [False]}, {AXIS: [True]}]
    readers = decode(silenced, live, {"u": 3}, least=1)[AXIS]
    assert readers.candidates["u"] == {0: (0, 1)}
    assert readers.feeds("u") == {}


def test_a_neuron_that_was_never_silenced_feeds_nothing():
    """A layer of one neuron is never silenced, since that would silence all behind it; it explains nothing."""
    silenced = [{"one": frozenset(), "u": frozenset(members)} for members in OFTEN * ([0], [1], [0])]
    live = [{AXIS: [True, True]}] * len(silenced)
    assert decode(silenced, live, {"one": 1, "u": 2}, least=2)[AXIS].feeds("one") == {}


# fill_regular: regular forms


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("neuron", {p: p for p in range(12)}),
        ("(neuron hw)", {p: p // 3 for p in range(12)}),
        ("(hw neuron)", {p: p % 4 for p in range(12)}),
    ],
)
def test_a_whole_axis_is_named_and_its_gaps_filled_only_where_nothing_was_decided(name, form):
    size = len(form)
    neurons = max(form.values()) + 1
    assert fill_regular(form, frozenset(), neurons, size) == (name, form)
    lacking = {p: neuron for p, neuron in form.items() if p != 2}
    assert fill_regular(lacking, frozenset([2]), neurons, size) == (name, form)
    assert fill_regular(lacking, frozenset(), neurons, size) == ("", lacking)


@pytest.mark.parametrize("form", [{13 + i: i for i in range(10)}, {22 - i: i for i in range(10)}])
def test_an_offset_and_a_flip_are_completed(form):
    assert fill_regular(form, frozenset(), 10, 25) == ("", form)
    lacking = {p: neuron for p, neuron in form.items() if neuron != 3}
    (gap,) = form.keys() - lacking.keys()
    assert fill_regular(lacking, frozenset([gap, 24]), 10, 25) == ("", form)
    assert fill_regular(lacking, frozenset([24]), 10, 25) == ("", lacking)


def test_an_irregular_map_is_left_as_it_is():
    form = {0: 2, 1: 0, 2: 1}
    assert fill_regular(form, frozenset([3]), 4, 4) == ("", form)


def test_more_is_not_filled_in_than_is_needed():
    """Neurons beside inputs that are always zero feed their own positions, not the other ones too."""
    form = {p: p for p in range(8)}
    assert fill_regular(form, frozenset(range(8, 16)), 8, 16) == ("", form)


# feeding_view: the map as a view


@pytest.mark.parametrize(
    ("own", "axis", "name", "expected"),
    [
        (("w", "neuron in"), 1, "neuron", na.ParamView("w", "out neuron")),
        (("w", "in neuron"), 0, "(hw neuron)", na.ParamView("w", "(hw neuron) out")),
        (("w", "neuron in h w"), 1, "neuron", na.ParamView("w", "out neuron h w")),
        (("w", "neuron in h w"), 0, "(neuron hw)", na.ParamView("w", "(neuron hw) in h w")),
        (("w", "(gate neuron) in", {"gate": 4}), 1, "neuron", na.ParamView("w", "(gate out) neuron", {"gate": 4})),
        (("w", "neuron in"), 1, "", na.ParamView("w", "out neuron", index=(-1, 0, 1, 2, -1))),
    ],
)
def test_a_map_is_written_down_in_the_names_of_the_reader(own, axis, name, expected):
    assert feeding_view(na.ParamView(*own), axis, name, {1: 0, 2: 1, 3: 2}, 5, stacks=0) == expected


@pytest.mark.parametrize(
    ("own", "stacks", "words"),
    [
        ("stack", 1, "stack"),
        ("stack", 0, "copies"),
        ("stack stack", 2, "stack stack"),
        ("stack stack", 1, "stack copies"),
        ("stack stack", 0, "copies copies1"),
    ],
)
def test_copies_are_a_stack_only_to_a_stack(own, stacks, words):
    axis = len(own.split())
    view = feeding_view(na.ParamView("w", f"{own} in neuron"), axis, "neuron", {}, 5, stacks=stacks)
    assert view == na.ParamView("w", f"{words} neuron out")
