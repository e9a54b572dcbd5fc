"""Pixel observations: the latest rendered frames of an environment, stacked and scaled down."""

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
"""Frames stacked in an observation, so that velocities can be inferred (Yarats et al. 2021)."""

CHANNELS: Final = 3 * FRAMES
"""Colour channels of all stacked frames."""

_RENDER_ERRORS: Final = (RuntimeError, AttributeError, ImportError, gym.error.Error, mujoco.FatalError)
"""What environments raise if OpenGL is not available."""


class PixelObservations(gym.Wrapper[NDArray[np.uint8], Any, Any, Any]):
    """Replaces observations by rendered frames.

    Args:
        env: Environment made with ``render_mode="rgb_array"``.
        size: Side of the square frames, in pixels, to which the rendered image is scaled.

    Raises:
        UsageError: If the environment cannot be rendered on this machine.
    """

    def __init__(self, env: gym.Env[Any, Any], size: int) -> None:
        super().__init__(env)
        self.size = size
        self.observation_space = Box(0, 255, (3, size, size), np.uint8)
        try:
            env.reset()
            self._frame()
        except _RENDER_ERRORS as error:
            name = env.spec.id if env.spec else str(env)
            reason = " ".join(str(error).split()) or type(error).__name__
            advice = "for MuJoCo set MUJOCO_GL to egl, osmesa or glfw, whichever this machine has"
            raise UsageError(f"env: expected one that can be drawn here, got {name!r}: {reason}; {advice}") from error

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        _, info = self.env.reset(seed=seed, options=options)
        return self._frame(), info

    def step(self, action: Any) -> tuple[NDArray[np.uint8], Any, bool, bool, dict[str, Any]]:
        """Take one step."""
        _, reward, terminated, truncated, info = self.env.step(action)
        return self._frame(), reward, terminated, truncated, info

    def _frame(self) -> NDArray[np.uint8]:
        """Render a frame, (3, size, size), scaled by averaging over areas."""
        rendered = Image.fromarray(np.asarray(self.env.render()))
        scaled = np.asarray(rendered.resize((self.size, self.size), Image.Resampling.BOX))  # (size, size, 3)
        return np.moveaxis(scaled, -1, 0)


def make_pixel_env(env_id: str, size: int) -> gym.Env[Any, Any]:
    """Make an environment whose observations are its latest frames, (FRAMES, 3, size, size)."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # let pygame render without a display
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    env: gym.Env[Any, Any] = gym.make(env_id, render_mode="rgb_array")
    return FrameStackObservation(PixelObservations(env, size), FRAMES)
