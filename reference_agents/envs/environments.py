"""Gymnasium environments with flat observations (float32, or uint8 for pixels) and actions in [-1, 1]."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
from gymnasium.spaces import Box, flatdim, flatten

from reference_agents.agent import Array
from reference_agents.envs.images import make_pixel_env
from reference_agents.errors import UsageError


class Environment(gym.Wrapper[Array, Array, Any, Any]):
    """Flattens observations, and rescales actions from [-1, 1] to the bounds of an environment.

    After ``reset(seed=...)`` an episode does not depend on earlier ones, so a run can be resumed at the start of any
    episode.

    Args:
        env: The environment.
        bounds: Its action space.
        pixels: Whether its observations are images, to be kept as uint8.

    Attributes:
        observation_size: Length of an observation; dictionaries and images are flattened.
        dtype: Data type of an observation, float32 or uint8.
        action_size: Length of an action.
    """

    def __init__(self, env: gym.Env[Any, Any], bounds: Box, *, pixels: bool = False) -> None:
        super().__init__(env)
        self.env: gym.Env[Any, Any]
        self.observation_size = flatdim(env.observation_space)
        self.action_size = flatdim(bounds)
        self.dtype: np.dtype[Any] = np.dtype("uint8" if pixels else "float32")
        low, high = (0, 255) if pixels else (-np.inf, np.inf)
        self.observation_space = Box(low, high, (self.observation_size,), self.dtype)
        self.action_space = Box(-1, 1, (self.action_size,), np.float32)
        self._action_mean = (bounds.high + bounds.low) / 2
        self._action_scale = (bounds.high - bounds.low) / 2

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._flat(observation), info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take one step with an action of shape (action_size,)."""
        observation, reward, terminated, truncated, info = self.env.step(
            self._action_mean + self._action_scale * action
        )
        return self._flat(observation), float(reward), terminated, truncated, info

    def _flat(self, observation: Any) -> Array:
        return np.asarray(flatten(self.env.observation_space, observation), self.dtype)


def make(env_id: str, *, image_size: int | None = None) -> Environment:
    """Make an environment by its id.

    Args:
        env_id: An id of gymnasium, such as ``HalfCheetah-v5``, or of the DeepMind Control Suite through Shimmy, such as
            ``dm_control/dog-walk-v0``.
        image_size: Side of the square frames, in pixels, to observe instead of the state.

    Raises:
        UsageError: If the environment does not exist, its actions are not bounded vectors, or it cannot be rendered.
    """
    try:
        if env_id.startswith("dm_control/"):
            _register_control_suite()
        with _silent_compiler():
            env: gym.Env[Any, Any] = gym.make(env_id) if image_size is None else make_pixel_env(env_id, image_size)
    except Exception as error:  # whatever an environment, or a module that its id names, raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"env: expected the id of an environment, got {env_id!r}: {reason}") from error
    bounds = env.action_space
    if not isinstance(bounds, Box) or len(bounds.shape) != 1 or not bounds.is_bounded():
        raise UsageError(f"env: expected actions that are bounded vectors, got {env_id!r} with {bounds}")
    return Environment(env, bounds, pixels=image_size is not None)


@contextmanager
def _silent_compiler() -> Iterator[None]:
    """Suppress MuJoCo's compiler warnings about an environment's model."""
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda warning: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(handler)


def _register_control_suite() -> None:
    """Register the Control Suite with Gymnasium, without rendering unless the user asks for it."""
    os.environ.setdefault("MUJOCO_GL", "disable")
    import shimmy  # type: ignore[import-untyped]

    gym.register_envs(shimmy)
