"""A world that changes: the ground of a MuJoCo task becomes more or less slippery as training goes on."""

from collections.abc import Sequence
from typing import Any, Final

import mujoco  # type: ignore[import-untyped]
import numpy as np

from reference_agents.errors import UsageError
from reference_agents.seeding import derive
from reference_agents.world.environments import Environment

LOWEST, HIGHEST = 0.02, 2.0
GROUND: Final = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)


class ChangingGround:
    """Redraws the sliding friction of the ground, log-uniformly from 0.02 to 2, every so many steps.

    What it is at a step depends on the seed and the step alone. Until the first change it is the task's own. This is
    the slippery setting of Dohare et al., "Loss of plasticity in deep continual learning", Nature 632, 2024, for any
    task in which something touches the ground. From the first change on the ground's other contact parameters hold as
    well, for torsion and softness, where those of what stands on it are different.

    Args:
        envs: Environments that share the ground.
        every: Steps from one change to the next.
        seed: Seed of the run.

    Raises:
        UsageError: If an environment is not of MuJoCo, or has no ground that anything can touch.
    """

    def __init__(self, envs: Sequence[Environment], *, every: int, seed: int) -> None:
        self.every, self.seed = every, seed
        self._models = [_model(env) for env in envs]
        self._own = [(np.array(model.geom_friction), np.array(model.geom_priority)) for model in self._models]
        self._period: int | None = None

    def friction(self, step: int) -> float | None:
        """Return the coefficient that holds after so many steps, None for the task's own."""
        period = step // self.every
        if period == 0:
            return None
        rng = np.random.default_rng(derive(self.seed, "friction", period))
        return float(np.exp(rng.uniform(np.log(LOWEST), np.log(HIGHEST))))

    def change(self, step: int) -> None:
        """Give the ground the friction that holds after so many steps."""
        if step // self.every == self._period:
            return
        self._period = step // self.every
        friction = self.friction(step)
        for model, (frictions, priorities) in zip(self._models, self._own, strict=True):
            ground = _ground(model)
            # of two geoms in contact MuJoCo takes the larger friction, unless one of them has priority
            model.geom_priority[ground] = priorities[ground] if friction is None else priorities.max() + 1
            model.geom_friction[ground, 0] = frictions[ground, 0] if friction is None else friction


def _model(env: Environment) -> Any:
    """Return the MuJoCo model of an environment, of gymnasium or of the Control Suite."""
    inner: Any = env.unwrapped
    physics = getattr(getattr(inner, "_env", None), "physics", inner)  # Shimmy keeps the Suite's own in _env
    model = getattr(physics, "model", None)
    if model is None or not len(_ground(model)):
        name = env.spec.id if env.spec else str(env)
        raise UsageError(f"friction_every: expected a MuJoCo task with a ground to touch, got {name!r}")
    return model


def _ground(model: Any) -> Any:
    """Return the numbers of the geoms that are ground: planes and height fields of the world that a body can touch."""
    world = np.asarray(model.geom_bodyid) == 0
    kinds, affinities = np.asarray(model.geom_contype), np.asarray(model.geom_conaffinity)
    touched = ((kinds[:, None] & affinities) | (affinities[:, None] & kinds))[:, ~world].any(axis=1)
    possible = not int(model.opt.disableflags) & int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    return np.flatnonzero(world & np.isin(model.geom_type, GROUND) & touched & possible)
