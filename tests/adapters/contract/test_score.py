"""A score of the user's takes the place of the wrapper's own: in the same way in all three frameworks."""

import re

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.arrays import asarray_like, namespace
from tests.adapters.contract.network import DEAD, Counts, gradients

OWN = {"regrama": na.grama, "redo": na.tau_dormant}


def like_own(method):
    """Return what scores like the wrapper's own score, but is not that function."""
    return lambda signals, layout: OWN[method](signals, layout)


def size(signals, layout, params):
    """Score neurons by the mean size of their incoming weights."""
    return na.magnitudes(params, layout)


def constant(values):
    """Return a score that is the same whatever it is given; ``values`` by group name, 1 for all others."""

    def score(signals, layout):
        shapes = {"first": 7, "value": 6, "gate": 6, "out": 2}
        like = next(array for array in signals.values() if array is not None)
        own = {name: values.get(name, [1.0] * shapes[name]) for name in layout}
        return {name: asarray_like(tuple(own[name]), like=like, dtype=namespace(like).float32) for name in layout}

    return score


def take(side, grads):
    """Take a step and return its report."""
    side.step(grads)
    return side.report()


def run(case, steps=2, **options):
    """Return parameters, moments and counts after some steps."""
    side = case.wrapped(clock="run", **options)
    for step in range(steps):
        side.step(gradients(DEAD, step))
    return side.params(), *side.moments(), side.counts(), side.report()


def assert_same(one, other):
    for values, others in zip(one[:3], other[:3], strict=True):
        assert all(np.array_equal(value, others[name]) for name, value in values.items())
    assert one[3:] == other[3:]
    assert one[3].resets > 0


def test_the_own_score_given_by_hand_changes_nothing(case):
    usual = run(case)
    assert_same(run(case, score=OWN[case.method]), usual)
    assert_same(run(case, score=like_own(case.method)), usual)


def test_the_own_score_given_by_hand_adds_up_batches_as_ever(case):
    options = {"every": 2, "batches": 2}
    assert_same(run(case, score=OWN[case.method], **options), run(case, **options))


def test_a_score_of_the_parameters_finds_what_has_no_weights(case):
    """All neurons get gradients; those of ``DEAD`` have incoming weights of zero before the first step."""
    side = case.wrapped(score=size, optimizer="sgd", clock="run")
    side.step(gradients({}))
    assert side.counts() == Counts(1, 1, 1, 4)
    assert {group.name: group.reset for group in side.report().groups} == {"first": 2, "value": 1, "gate": 1, "out": 0}


def test_scores_are_compared_with_tau_as_they_are(case):
    first = [0.25, 0.5, 0.51, 8.0, 8.0, 8.0, 8.0]
    side = case.wrapped(score=constant({"first": first}), tau=0.5, clock="run")
    side.step(gradients({}))
    assert {group.name: group.reset for group in side.report().groups} == {"first": 2, "value": 0, "gate": 0, "out": 0}


def test_a_head_may_be_scored_and_is_not_reset(case):
    side = case.wrapped(score=constant({"out": [0.0, 1.0]}), clock="run")
    side.step(gradients({}))
    assert side.report()["out"].inactive == 1
    assert side.counts().neurons_reset == 0


@pytest.mark.parametrize(("tau", "inactive"), [(0.5, 7), (0.49, 0)])
def test_the_mean_over_batches_counts(driver, tau, inactive):
    """Twice gradients of size 1, and twice of 0."""
    options = {"max_fraction": 0, "optimizer": "sgd", "every": 4, "batches": 4}
    side = driver("regrama", score=lambda grads, layout: na.magnitudes(grads, layout), tau=tau, **options)
    for factor in (1, 0, 0, 1):
        side.step({name: np.full_like(value, factor) for name, value in gradients({}).items()})
    assert side.report()["first"].inactive == inactive


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_batch_without_gradients_of_a_group_takes_no_part(driver):
    """As it does not in JAX, where the tree of gradients is always the same."""
    if driver.__name__ == "JaxDriver":
        return
    options = {"max_fraction": 0, "optimizer": "sgd", "every": 3, "batches": 3}
    side = driver("regrama", score=lambda grads, layout: na.magnitudes(grads, layout), **options)
    for step, size in enumerate((1, 1, 4)):
        full = {name: np.full_like(value, size) for name, value in gradients({}).items()}
        side.step(full if step != 1 else {n: None if n.startswith("first") else v for n, v in full.items()})
    assert side.report()["first"].highest == pytest.approx(2.5)
    assert side.report()["value"].highest == pytest.approx(2.0)


