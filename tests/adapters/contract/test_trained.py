"""Which groups an optimizer trains, partners among them, whose rule lists them: the same in all frameworks."""

import re

import numpy as np
import pytest

import neuroactivity as na
from tests.adapters.contract.network import DEAD, FRESH, Counts, gradients, reset, weights


def check(side, dead):
    """Only these neurons were reset."""
    expected = reset(weights(), dead, FRESH)
    for name, value in side.params().items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=side.rounding, err_msg=name)


@pytest.mark.parametrize("alone", ["value", "gate"])
def test_of_two_partners_of_which_one_is_trained_that_one_is_reset(case, alone):
    side = case.wrapped(optimizer="sgd", trained=[alone, "out"])
    side.step(gradients(DEAD))
    check(side, {alone: DEAD[alone]})
    assert side.counts() == Counts(1, 1, 1, 1)
    assert set(side.report().absent) == {"first", "value", "gate"} - {alone}


def test_two_partners_that_are_both_trained_are_both_reset(case):
    side = case.wrapped(optimizer="sgd", trained=["value", "gate", "out"])
    side.step(gradients(DEAD))
    check(side, {name: DEAD[name] for name in ("value", "gate")})
    assert side.counts() == Counts(1, 1, 1, 2)
    assert side.report().absent == ("first",)


def test_a_group_that_the_optimizer_trains_in_part_is_refused(case):
    message = (
        f"group 'first': a reset would write parameter {case.driver.name('gate/kernel')!r}, which this optimizer does "
        "not train; mark the group resettable=False, or train both with one optimizer"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        case.wrapped(trained=["first", "value", "out"])


def test_a_group_that_is_trained_in_part_may_be_measured(case):
    side = case.wrapped(optimizer="sgd", trained=["first", "value", "out"], max_fraction=0)
    side.step(gradients(DEAD))
    assert side.report().absent == ("gate",)
    assert side.report()["first"].inactive == 2
    check(side, {})


def test_the_optimizer_of_another_model_is_refused(case):
    message = "the optimizer trains none of the model's neuron groups; is it the model's own optimizer?"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        case.wrapped(trained=[])


def test_a_users_rule_is_asked_before_the_layers_own(driver):
    def rule(name, parameter):
        if name != driver.name("first/kernel"):
            return None
        return driver.group(na.dense("mine", weight=("first/kernel", "in neuron"), bias="first/bias"))

    groups = driver.find_layout(rule=rule)
    assert set(groups) == {"mine", "value", "gate", "out"}
    assert {view.param for view in groups["mine"].outgoing} == {
        driver.name("value/kernel"),
        driver.name("gate/kernel"),
    }
    assert groups["mine"].status == "exclusive"
