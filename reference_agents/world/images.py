"""Environments that are seen: an observation is the latest pictures of the environment, scaled down."""

import os
from typing import Any, Final

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import FrameStackObservation
from numpy.typing import NDArray
from PIL import Image

from reference_agents.errors import UsageError

FRAMES: Final = 3
"""Pictures in an observation, which show how fast things move (Yarats et al. 2021)."""

CHANNELS: Final = 3 * FRAMES
"""Colours of all pictures in an observation."""

_UNDRAWABLE: Final = (RuntimeError, AttributeError, ImportError, gym.error.Error, mujoco.FatalError)
"""What environments raise, as it happens, where OpenGL is not at hand."""


class Picture(gym.Wrapper[NDArray[np.uint8], Any, Any, Any]):
    """Shows the picture that an environment draws of itself instead of its observations.

    Args:
        env: Environment that was made with ``render_mode="rgb_array"``.
        size: Side of the square picture, to which the environment's own is scaled.

    Raises:
        UsageError: If the environment cannot be drawn on this machine.
    """

    def __init__(self, env: gym.Env[Any, Any], size: int) -> None:
        super().__init__(env)
        self.size = size
        self.observation_space = Box(0, 255, (3, size, size), np.uint8)
        try:
            env.reset()
            self._draw()
        except _UNDRAWABLE as error:
            name = env.spec.id if env.spec else str(env)
            reason = " ".join(str(error).split()) or type(error).__name__
            advice = "for MuJoCo set MUJOCO_GL to egl, osmesa or glfw, whichever this machine has"
            raise UsageError(f"env: expected one that can be drawn here, got {name!r}: {reason}; {advice}") from error

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        _, info = self.env.reset(seed=seed, options=options)
        return self._draw(), info

    def step(self, action: Any) -> tuple[NDArray[np.uint8], Any, bool, bool, dict[str, Any]]:
        """Take one step."""
        _, reward, terminated, truncated, info = self.env.step(action)
        return self._draw(), reward, terminated, truncated, info

    def _draw(self) -> NDArray[np.uint8]:
        """Return the picture, (3, size, size); each of its points is the mean of an area."""
        drawn = Image.fromarray(np.asarray(self.env.render()))
        small = np.asarray(drawn.resize((self.size, self.size), Image.Resampling.BOX))
        return np.moveaxis(small, -1, 0)


def make_seen(env_id: str, size: int) -> gym.Env[Any, Any]:
    """Make an environment whose observations are its latest pictures, (FRAMES, 3, size, size)."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame is to draw, and not to look for a display
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    env: gym.Env[Any, Any] = gym.make(env_id, render_mode="rgb_array")
    return FrameStackObservation(Picture(env, size), FRAMES)
