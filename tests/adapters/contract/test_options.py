"""Options that are unknown, mistyped or out of range are refused in the same words in all three frameworks."""

import re

import pytest

REFUSED = {
    "every is no number": ({"every": "x"}, "every: expected a whole number of steps of 1 or more, got 'x'"),
    "every is zero": ({"every": 0}, "every: expected a whole number of steps of 1 or more, got 0"),
    "every is no whole number": ({"every": 2.5}, "every: expected a whole number of steps of 1 or more, got 2.5"),
    "tau is negative": ({"tau": -1}, "tau: expected a finite number of 0 or more, got -1"),
    "tau is NaN": ({"tau": float("nan")}, "tau: expected a finite number of 0 or more, got nan"),
    "tau is no number": ({"tau": "low"}, "tau: expected a finite number of 0 or more, got 'low'"),
    "max_fraction is above one": ({"max_fraction": 2}, "max_fraction: expected a number in [0, 1] or None, got 2"),
    "max_fraction is no number": (
        {"max_fraction": "5%"},
        "max_fraction: expected a number in [0, 1] or None, got '5%'",
    ),
    "reset_silent is a word": ({"reset_silent": "yes"}, "reset_silent: expected True or False, got 'yes'"),
    "lowest is above one": ({"lowest": 1.5}, "lowest: expected a number in [0, 1] or None, got 1.5"),
    "start is negative": ({"start": -1}, "start: expected a whole number of 0 or more, got -1"),
    "stop is before start": ({"start": 9, "stop": 5}, "stop: expected a whole number of 9 or more, got 5"),
    "batches is zero": ({"batches": 0}, "batches: expected a whole number of 1 or more, got 0"),
    "more batches than steps": ({"every": 3, "batches": 4}, "batches: expected at most every=3, got 4"),
    "protect is no whole number": ({"protect": 1.5}, "protect: expected a whole number of 0 or more, got 1.5"),
    "outgoing is mistyped": (
        {"outgoing": "none"},
        "outgoing: expected 'zero', 'small', 'fresh' or 'keep', got 'none'",
    ),
    "clock is mistyped": ({"clock": "mine"}, "clock: expected 'own' or 'run', got 'mine'"),
    "on_report is no function": ({"on_report": 3}, "on_report: expected a function of a report or None, got 3"),
}

MISTYPED = {
    "attention": ({"attention": "head"}, "attention: expected 'channels' or 'heads', got 'head'"),
    "shared": ({"shared": "skp"}, "shared: expected 'incoming' or 'skip', got 'skp'"),
}


@pytest.mark.sampled(54)
@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_values_out_of_range_are_refused(case, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        case.wrapped(**options)


def test_an_initializer_that_does_not_exist_is_refused(case):
    names = ", ".join(map(repr, case.driver.initializers))
    message = f"initializer: expected {names} or a function from a key, got 'layers'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        case.wrapped(initializer="layers")


@pytest.mark.parametrize("option", ["evry", "max_frac", "resetsilent"])
def test_an_unknown_option_is_named(case, option):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
        case.wrapped(**{option: 1})


@pytest.mark.parametrize(("options", "message"), MISTYPED.values(), ids=MISTYPED)
def test_a_mistyped_choice_of_layout_of_is_refused(driver, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        driver.find_layout(**options)
