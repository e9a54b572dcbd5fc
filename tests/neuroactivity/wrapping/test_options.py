"""When a measurement is due."""

import re

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.errors import check_choice
from neuroactivity.wrapping import ResetOptions, as_inputs, check_every, check_initializer, is_due


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 2.5}, "every: expected a whole number of steps of 1 or more, got 2.5"),
        ({"tau": -1.0}, "tau: expected a finite number of 0 or more, got -1.0"),
        ({"max_fraction": 2}, "max_fraction: expected a number in [0, 1] or None, got 2"),
        ({"reset_silent": "no"}, "reset_silent: expected True or False, got 'no'"),
        ({"lowest": -1}, "lowest: expected a number in [0, 1] or None, got -1"),
        ({"start": -1}, "start: expected a whole number of 0 or more, got -1"),
        ({"start": 500, "stop": 100}, "stop: expected a whole number of 500 or more, got 100"),
        ({"batches": 0}, "batches: expected a whole number of 1 or more, got 0"),
        ({"every": 4, "batches": 5}, "batches: expected at most every=4, got 5"),
        ({"protect": 1.5}, "protect: expected a whole number of 0 or more, got 1.5"),
        ({"outgoing": "none"}, "outgoing: expected 'zero', 'small', 'fresh' or 'keep', got 'none'"),
        ({"clock": "mine"}, "clock: expected 'own' or 'run', got 'mine'"),
        ({"on_report": "print"}, "on_report: expected a function of a report or None, got 'print'"),
    ],
)
def test_an_option_out_of_range_is_an_error(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ResetOptions(**options)


def test_a_score_may_take_every_step_from_one_measurement_to_the_next():
    assert ResetOptions(every=4, batches=4).batches == 4


def test_an_option_that_there_is_not_is_an_error():
    with pytest.raises(TypeError, match="taw"):
        ResetOptions(taw=0.1)


def test_options_choose_the_masks_that_reset_masks_would():
    scores = {"fc": np.array([0.0, 0.02, 3.0, 0.98]), "silent": np.zeros(3)}
    options = ResetOptions(tau=0.05, max_fraction=0.25, every=np.int64(7), reset_silent=True)
    expected = na.reset_masks(scores, 0.05, max_fraction=0.25, reset_silent=True)
    masks = options.masks(scores)
    assert all(np.array_equal(masks[name], expected[name]) for name in scores)
    assert (options.every, options.writes, ResetOptions(max_fraction=0).writes) == (7, True, False)


def test_resets_are_made_from_the_first_step_to_the_last_that_is_named():
    options = ResetOptions(start=3, stop=5)
    assert [step for step in range(1, 8) if options.resets_at(step)] == [3, 4, 5]
    assert ResetOptions().resets_at(1)


def test_the_last_batches_before_a_measurement_are_collected():
    options = ResetOptions(every=5, batches=2)
    assert [step for step in range(1, 11) if options.collects_at(step)] == [4, 5, 9, 10]
    assert [step for step in range(1, 11) if ResetOptions(every=5).collects_at(step)] == [5, 10]


def test_an_initializer_has_a_known_name_or_is_a_function():
    check_initializer("layer", "layer", "snapshot")
    check_initializer(dict, "snapshot")
    for wrong in ("layers", None, 3):
        message = f"^initializer: expected 'layer', 'snapshot' or a function from a key, got {wrong!r}$"
        with pytest.raises(ValueError, match=message):
            check_initializer(wrong, "layer", "snapshot")


def test_inputs_are_one_or_several():
    assert as_inputs(1) == (1,)
    assert as_inputs([1, 2]) == as_inputs((1, 2)) == (1, 2)


@pytest.mark.parametrize("value", ["head", None, 1, True, ["heads"]])
def test_a_choice_is_one_of_the_choices(value):
    check_choice("attention", "heads", ("channels", "heads"))
    with pytest.raises(ValueError, match=re.escape(f"attention: expected 'channels' or 'heads', got {value!r}")):
        check_choice("attention", value, ("channels", "heads"))
