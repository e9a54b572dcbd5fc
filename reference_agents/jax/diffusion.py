"""A diffusion policy: the network that predicts the noise in an action, and the chain that takes the noise away."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reference_agents.config import Config
from reference_agents.jax.networks import ACTIVATIONS, Headed, Params, dense, linear, network

TIME: Final = 16
"""Length of the embedding of a step's number."""


class Schedule(NamedTuple):
    """How noise is added to an action step by step, and what it takes to undo a step; each is (steps,).

    After step ``t`` a noisy action is ``signal[t] * action + noise[t] * e`` with Gaussian noise ``e``. The step is
    undone by ``from_clean[t] * estimate + from_noisy[t] * noisy``, where the estimate is that of the action, and fresh
    noise of a standard deviation of ``fresh[t]`` (Ho et al. 2020, Eq. 6 and 7).
    """

    number: Array
    signal: Array
    noise: Array
    from_clean: Array
    from_noisy: Array
    fresh: Array


def variance_preserving(steps: int) -> Schedule:
    """Return the schedule of DACER, after which 8% of an action is left, however many steps there are.

    The rate of noise rises linearly from 0.1 to 10 (Wang et al. 2023, "Diffusion policies as an expressive policy class
    for offline reinforcement learning", arXiv:2208.06193, after Song et al. 2021).
    """
    number = np.arange(1, steps + 1)
    kept = np.exp(-0.1 / steps - 0.5 * (10 - 0.1) * (2 * number - 1) / steps**2)  # of the signal's power in each step
    power = np.cumprod(kept)
    before = np.concatenate([[1.0], power[:-1]])
    each = {
        "number": number - 1,
        "signal": np.sqrt(power),
        "noise": np.sqrt(1 - power),
        "from_clean": np.sqrt(before) * (1 - kept) / (1 - power),
        "from_noisy": np.sqrt(kept) * (1 - before) / (1 - power),
        "fresh": np.sqrt((1 - kept) * (1 - before) / (1 - power)),  # 0 in the step that is undone last
    }
    return Schedule(**{name: jnp.asarray(values, jnp.float32) for name, values in each.items()})


def denoise(
    predict: Callable[[Array, Array], Array], schedule: Schedule, start: Array, fresh: Array
) -> tuple[Array, Array]:
    """Undo all steps of a schedule, the last one first.

    Args:
        predict: From noisy actions, (batch, action), and the number of a step to the noise in them.
        schedule: The steps.
        start: Noise that the chain starts from, (batch, action).
        fresh: Gaussian noise for each step, (steps, batch, action).

    Returns:
        Actions from -1 to 1, (batch, action), and what each step was undone from, (steps, batch, action).
    """

    def undo(noisy: Array, given: tuple[Schedule, Array]) -> tuple[Array, Array]:
        step, noise = given
        estimate = jnp.clip((noisy - step.noise * predict(noisy, step.number)) / step.signal, -1, 1)
        return step.from_clean * estimate + step.from_noisy * noisy + step.fresh * noise, noisy

    actions, path = jax.lax.scan(undo, start, (schedule, fresh), reverse=True)
    return actions, path


@dataclass(frozen=True)
class Denoiser:
    """Predicts the noise in an action: an MLP of the observation, the noisy action and an embedding of the step.

    An input holds them in this order, the step as its plain number; a sinusoidal embedding of that goes through two
    layers of its own, ``time1`` and ``time2``.
    """

    config: Config
    observation_size: int
    action_size: int

    @property
    def inputs(self) -> int:
        """Length of an input."""
        return self.observation_size + self.action_size + 1

    @property
    def body(self) -> Headed:
        """All but the embedding, from (batch, observation + action + time) to (batch, action)."""
        known = self.observation_size + self.action_size
        return network(self.config, known + TIME, self.action_size, self.config.actor_depth)

    def start(self, key: Array) -> Params:
        """Draw initial parameters."""
        time1, time2, body = jax.random.split(key, 3)
        embedding = {"time1": linear(time1, TIME, 2 * TIME), "time2": linear(time2, 2 * TIME, TIME)}
        return {**embedding, **self.body.start(body)}

    def __call__(self, params: Params, inputs: Array, /) -> Array:
        """Predict the noise, from (batch, observation + action + 1) to (batch, action)."""
        known, number = inputs[:, :-1], inputs[:, -1:]
        hidden = ACTIVATIONS[self.config.activation](dense(params["time1"], sinusoids(number)))  # (batch, 2 * time)
        time = dense(params["time2"], hidden)  # (batch, time)
        return self.body(params, jnp.concatenate([known, time], axis=1))


def sinusoids(number: Array) -> Array:
    """Embed numbers, from (batch, 1) to (batch, time), as a transformer embeds places (Vaswani et al. 2017)."""
    phase = number * 10_000.0 ** (-jnp.arange(TIME // 2) / (TIME // 2))  # (batch, time / 2)
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=1) / TIME**0.5
