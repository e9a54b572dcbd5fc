"""Non-stationary ground friction of a MuJoCo task, to study loss of plasticity in continual learning."""

from collections.abc import Sequence
from typing import Any, Final

import mujoco  # type: ignore[import-untyped]
import numpy as np

from reference_agents.envs.environments import Environment
from reference_agents.errors import UsageError
from reference_agents.seeding import derive

LOWEST, HIGHEST = 0.02, 2.0
GROUND: Final = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)


class ChangingFriction:
    """Redraws the sliding friction of the ground periodically, log-uniformly from 0.02 to 2.

    The friction depends only on the seed and the step; until the first change it is the task's default. This is the
    SlipperyAnt setting of Dohare et al., "Loss of plasticity in deep continual learning", Nature 632, 2024, for any
    task with ground contacts. From the first change on, the ground's other contact parameters (torsional friction,
    softness) also take precedence over those of the bodies on it.

    Args:
        envs: Environments that get the same friction.
        every: Environment steps between two changes.
        seed: Seed of the run.

    Raises:
        UsageError: If an environment does not use MuJoCo, or has no ground that a body can touch.
    """

    def __init__(self, envs: Sequence[Environment], *, every: int, seed: int) -> None:
        self.every, self.seed = every, seed
        self._models = [_model(env) for env in envs]
        self._defaults = [(np.array(model.geom_friction), np.array(model.geom_priority)) for model in self._models]
        self._period: int | None = None

    def at(self, step: int) -> float | None:
        """Return the friction coefficient at a step, None for the task's default."""
        period = step // self.every
        if period == 0:
            return None
        rng = np.random.default_rng(derive(self.seed, "friction", period))
        return float(np.exp(rng.uniform(np.log(LOWEST), np.log(HIGHEST))))

    def set(self, step: int) -> None:
        """Set the ground's friction to its value at a step."""
        if step // self.every == self._period:
            return
        self._period = step // self.every
        friction = self.at(step)
        for model, (frictions, priorities) in zip(self._models, self._defaults, strict=True):
            ground = _ground(model)
            # for two geoms in contact MuJoCo uses the larger friction, unless one of them has priority
            model.geom_priority[ground] = priorities[ground] if friction is None else priorities.max() + 1
            model.geom_friction[ground, 0] = frictions[ground, 0] if friction is None else friction


def _model(env: Environment) -> Any:
    """Return the MuJoCo model of an environment of Gymnasium or of the Control Suite."""
    inner: Any = env.unwrapped
    physics = getattr(getattr(inner, "_env", None), "physics", inner)  # Shimmy keeps the Suite's environment in _env
    model = getattr(physics, "model", None)
    if model is None or not len(_ground(model)):
        name = env.spec.id if env.spec else str(env)
        raise UsageError(f"friction_every: expected a MuJoCo task with a ground to touch, got {name!r}")
    return model


def _ground(model: Any) -> Any:
    """Return the ids of the ground geoms: planes and height fields of the world body that another body can touch."""
    world = np.asarray(model.geom_bodyid) == 0
    kinds, affinities = np.asarray(model.geom_contype), np.asarray(model.geom_conaffinity)
    touched = ((kinds[:, None] & affinities) | (affinities[:, None] & kinds))[:, ~world].any(axis=1)
    possible = not int(model.opt.disableflags) & int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    return np.flatnonzero(world & np.isin(model.geom_type, GROUND) & touched & possible)
