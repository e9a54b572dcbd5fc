"""The chain of DACER that takes noise away from an action, and the network that it asks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroactivity_jax import layout_of
from reference_agents.config import Config
from reference_agents.jax import diffusion
from reference_agents.jax.diffusion import TIME, Denoiser, denoise, variance_preserving
from tests.reference_agents.cases import ACTION, OBSERVATION
from tests.reference_agents.jax.dacer_cases import HIDDEN, check_actors_layout, normal

STEPS = st.integers(1, 100)


@pytest.mark.slow
@given(STEPS)
def test_the_schedule_preserves_variance_and_ends_in_noise(steps):
    schedule = diffusion.Schedule(*map(np.asarray, variance_preserving(steps)))
    assert all(values.shape == (steps,) and values.dtype == np.float32 for values in schedule)
    np.testing.assert_allclose(schedule.signal**2 + schedule.noise**2, 1, rtol=1e-6)
    assert (np.diff(schedule.signal) < 0).all()
    assert schedule.signal[-1] == pytest.approx(math.exp(-5.05 / 2), rel=1e-5)  # whatever the number of steps


@pytest.mark.slow
@given(STEPS)
def test_undoing_a_step_leads_to_the_distribution_before_it(steps):
    schedule = diffusion.Schedule(*map(np.asarray, variance_preserving(steps)))
    signal, noise = np.append(1, schedule.signal[:-1]), np.append(0, schedule.noise[:-1])
    np.testing.assert_allclose(schedule.from_clean + schedule.from_noisy * schedule.signal, signal, rtol=1e-5)
    variance = (schedule.from_noisy * schedule.noise) ** 2 + schedule.fresh**2
    np.testing.assert_allclose(variance, noise**2, rtol=1e-4, atol=1e-7)
    assert (schedule.from_clean[0], schedule.from_noisy[0], schedule.fresh[0]) == (1, 0, 0)


# The chain


def perfect(schedule, estimate):
    """A denoiser that knows the actions: an estimate of them from noisy ones, given the shares of signal and noise."""

    def predict(noisy, number):
        signal, noise = (jnp.array(values)[number.astype(int)] for values in (schedule.signal, schedule.noise))
        return (noisy - signal * estimate(noisy, signal, noise)) / noise

    return predict


@pytest.mark.sampled(1)
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_a_perfect_denoiser_of_one_action_leads_to_that_action(steps):
    schedule, action = variance_preserving(steps), jnp.array([0.3, -0.9, 1.0])
    predict = perfect(schedule, lambda *_: action)
    actions, path = denoise(predict, schedule, normal(0, 50, 3), normal(1, steps, 50, 3))
    np.testing.assert_allclose(actions, jnp.broadcast_to(action, (50, 3)), atol=1e-5)
    assert path.shape == (steps, 50, 3)
    np.testing.assert_array_equal(path[-1], normal(0, 50, 3))


def test_a_perfect_denoiser_of_two_actions_leads_to_each_as_often_as_it_occurs():
    schedule = variance_preserving(20)

    def expected(noisy, signal, noise):
        log_odds = math.log(3) + noisy * signal / noise**2  # of 0.5 against -0.5, which is a third as likely
        return jnp.tanh(log_odds / 2) / 2

    actions, _ = denoise(perfect(schedule, expected), schedule, normal(0, 4000, 1), normal(1, 20, 4000, 1))
    assert (abs(abs(actions) - 0.5) < 0.02).mean() > 0.98  # the others were noisy enough to be either up to the end
    assert (actions > 0).mean() == pytest.approx(0.75, abs=0.03)


def test_the_chain_is_what_a_plain_loop_computes_and_stays_within_bounds():
    schedule, start, fresh = variance_preserving(4), normal(0, 30, 2), normal(1, 4, 30, 2)
    predict = lambda noisy, number: jnp.sin(3 * noisy + number)  # noqa: E731
    noisy, path = start, []
    for number in reversed(range(4)):
        kept = (schedule.signal[number] / schedule.signal[number - 1]) ** 2 if number else schedule.signal[0] ** 2
        before = 1 - schedule.noise[number - 1] ** 2 if number else 1.0
        power = schedule.signal[number] ** 2
        clean = np.clip((noisy - (1 - power) ** 0.5 * predict(noisy, number)) / power**0.5, -1, 1)
        mean = before**0.5 * (1 - kept) / (1 - power) * clean + kept**0.5 * (1 - before) / (1 - power) * noisy
        path.append(noisy)
        noisy = mean + ((1 - kept) * (1 - before) / (1 - power)) ** 0.5 * fresh[number]
    actions, found = denoise(predict, schedule, start, fresh)
    np.testing.assert_allclose(actions, noisy, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, path[::-1], rtol=1e-4, atol=1e-5)
    assert abs(actions).max() <= 1


def test_the_gradient_goes_through_every_step():
    schedule = variance_preserving(3)

    def action(factors):
        predict = lambda noisy, number: noisy * factors[number.astype(int)]  # noqa: E731
        return denoise(predict, schedule, jnp.full((1, 1), 0.1), jnp.zeros((3, 1, 1)))[0].sum()

    assert (jax.grad(action)(jnp.full(3, 0.9)) != 0).all()


# The denoising network and its layout


def test_numbers_are_embedded_as_sines_and_cosines():
    found = diffusion.sinusoids(jnp.array([[0.0], [1.0], [7.0]]))
    assert found.shape == (3, TIME)
    np.testing.assert_allclose(found[0], [0] * 8 + [0.25] * 8)
    np.testing.assert_allclose(found[1:, 3] * 4, np.sin(np.array([1, 7]) * 10_000 ** (-3 / 8)), rtol=1e-5)
    np.testing.assert_allclose((found**2).sum(1), 0.5, rtol=1e-5)


@pytest.mark.slow
def test_the_network_is_that_of_dacer():
    actor = Denoiser(Config(framework="jax", algo="dacer", activation="mish"), 11, 3)
    params = actor.init(jax.random.key(0))
    assert {name: layer["kernel"].shape for name, layer in params.items()} == {
        "time1": (16, 32),
        "time2": (32, 16),
        "layer1": (11 + 3 + 16, 256),
        "layer2": (256, 256),
        "layer3": (256, 256),
        "head": (256, 3),
    }
    inputs = jnp.concatenate([normal(0, 4, 14), jnp.full((4, 1), 2.0)], axis=1)
    time = jax.nn.mish(diffusion.sinusoids(inputs[:, 14:]) @ params["time1"]["kernel"] + params["time1"]["bias"])
    x = jnp.concatenate([inputs[:, :14], time @ params["time2"]["kernel"] + params["time2"]["bias"]], axis=1)
    for layer in HIDDEN:
        x = jax.nn.mish(x @ params[layer]["kernel"] + params[layer]["bias"])
    expected = x @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(actor(params, inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, 5])
def test_the_whole_chain_shows_the_same_layout_though_its_steps_share_their_weights(steps):
    actor = Denoiser(Config(framework="jax", algo="dacer", width=8), OBSERVATION, ACTION)
    schedule, start, fresh = variance_preserving(steps), normal(0, 8, ACTION), normal(1, steps, 8, ACTION)

    def chain(params):
        def predict(noisy, number):
            return actor(params, jnp.concatenate([normal(2, 8, OBSERVATION), noisy, jnp.full((8, 1), number)], axis=1))

        return denoise(predict, schedule, start, fresh)[0]

    check_actors_layout(layout_of(actor.init(jax.random.key(3)), chain))