def test_only_groups_with_gradients_have_to_be_scored(driver):
    options = {"trained": ("first", "value"), "every": 1, "tau": 0.0, "max_fraction": 0}
    side = driver("regrama", score=like_own("regrama"), **options)
    side.step(gradients(DEAD))
    assert side.report()["first"].inactive == 2


def returned(changes):
    """Return a score of ones, of which some are replaced; what is ``None`` is left out."""

    def score(signals, layout):
        found = constant({name: value for name, value in changes.items() if isinstance(value, list)})(signals, layout)
        found |= {name: value for name, value in changes.items() if not isinstance(value, list)}
        return {name: value for name, value in found.items() if value is not None}

    return score


NUMBERS = "expected finite scores of finite numbers, zeros too, got NaN or Inf"
BAD = {
    "no mapping": (lambda signals, layout: [1.0], "score: expected arrays by group name, got list"),
    "a group is missing": (returned({"value": None}), "score: group 'value' is missing; there are first, gate, out"),
    "a group too many": (
        returned({"head": 1.0}),
        "score: group 'head' is not in the layout; there are first, value, gate, out",
    ),
    "a number": (
        returned({"value": 1.0}),
        "score: group 'value': expected an array (NumPy, PyTorch, JAX, TensorFlow, Array API), got float",
    ),
    "too few": (returned({"value": [1.0] * 5}), "score: group 'value': expected scores of shape (6,), got (5,)"),
    "below zero": (
        returned({"value": [-0.5, *[1.0] * 5]}),
        "score: group 'value': expected scores of 0 or more, got -0.5",
    ),
    "not a number": (returned({"value": [float("nan")] * 6}), f"score: group 'value': {NUMBERS}"),
    "infinite": (returned({"value": [float("inf"), *[1.0] * 5]}), f"score: group 'value': {NUMBERS}"),
    "no function": (7, "score: expected a function of gradients or activations and a layout, got 7"),
}


@pytest.mark.sampled(24)
@pytest.mark.parametrize(("score", "message"), BAD.values(), ids=BAD)
@pytest.mark.counts(faults=1)
def test_what_is_no_score_is_refused_before_training(case, score, message):
    def attempt():
        side = case.wrapped(score=score, clock="run")
        assert case.method == "redo"  # whose activations JAX gets with the update
        side.step(gradients({}))

    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        attempt()


def test_whole_numbers_are_no_scores(case):
    def score(signals, layout):
        found = constant({})(signals, layout)
        xp = namespace(found["first"])
        return {name: xp.astype(value, xp.int32) for name, value in found.items()}

    with pytest.raises(ValueError, match=r"^score: group 'first': expected a real floating dtype, got .*int32$"):
        case.wrapped(score=score, clock="run").step(gradients({}))


def test_gradients_that_are_not_finite_may_give_scores_that_are_not(driver):
    side = driver("regrama", score=like_own("regrama"), every=1, tau=0.0)
    grads = gradients(DEAD)
    grads["first/kernel"][0, 0] = np.nan
    with pytest.warns(na.ActivityWarning, match=r"first \(not finite: NaN or Inf\)"):
        assert take(side, grads)["first"].reset == 0
    assert side.report()["value"].reset == 1


def go_on(side, state):
    """Resume a run, and take a step: JAX has no other moment to look at a state."""
    side.resume(state)
    side.step(gradients({}))


@pytest.mark.counts(faults=1)
def test_a_run_is_not_resumed_with_another_score(case):
    usual, other = case.wrapped(clock="run"), case.wrapped(score=size, clock="run")
    usual.step(gradients({}))
    other.step(gradients({}))
    for side, state, names in ((other, usual.state(), ("size", "own")), (usual, other.state(), ("own", "size"))):
        with pytest.raises(ValueError, match=r"^state: expected neurons scored by .*{}.*, got .*{}.*;".format(*names)):
            go_on(side, state)


def test_a_run_is_resumed_with_its_score_amid_its_batches(driver):
    whole, first, second = (driver("regrama", score=size, tau=0.0, every=2, batches=2, clock="run") for _ in range(3))
    for step in range(2):
        whole.step(gradients(DEAD, step))
    first.step(gradients(DEAD, 0))
    second.resume(first.state())
    second.step(gradients(DEAD, 1))
    assert all(np.array_equal(value, second.params()[name]) for name, value in whole.params().items())
    assert second.counts() == whole.counts() == Counts(2, 1, 1, 4)
