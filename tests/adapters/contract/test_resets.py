"""What a reset writes, counts and leaves alone: the same in PyTorch, JAX and Keras."""

import numpy as np
import pytest

import neuroactivity as na
from tests.adapters.contract.network import DEAD, FRESH, Counts, gradients, reset, weights

NEURONS = sum(map(len, DEAD.values()))
SILENT = {"first": list(range(7))}


def same(one, other):
    """Compare arrays bit by bit; NaN equals NaN."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def train(side, *steps):
    for grads in steps:
        side.step(grads)
    return side


def test_a_due_step_resets_exactly_the_dead_neurons(case):
    """Everything else is bit for bit what the plain optimizer makes of it, its moments too."""
    steps = [gradients({}, 0), gradients({}, 1), gradients(DEAD, 2)]
    plain, wrapped = train(case.plain(), *steps), train(case.wrapped(every=3), *steps)
    written = reset({name: np.zeros_like(value) for name, value in plain.params().items()}, DEAD, FRESH)
    expected = reset(plain.params(), DEAD, FRESH)
    for name, value in wrapped.params().items():
        fresh = written[name] != 0
        np.testing.assert_array_equal(value[~fresh], expected[name][~fresh], err_msg=name)
        np.testing.assert_allclose(value[fresh], expected[name][fresh], rtol=0, atol=case.driver.rounding, err_msg=name)
    for cleared, moments in zip(wrapped.moments(), plain.moments(), strict=True):
        assert all((value != 0).any() for value in moments.values())
        same(cleared, reset(moments, DEAD, None))
    assert wrapped.counts() == Counts(3, 1, 1, NEURONS)
    report = wrapped.report()
    assert {group.name: group.reset for group in report.groups} == {"first": 2, "value": 1, "gate": 1, "out": 0}


def test_a_step_that_is_not_due_is_the_plain_step(case):
    plain, wrapped = case.plain(), case.wrapped(every=3)
    for step in (1, 2):
        same(train(wrapped, gradients(DEAD, step)).params(), train(plain, gradients(DEAD, step)).params())
        for one, other in zip(wrapped.moments(), plain.moments(), strict=True):
            same(one, other)
        assert wrapped.counts() == Counts(step, 0, 0, 0)
        assert wrapped.report() is None


def test_a_due_step_without_a_dead_neuron_is_the_plain_step(case):
    plain, wrapped = case.plain(initial=weights({})), case.wrapped(initial=weights({}))
    same(train(wrapped, gradients({})).params(), train(plain, gradients({})).params())
    assert wrapped.counts() == Counts(1, 1, 0, 0)


@pytest.mark.parametrize("neuron", [0, 6])
def test_exactly_one_neuron_is_reset_and_counted(case, neuron):
    dead = {"first": [neuron]}
    side = train(case.wrapped(initial=weights(dead), optimizer="sgd"), gradients(dead))
    assert side.counts() == Counts(1, 1, 1, 1)
    assert side.report().total.reset == side.report().total.inactive == 1
    expected = reset(weights(dead), dead, FRESH)
    for name, value in side.params().items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=case.driver.rounding, err_msg=name)
    assert (side.params()["value/kernel"][neuron] == 0).all()


def test_at_most_a_fraction_is_reset_the_lower_index_first(case):
    dead = {"first": [1, 4, 5]}
    side = train(case.wrapped(initial=weights(dead), optimizer="sgd", max_fraction=0.3), gradients(dead))
    assert side.counts() == Counts(1, 1, 1, 2)
    assert (side.report()["first"].inactive, side.report()["first"].reset) == (3, 2)
    assert (side.params()["gate/kernel"] == 0).all(axis=1).nonzero()[0].tolist() == [1, 4]


def test_measurements_go_on_after_a_reset(case):
    side = case.wrapped(optimizer="sgd", every=2)
    counted = []
    for step in range(5):
        counted.append(train(side, gradients({} if step > 1 else DEAD, step)).counts())
    assert [count.steps for count in counted] == [1, 2, 3, 4, 5]
    assert [count.measurements for count in counted] == [0, 1, 1, 2, 2]
    assert [count.resets for count in counted] == [0, 1, 1, 1, 1]
    assert counted[-1].neurons_reset == NEURONS


@pytest.mark.parametrize("reset_silent", [False, True])
def test_a_silent_group_is_named_and_reset_only_if_asked_for(case, reset_silent):
    """One warning for all measurements; it names the group."""
    start = weights(SILENT)
    side = case.wrapped(initial=start, optimizer="sgd", every=2, reset_silent=reset_silent)
    with pytest.warns(na.ActivityWarning) as caught:
        report = train(side, *[gradients(SILENT, step) for step in range(2)]).report()
    assert [str(warning.message) for warning in caught] == [
        "neurons could not be judged: first (silent: all scores zero)"
    ]
    assert (report["first"].silent, report["first"].reset) == (7, 7 if reset_silent else 0)
    assert side.counts() == (Counts(2, 1, 1, 7) if reset_silent else Counts(2, 1, 0, 0))
    unchanged = all(np.array_equal(value, start[name]) for name, value in side.params().items())
    assert unchanged is not reset_silent


def test_a_silent_group_is_warned_of_once_however_often_it_is_measured(case):
    side = case.wrapped(initial=weights(SILENT), optimizer="sgd")
    with pytest.warns(na.ActivityWarning) as caught:
        train(side, *[gradients(SILENT, step) for step in range(3)]).report()
    assert len(caught) == 1
    assert side.counts() == Counts(3, 3, 0, 0)


def test_what_is_not_finite_resets_nothing_in_its_group(case):
    """Neither the dead neurons of the group nor, where all gradients or inputs are NaN, anything at all."""
    grads, poisoned = gradients(DEAD), {name: np.full_like(value, np.nan) for name, value in gradients().items()}
    side, plain = case.wrapped(optimizer="sgd"), case.plain(optimizer="sgd")
    side.probe = np.full_like(side.probe, np.nan)
    poisoned = poisoned if case.method == "regrama" else grads
    with pytest.warns(na.ActivityWarning, match=r"first \(not finite: NaN or Inf\)"):
        report = train(side, poisoned).report()
    same(side.params(), train(plain, poisoned).params())
    assert side.counts() == Counts(1, 1, 0, 0)
    assert (report["first"].nonfinite, report["first"].inactive) == (7, 0)


def test_one_nan_among_the_gradients_of_a_group_spares_its_dead_neurons(driver):
    grads = gradients(DEAD)
    grads["first/kernel"][0, 0] = np.nan
    side = driver("regrama", optimizer="sgd", every=1, tau=0.0)
    with pytest.warns(na.ActivityWarning, match=r"first \(not finite: NaN or Inf\)"):
        report = train(side, grads).report()
    assert {group.name: group.reset for group in report.groups} == {"first": 0, "value": 1, "gate": 1, "out": 0}
    assert side.counts() == Counts(1, 1, 1, 2)
    assert np.isfinite(side.params()["first/kernel"][:, DEAD["first"]]).all()
