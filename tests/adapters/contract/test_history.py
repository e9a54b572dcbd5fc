"""What wrappers remember: when neurons were reset, and the batches of a score. When, what and how they reset."""

import numpy as np
import pytest

import neuroactivity as na
from tests.adapters.contract.network import DEAD, FRESH, READERS, X, gradients, weights
from tests.adapters.contract.test_measuring import outputs, score

pytestmark = pytest.mark.filterwarnings("ignore:.*resets do not last")
ALWAYS = {"optimizer": "sgd", "initial": weights()}
"""Nothing moves but by resets."""


def dead_again(side, steps, dead=DEAD):
    """Take steps with the same dead neurons; return how many were reset, and reset again."""
    told = []
    for step in range(steps):
        side.step(gradients(dead, step))
        total = side.report().total
        told.append((total.reset, total.reset_again))
    return told


def test_neurons_that_the_last_reset_reset_are_counted_where_they_are_inactive_again(driver):
    side = driver("regrama", every=1, tau=0.0, **ALWAYS)
    assert dead_again(side, 2) == [(4, 0), (4, 4)]
    side.step(gradients({}))
    assert (side.report().total.reset, side.report().total.reset_again) == (0, 0)
    side.step(gradients({"first": [1, 2]}))
    assert (side.report().total.reset, side.report().total.reset_again) == (2, 1)


@pytest.mark.filterwarnings("error:.*resets do not last")
def test_resets_that_do_not_last_are_warned_of_once(driver):
    side = driver("regrama", every=1, tau=0.0, **ALWAYS)
    side.step(gradients(DEAD))
    with pytest.warns(na.ActivityWarning, match=r"^4 of the neurons .* of 4 that are .* resets do not last"):
        dead_again(side, 1)
    dead_again(side, 2)


def test_a_protected_neuron_is_left_alone(driver):
    side = driver("regrama", every=1, tau=0.0, protect=2, **ALWAYS)
    assert [reset for reset, _ in dead_again(side, 5)] == [4, 0, 0, 4, 0]


@pytest.mark.counts(faults=1)
def test_a_limit_reaches_others_than_those_that_are_protected(driver):
    """Of a group's two dead neurons one may be reset at a time; the other one is, while the first is protected."""
    side = driver("regrama", every=1, tau=0.0, max_fraction=0.2, protect=1, **ALWAYS)
    assert [reset for reset, _ in dead_again(side, 3)] == [3, 1, 3]


def test_neurons_are_reset_from_start_to_stop_and_always_measured(driver):
    side = driver("regrama", every=1, tau=0.0, start=2, stop=3, **ALWAYS)
    assert [reset for reset, _ in dead_again(side, 4)] == [0, 4, 4, 0]
    assert side.counts().measurements == 4


def test_the_lowest_part_is_reset_whatever_the_threshold(driver):
    side = driver("regrama", every=1, tau=0.0, lowest=0.5, **ALWAYS)
    side.step(gradients({}))
    assert {group.name: group.reset for group in side.report().groups} == {"first": 3, "value": 3, "gate": 3, "out": 0}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("outgoing", ["zero", "keep", "small", "fresh"])
def test_outgoing_parameters_become_what_the_option_says(driver, outgoing):
    """And their moments are cleared unless they are kept."""
    dead, neurons = {"first": [1, 4]}, [1, 4]
    plain = driver(initial=weights(dead))
    side = driver("regrama", initial=weights(dead), every=2, tau=0.0, outgoing=outgoing)
    for each in (plain, side):
        each.step(gradients({}))
        each.step(gradients(dead, 1))
    assert side.counts().neurons_reset == 2
    for kernel in [f"{reader}/kernel" for reader in READERS["first"]]:
        rows, before = side.params()[kernel][neurons], plain.params()[kernel]
        if outgoing == "small":
            living = np.sqrt(np.mean(np.square(np.delete(before, neurons, axis=0))))
            np.testing.assert_allclose(np.sqrt(np.mean(np.square(rows), axis=1)), 0.02 * living, rtol=1e-4)
        else:
            expected = {"zero": np.zeros_like(rows), "keep": before[neurons], "fresh": FRESH[kernel][neurons]}
            np.testing.assert_allclose(rows, expected[outgoing], rtol=0, atol=driver.rounding)
        for moments, others in zip(side.moments(), plain.moments(), strict=True):
            kept = others[kernel][neurons] * (outgoing == "keep")
            np.testing.assert_array_equal(moments[kernel][neurons], kept)


def batches(case, side, *seen):
    """Take a step for each set of dead neurons, with other inputs for each; return what neurons are scored by."""
    signals = []
    for number, dead in enumerate(seen):
        side.probe, grads = X[number::2], gradients(dead, number)
        side.step(grads)
        kernels = {name.removesuffix("/kernel"): value for name, value in grads.items() if name.endswith("kernel")}
        signals.append(outputs(weights(), side.probe) if case.method == "redo" else kernels)
    return signals


def test_a_score_of_several_batches_is_that_of_their_magnitudes_together(case):
    """Of three steps the last two; neurons that are dead in one of them alone are not reset."""
    side = case.wrapped(every=3, batches=2, **ALWAYS)
    _, *signals = batches(case, side, {}, {"first": [1, 2]}, {"first": [1, 4]})
    report = side.report()
    for name in signals[0]:
        means = [np.abs(s[name]).reshape(-1, s[name].shape[-1]).mean(0, dtype="float64") for s in signals]
        np.testing.assert_allclose(report[name].scores[0], score(sum(means)), rtol=1e-5, atol=1e-7, err_msg=name)
    if case.method == "regrama":
        assert (np.asarray(report["first"].mask[0]).nonzero()[0] == [1]).all()


def test_each_score_is_of_its_own_batches(driver):
    side = driver("regrama", every=2, batches=2, tau=0.0, **ALWAYS)
    for dead, expected in (({}, None), ({}, 0), (DEAD, 0), (DEAD, 4)):
        side.step(gradients(dead))
        assert (side.report() and side.report().total.reset) == expected


def test_resumed_in_the_middle_of_a_collection_equals_uninterrupted(driver):
    told = []
    for pause in (None, 3, 4, 6):
        side = driver("regrama", every=3, batches=2, tau=0.0, protect=1)
        reset = []
        for step in range(1, 10):
            if step == pause:
                state, side = side.state(), driver("regrama", every=3, batches=2, tau=0.0, protect=1)
                side.resume(state)
            side.step(gradients(DEAD if step in (2, 3, 5, 6, 8, 9) else {}, step))
            reset.append(side.counts().neurons_reset)
        told.append((reset, side.report().total.reset_again, {n: v.tobytes() for n, v in side.params().items()}))
    assert told[0][0] == [0, 0, 4, 4, 4, 4, 4, 4, 8]
    assert all(one == told[0] for one in told[1:])


def test_scalars_have_the_same_keys_at_any_time(driver):
    side = driver("regrama", every=2, tau=0.0, **ALWAYS)
    side.step(gradients(DEAD))
    before = side.scalars("net")
    assert np.isnan(before["net/first/inactive_fraction"])
    side.step(gradients(DEAD))
    after = side.scalars("net")
    assert before.keys() == after.keys()
    keys = ("neurons", "inactive", "reset", "reset_again", "silent", "nonfinite")
    assert [after[f"net/{key}"] for key in keys] == [21, 4, 4, 0, 0, 0]
    assert after["net/first/inactive_fraction"] == pytest.approx(2 / 7)
