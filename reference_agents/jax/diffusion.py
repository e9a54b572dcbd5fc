"""A diffusion policy: noise schedule, denoising chain, and the noise-prediction network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reference_agents.config import Config
from reference_agents.jax.networks import ACTIVATIONS, NetworkWithHead, Params, dense, linear, network

TIME: Final = 16
"""Dimension of the timestep embedding."""


class Schedule(NamedTuple):
    """Coefficients of the forward and the reverse process, each (steps,).

    At step ``t`` a noisy action is ``signal[t] * action + noise[t] * e`` with Gaussian noise ``e``. The reverse step
    has mean ``from_clean[t] * estimate + from_noisy[t] * noisy``, with the estimate of the clean action, and standard
    deviation ``fresh[t]`` (Ho et al. 2020, Eq. 6 and 7).
    """

    number: Array
    signal: Array
    noise: Array
    from_clean: Array
    from_noisy: Array
    fresh: Array


def variance_preserving(steps: int) -> Schedule:
    """Return DACER's variance-preserving schedule: after all steps 8% of the signal is left, for any number of steps.

    The noise rate rises linearly from 0.1 to 10 (Wang et al. 2023, "Diffusion policies as an expressive policy class
    for offline reinforcement learning", arXiv:2208.06193, after Song et al. 2021).
    """
    number = np.arange(1, steps + 1)
    kept = np.exp(
        -0.1 / steps - 0.5 * (10 - 0.1) * (2 * number - 1) / steps**2
    )  # fraction of the signal's power kept by each step
    power = np.cumprod(kept)
    before = np.concatenate([[1.0], power[:-1]])
    coefficients = {
        "number": number - 1,
        "signal": np.sqrt(power),
        "noise": np.sqrt(1 - power),
        "from_clean": np.sqrt(before) * (1 - kept) / (1 - power),
        "from_noisy": np.sqrt(kept) * (1 - before) / (1 - power),
        "fresh": np.sqrt((1 - kept) * (1 - before) / (1 - power)),  # 0 in the last reverse step
    }
    return Schedule(**{name: jnp.asarray(values, jnp.float32) for name, values in coefficients.items()})


def denoise(
    predict: Callable[[Array, Array], Array], schedule: Schedule, start: Array, fresh: Array
) -> tuple[Array, Array]:
    """Sample actions by the reverse process.

    Args:
        predict: Predicts the noise, (batch, action), in noisy actions at a timestep.
        schedule: Coefficients of all steps.
        start: Initial noise, (batch, action).
        fresh: Gaussian noise for each step, (steps, batch, action).

    Returns:
        Actions in [-1, 1], (batch, action), and the noisy actions before each reverse step, (steps, batch, action).
    """

    def reverse_step(noisy: Array, inputs: tuple[Schedule, Array]) -> tuple[Array, Array]:
        step, noise = inputs
        estimate = jnp.clip((noisy - step.noise * predict(noisy, step.number)) / step.signal, -1, 1)
        return step.from_clean * estimate + step.from_noisy * noisy + step.fresh * noise, noisy

    actions, path = jax.lax.scan(reverse_step, start, (schedule, fresh), reverse=True)
    return actions, path


@dataclass(frozen=True)
class Denoiser:
    """Noise-prediction network: an MLP of the observation, the noisy action and a timestep embedding.

    An input concatenates them in this order, with the timestep as a number; its sinusoidal embedding goes through two
    dense layers, ``time1`` and ``time2``.
    """

    config: Config
    observation_size: int
    action_size: int

    @property
    def inputs(self) -> int:
        """Size of an input."""
        return self.observation_size + self.action_size + 1

    @property
    def body(self) -> NetworkWithHead:
        """The MLP behind the embedding, from (batch, observation + action + time) to (batch, action)."""
        known = self.observation_size + self.action_size
        return network(self.config, known + TIME, self.action_size, self.config.actor_depth)

    def init(self, key: Array) -> Params:
        """Draw initial parameters."""
        time1, time2, body = jax.random.split(key, 3)
        embedding = {"time1": linear(time1, TIME, 2 * TIME), "time2": linear(time2, 2 * TIME, TIME)}
        return {**embedding, **self.body.init(body)}

    def __call__(self, params: Params, inputs: Array, /) -> Array:
        """Predict the noise, from (batch, observation + action + 1) to (batch, action)."""
        known, number = inputs[:, :-1], inputs[:, -1:]
        hidden = ACTIVATIONS[self.config.activation](dense(params["time1"], sinusoids(number)))  # (batch, 2 * time)
        time = dense(params["time2"], hidden)  # (batch, time)
        return self.body(params, jnp.concatenate([known, time], axis=1))


def sinusoids(number: Array) -> Array:
    """Sinusoidal embedding, from (batch, 1) to (batch, time), as a transformer's positions (Vaswani et al. 2017)."""
    phase = number * 10_000.0 ** (-jnp.arange(TIME // 2) / (TIME // 2))  # (batch, time / 2)
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=1) / TIME**0.5
