"""What is probed: written to row by row, put back for the next probe, and never anybody else's."""

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.discovery.values import FreshDraws, Values
from tests.neuroactivity.discovery.arrays import LIBRARIES

VIEW = na.ParamView("w", "in neuron")
SHAPE = (3, 4)
BOUND = VIEW.bind(SHAPE)


def drawn(number: int, library: str = "numpy"):
    value = np.arange(1, 13, dtype="float32").reshape(SHAPE) + 100 * number
    return {"w": LIBRARIES[library].asarray(value.copy())}


def read(params) -> list[list[float]]:
    return np.asarray(params["w"]).tolist()


@pytest.mark.parametrize("library", LIBRARIES)
def test_rows_are_written_and_the_next_probe_finds_them_as_they_were(library):
    draws = [drawn(number, library) for number in range(2)]
    values = Values(draws)
    params = values.turn_to(0)
    values.fill(params, "w", [1, 3], BOUND, 0.0)
    assert read(params) == [[1, 0, 3, 0], [5, 0, 7, 0], [9, 0, 11, 0]]
    values.oppose(params, "w", [(0, 2)], BOUND)
    assert read(params) == [[1, 0, -1, 0], [5, 0, -5, 0], [9, 0, -9, 0]]
    for number in (0, 1, 0):
        assert read(values.turn_to(number)) == read(drawn(number))
    assert [read(draw) for draw in draws] == [read(drawn(0)), read(drawn(1))]


def test_arrays_that_are_not_ours_are_never_written_to():
    draws = [{"w": np.asfortranarray(drawn(0)["w"])}]
    draws[0]["w"].flags.writeable = False
    values = Values(draws)
    params = values.turn_to(0)
    values.fill(params, "w", [0], BOUND, 7.0)
    assert read(params)[0] == [7, 2, 3, 4]
    assert read(draws[0]) == read(drawn(0))


def test_neurons_that_share_an_axis_are_written_to_by_their_rows():
    view = na.ParamView("w", "in (gate neuron)", {"gate": 2})
    values = Values([drawn(0)])
    params = values.turn_to(0)
    values.fill(params, "w", [1], view.bind(SHAPE), 0.0)
    assert read(params)[0] == [1, 0, 3, 0]


def fresh(made: list[tuple[int, str]], count: int = 2) -> Values:
    """Two arrays, of which each time one is drawn is written down."""

    def sample(number: int, name: str, memory):
        made.append((number, name))
        return drawn(number)["w"]

    return Values(FreshDraws(sample, ["w", "v"], count))


def test_of_a_fresh_draw_only_what_was_written_is_drawn_again():
    made: list[tuple[int, str]] = []
    values = fresh(made)
    memory = values.turn_to(0)["w"]
    for number in (0, 0, 1, 1):
        params = values.turn_to(number)
        assert params["w"] is memory
        assert read(params) == params["v"].tolist() == read(drawn(number))
        values.fill(params, "w", [1], BOUND, 0.0)
    assert made == [(0, "w"), (0, "v"), (0, "w"), (1, "w"), (1, "v"), (1, "w")]


@pytest.mark.parametrize("spoil", ["zero", "fill"])
def test_a_fresh_draw_that_was_overwritten_is_made_again(spoil):
    values = fresh([])
    params = values.turn_to(0)
    if spoil == "zero":
        values.zero(params, ["w"])
    else:
        values.fill(params, "w", [0, 1, 2, 3], BOUND, 0.0)
    assert not params["w"].any()
    assert read(values.turn_to(0)) == read(drawn(0))
