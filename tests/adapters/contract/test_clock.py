"""A reset neuron's own clock: written entries take the steps of Adam with a step count for each entry."""

import numpy as np
import pytest

import neuroactivity_jax.clock
import neuroactivity_tensorflow.clock
import neuroactivity_torch.clock
from tests.adapters.contract.network import DEAD, FRESH, gradients, reset, weights

pytestmark = pytest.mark.filterwarnings("ignore:.*resets do not last")
LR, B1, B2 = 0.01, 0.9, 0.999
EVERY = 4


def grads(step, every=EVERY):
    """Gradients of the step, counted from 1, with dead neurons where a measurement is due."""
    return gradients(DEAD if step % every == 0 else {}, step)


class PerEntry:
    """Adam in float64, with a step count for each entry."""

    def __init__(self):
        self.params = {name: value.astype("float64") for name, value in weights().items()}
        self.t, self.m, self.v = ({n: np.zeros_like(p) for n, p in self.params.items()} for _ in range(3))

    def step(self, grads):
        for name, g in grads.items():
            self.t[name] += 1
            self.m[name] = B1 * self.m[name] + (1 - B1) * g.astype("float64")
            self.v[name] = B2 * self.v[name] + (1 - B2) * g.astype("float64") ** 2
            m, v = self.m[name] / (1 - B1 ** self.t[name]), self.v[name] / (1 - B2 ** self.t[name])
            self.params[name] -= LR * m / (np.sqrt(v) + 1e-8)

    def reset(self, *, clock):
        self.params = reset(self.params, DEAD, FRESH)
        self.m, self.v = reset(self.m, DEAD, None), reset(self.v, DEAD, None)
        if clock == "own":
            self.t = reset(self.t, DEAD, None)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("clock", ["own", "run"])
@pytest.mark.parametrize("every", [1, 4])
def test_entries_take_the_steps_that_their_clock_says(driver, clock, every):
    side, reference = driver("regrama", every=every, tau=0.0, clock=clock), PerEntry()
    for step in range(1, 12):
        side.step(grads(step, every))
        reference.step(grads(step, every))
        if step % every == 0:
            reference.reset(clock=clock)
        for name, value in side.params().items():
            np.testing.assert_allclose(value, reference.params[name], rtol=0, atol=3e-6, err_msg=f"{name}, {step}")
    assert side.counts().resets == 11 // every


def test_the_own_clock_is_the_default_and_is_handed_over_at_the_end_of_youth(driver, monkeypatch):
    """The steps of the run and those of the entries' own counts are the same then, up to what averages have seen."""
    for clock in (neuroactivity_jax.clock, neuroactivity_tensorflow.clock, neuroactivity_torch.clock):
        monkeypatch.setattr(clock, "YOUNG", 50)
    side, reference, end = driver("regrama", every=EVERY, tau=0.0, stop=EVERY), PerEntry(), 60
    for step in range(1, end + 1):
        side.step(grads(step, end if step > EVERY else EVERY))
        reference.step(grads(step, end if step > EVERY else EVERY))
        if step == EVERY:
            reference.reset(clock="own")
    for name, value in side.params().items():
        np.testing.assert_allclose(value, reference.params[name], rtol=0, atol=2e-4, err_msg=name)
    written = reset({name: np.zeros_like(value) for name, value in FRESH.items()}, DEAD, FRESH)
    for name, first in side.moments()[0].items():
        own = reference.m[name] * (1 - B1**end) / (1 - B1 ** reference.t[name])
        where = written[name] != 0
        np.testing.assert_allclose(first[where], own[where], rtol=1e-2, atol=1e-4, err_msg=name)


@pytest.mark.sampled(3)
def test_entries_that_no_reset_wrote_are_those_of_the_run_without_resets(case):
    plain, wrapped = case.plain(), case.wrapped(every=EVERY)
    for step in range(1, 11):
        for side in (plain, wrapped):
            side.step(grads(step))
    assert wrapped.counts().resets > 0
    ones, twos = ({name: np.full_like(value, number) for name, value in FRESH.items()} for number in (1, 2))
    untouched = {name: value == 1 for name, value in reset(ones, DEAD, twos).items()}
    for one, other in zip([wrapped.params(), *wrapped.moments()], [plain.params(), *plain.moments()], strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(value[untouched[name]], other[name][untouched[name]], err_msg=name)


def test_an_optimizer_without_a_bias_correction_has_no_clock(case):
    ends = []
    for clock in ("own", "run"):
        side = case.wrapped(optimizer="sgd", every=2, clock=clock)
        for step in range(1, 6):
            side.step(grads(step, 2))
        ends.append(side.params())
    assert all(np.array_equal(value, ends[1][name]) for name, value in ends[0].items())


def test_resumed_while_entries_are_young_equals_uninterrupted(driver):
    ends = []
    for pause in (None, 6, 9):
        side = driver("regrama", every=EVERY, tau=0.0)
        for step in range(1, 13):
            if step == pause:
                state, side = side.state(), driver("regrama", every=EVERY, tau=0.0)
                side.resume(state)
            side.step(grads(step))
        ends.append([side.params(), *side.moments()])
    for resumed in ends[1:]:
        for one, other in zip(resumed, ends[0], strict=True):
            assert all(np.array_equal(value, other[name]) for name, value in one.items())
