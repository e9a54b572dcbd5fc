"""MuJoCo tasks that change: the friction of the ground or, without a ground, motors and gravity; and the sensors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.plasticity.experiment import Experiment
from reference_agents.envs.environments import Environment, make
from reference_agents.envs.friction import ChangingFriction
from reference_agents.errors import UsageError
from reference_agents.seeding import derive

__all__ = ["ChangingBody", "Worlds"]

Numbers = NDArray[np.float32]
SLOWEST, FASTEST, LIGHTEST, HEAVIEST = 0.3, 1.0, 0.5, 2.0


class ChangingBody:
    """Redraws motors and gravity of a task periodically, as ``ChangingFriction`` does the ground.

    The strength of each motor is multiplied by 0.3 to 1, and turned round with even odds; gravity by 0.5 to 2. Until
    the first change they are the task's.
    """

    def __init__(self, env: Environment, *, every: int, seed: int) -> None:
        self.every, self.seed = every, seed
        inner: Any = env.unwrapped
        self._model = inner.model
        self._gears, self._gravity = np.array(self._model.actuator_gear), np.array(self._model.opt.gravity)

    def set(self, step: int) -> None:
        """Set motors and gravity to their values at a step."""
        gears, gravity = self._gears, self._gravity
        if period := step // self.every:
            rng = np.random.default_rng(derive(self.seed, "body", period))
            strength = _between(rng, SLOWEST, FASTEST, len(gears)) * rng.choice([-1.0, 1.0], len(gears))
            gears, gravity = gears * strength[:, None], gravity * _between(rng, LIGHTEST, HEAVIEST, 1)
        self._model.actuator_gear[:], self._model.opt.gravity[:] = gears, gravity


def _between(rng: np.random.Generator, low: float, high: float, size: int) -> NDArray[np.float64]:
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


class Worlds:
    """One environment for each seed, stepped one after another, and the returns of their episodes.

    Attributes:
        observation_size: Length of an observation.
        action_size: Length of an action.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._envs = [make(experiment.task) for _ in range(experiment.seeds)]
        if not hasattr(self._envs[0].unwrapped, "model"):
            raise UsageError(f"task: expected one of Gymnasium's MuJoCo tasks, got {experiment.task!r}")
        every = experiment.friction_every or experiment.steps_per_phase
        self._changes = [_change(env, every, seed) for env, seed in zip(self._envs, self._seeds(), strict=True)]
        self.observation_size, self.action_size = self._envs[0].observation_size, self._envs[0].action_size
        self._start = 0
        self._observations = np.zeros((experiment.seeds, self.observation_size), np.float32)
        self._order = np.tile(np.arange(self.observation_size), (experiment.seeds, 1))
        self._signs = np.ones_like(self._observations)
        self._returns, self._lengths = np.zeros(experiment.seeds), np.zeros(experiment.seeds, int)
        self.ended: list[tuple[int, int, float]] = []

    def _seeds(self) -> range:
        return range(self._experiment.seed, self._experiment.seed + self._experiment.seeds)

    def begin(self, phase: int) -> Numbers:
        """Begin a phase with new episodes, whatever came before; return the observations."""
        self._start, self.ended = phase * self._experiment.steps_per_phase, []
        self._returns[:], self._lengths[:] = 0, 0
        if phase and self._experiment.sensors == "rewired":
            self._rewire(phase)
        for index, (env, change, seed) in enumerate(zip(self._envs, self._changes, self._seeds(), strict=True)):
            change.set(self._start)
            self._observations[index] = env.reset(seed=derive(seed, "phase", phase))[0]
        return self._seen(self._observations)

    def _rewire(self, phase: int) -> None:
        """Draw the order and the signs of each seed's observations."""
        for index, seed in enumerate(self._seeds()):
            rng = np.random.default_rng(derive(seed, "sensors", phase))
            self._order[index] = rng.permutation(self.observation_size)
            self._signs[index] = rng.choice([-1.0, 1.0], self.observation_size)

    def _seen(self, observations: Numbers) -> Numbers:
        """Return observations as the sensors give them."""
        return np.take_along_axis(observations, self._order, axis=1) * self._signs

    def step(self, number: int, actions: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Take step ``number`` of the phase in every environment.

        Returns:
            Rewards; whether the episodes were lost; the observations that follow; and those to act on, which are of a
            new episode where one has ended.
        """
        rewards, lost = np.zeros((2, len(self._envs)), np.float32)
        following = np.empty_like(self._observations)
        for index, (env, change) in enumerate(zip(self._envs, self._changes, strict=True)):
            change.set(self._start + number)
            following[index], rewards[index], lost[index], stopped, _ = env.step(actions[index])
            self._observations[index] = following[index]
            self._returns[index] += rewards[index]
            self._lengths[index] += 1
            if lost[index] or stopped or self._lengths[index] == self._experiment.episode:
                self.ended.append((number, index, float(self._returns[index])))
                self._returns[index], self._lengths[index] = 0, 0
                self._observations[index] = env.reset()[0]
        return rewards, lost, self._seen(following), self._seen(self._observations)

    def mean_returns(self, first: int, last: int) -> Numbers:
        """Return each seed's mean return of the episodes that ended from a step to before another; NaN without any."""
        of_seed: list[list[float]] = [[] for _ in self._envs]
        for number, index, value in self.ended:
            if first <= number < last:
                of_seed[index].append(value)
        return np.array([np.mean(values) if values else np.nan for values in of_seed], np.float32)


def _change(env: Environment, every: int, seed: int) -> ChangingFriction | ChangingBody:
    try:
        return ChangingFriction([env], every=every, seed=seed)
    except UsageError:  # there is no ground
        return ChangingBody(env, every=every, seed=seed)
