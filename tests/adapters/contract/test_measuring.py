"""What the wrappers measure and report, and that measuring alone changes nothing: the same in all three frameworks."""

import numpy as np
import pytest

import neuroactivity as na
from tests.adapters.contract.network import DEAD, Counts, X, forward, gradients, layout, weights

SAMPLES = {"one axis of samples": X, "two axes of samples": X.reshape(8, 4, 5)}


def relu(x):
    return np.maximum(x, 0)


def score(magnitudes):
    """Divide the mean of each neuron by the mean of all."""
    means = np.mean(np.reshape(np.abs(magnitudes), (-1, magnitudes.shape[-1])), axis=0, dtype="float64")
    return means / means.mean()


def outputs(params, x=X):
    """What the layers behind read of each group, and what the network returns."""
    first = relu(x @ params["first/kernel"] + params["first/bias"])
    value, gate = (relu(first @ params[f"{name}/kernel"] + params[f"{name}/bias"]) for name in ("value", "gate"))
    return {"first": first, "value": value * gate, "gate": value * gate, "out": forward(params, x, relu)}


def test_measuring_alone_changes_nothing(case):
    plain, wrapped = case.plain(), case.wrapped(tau=0.9, max_fraction=0)
    for step in range(3):
        for side in (plain, wrapped):
            side.step(gradients(DEAD, step))
    for name, value in wrapped.params().items():
        np.testing.assert_array_equal(value, plain.params()[name], err_msg=name)
    for one, other in zip(wrapped.moments(), plain.moments(), strict=True):
        assert all(np.array_equal(value, other[name]) for name, value in one.items())
    assert wrapped.counts() == Counts(3, 3, 0, 0)
    assert wrapped.report()["first"].inactive >= 2
    assert wrapped.report().total.reset == 0


def test_any_optimizer_may_be_measured_and_only_a_known_one_reset(case):
    wrapped, plain = case.wrapped(optimizer="unknown", max_fraction=0), case.plain(optimizer="unknown")
    for side in (plain, wrapped):
        side.step(gradients(DEAD))
    assert wrapped.report()["first"].inactive == 2
    assert all(np.array_equal(value, plain.params()[name]) for name, value in wrapped.params().items())
    with pytest.raises(ValueError, match=r"optimizer|state"):
        case.wrapped(optimizer="unknown")


def test_scores_and_counts_are_those_of_the_formula(case):
    side, grads = case.wrapped(optimizer="sgd", tau=0.5, max_fraction=0), gradients(DEAD)
    side.step(grads)
    signal = outputs(weights()) if case.method == "redo" else {name: grads[f"{name}/kernel"] for name in layout()}
    report = side.report()
    assert (report.tau, report.absent) == (0.5, ())
    for name, values in signal.items():
        expected = score(values)
        np.testing.assert_allclose(report[name].scores[0], expected, rtol=1e-5, atol=1e-7, err_msg=name)
        assert report[name].inactive == (expected <= 0.5).sum()


@pytest.mark.filterwarnings("ignore:.*resets do not last")
def test_every_report_is_passed_on_when_a_step_is_due(case):
    reports, due = [], []
    side = case.wrapped(optimizer="sgd", every=2, on_report=reports.append)
    for step in range(1, 6):
        side.step(gradients(DEAD, step))
        due += [step] * (len(reports) - len(due))
    assert due == [2, 4]
    assert reports[-1] == side.report()
    assert isinstance(reports[0], na.ActivityReport)
    assert reports[0]["first"].reset == 2


@pytest.mark.parametrize("x", SAMPLES.values(), ids=SAMPLES)
@pytest.mark.parametrize("pattern", ["... neuron", "batch neuron", "neuron batch"])
def test_activations_come_as_their_pattern_says(driver, pattern, x):
    groups = layout(activation=pattern)
    seen, expected = driver().activations(x, groups), outputs(weights(), x)
    for name, scores in na.tau_dormant(seen, groups).items():
        np.testing.assert_allclose(scores, score(expected[name]), rtol=1e-5, atol=1e-7, err_msg=name)
    if pattern != "... neuron":
        rows = expected["first"].reshape(-1, 7)
        np.testing.assert_allclose(seen["first"], rows.T if pattern == "neuron batch" else rows, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pattern", ["... neuron", "batch neuron", "neuron batch"])
def test_redo_scores_neurons_whatever_the_order_of_axes(driver, pattern):
    side = driver("redo", optimizer="sgd", every=1, tau=0.0, groups=layout(activation=pattern))
    side.step(gradients({}))
    report = side.report()
    for name, values in outputs(weights()).items():
        np.testing.assert_allclose(report[name].scores[0], score(values), rtol=1e-5, atol=1e-7, err_msg=name)
    assert (side.params()["value/kernel"] == 0).all(axis=1).nonzero()[0].tolist() == DEAD["first"]


def test_groups_that_no_parameter_is_known_to_read_are_read_behind_their_activation_functions(driver):
    """Never before them: a dead ReLU neuron would come out as the most active of all."""
    groups = layout(outgoing=())
    scores = na.tau_dormant(driver().activations(X, groups), groups)
    for name, values in outputs(weights()).items():
        assert set(DEAD.get(name, [])) <= set((np.asarray(scores[name]) == 0).nonzero()[0].tolist())
        if name not in driver.read_as_factors:
            np.testing.assert_allclose(scores[name], score(values), rtol=1e-5, atol=1e-7, err_msg=name)
