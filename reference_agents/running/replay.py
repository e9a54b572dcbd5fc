"""A uniform replay buffer with n-step returns, in NumPy, for every framework."""

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reference_agents.agent import Array, Batch


class ReplayBuffer:
    """A ring buffer of the last ``capacity`` transitions, sampled uniformly with replacement.

    The operating system allocates memory only as transitions arrive, so a large capacity is free for short runs.

    With n-step returns a transition goes from a state to the one ``n_step`` steps later, and its reward is the
    discounted sum of the rewards in between. The last steps of a truncated episode, with fewer rewards, are dropped;
    those of a terminated episode are kept, as no return follows.

    Args:
        capacity: Maximum number of transitions; then the oldest is overwritten.
        observation_size: Length of an observation.
        action_size: Length of an action.
        observation_dtype: Data type of the observations.
        n_step: Length of the n-step returns.
        gamma: Discount factor of the n-step returns.
    """

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        action_size: int,
        *,
        observation_dtype: DTypeLike = np.float32,
        n_step: int = 1,
        gamma: float = 1.0,
    ) -> None:
        self.capacity = capacity
        self.added = 0
        self.gamma = gamma
        self._recent: deque[tuple[Array, Array, float]] = deque(maxlen=n_step)
        self._columns = Batch(
            observations=np.zeros((capacity, observation_size), observation_dtype),
            actions=np.zeros((capacity, action_size), np.float32),
            rewards=np.zeros((capacity, 1), np.float32),
            next_observations=np.zeros((capacity, observation_size), observation_dtype),
            terminated=np.zeros((capacity, 1), np.float32),
        )

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(
        self,
        observation: Array,
        action: Array,
        reward: float,
        next_observation: Array,
        *,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Add one environment step.

        Args:
            observation: Observation before the step.
            action: Action taken.
            reward: Reward received.
            next_observation: Observation after the step, also at the end of an episode.
            terminated: Whether the next state is terminal, so that no return follows.
            truncated: Whether the episode was cut off, by a time limit for example.
        """
        recent = self._recent
        recent.append((observation, action, reward))
        while len(recent) == recent.maxlen or (terminated and recent):
            self._store(next_observation, terminated=terminated)
            recent.popleft()
        if truncated:
            recent.clear()

    def _store(self, next_observation: Array, *, terminated: bool) -> None:
        """Store the n-step transition that starts at the earliest of the recent steps."""
        row, columns = self.added % self.capacity, self._columns
        columns.observations[row], columns.actions[row], _ = self._recent[0]
        columns.rewards[row] = sum(self.gamma**k * reward for k, (_, _, reward) in enumerate(self._recent))
        columns.next_observations[row] = next_observation
        columns.terminated[row] = terminated
        self.added += 1

    def sample(self, size: int, rng: np.random.Generator) -> Batch[Array]:
        """Sample transitions uniformly with replacement.

        Args:
            size: Batch size.
            rng: Random generator.

        Returns:
            A batch of copies; each array has shape (size, ...).
        """
        rows = rng.integers(len(self), size=size)
        return Batch(*(column[rows] for column in self._columns))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return views of the filled part, and the number of transitions ever added.

        Call it at the end of an episode only, when no steps are waiting for later rewards.
        """
        columns = self._columns._asdict()
        return {"added": np.asarray(self.added)} | {name: column[: len(self)] for name, column in columns.items()}

    def load_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what ``state`` returned; capacity and sizes must be equal.

        Raises:
            ValueError: If they are not, or the state is damaged; the buffer is unchanged then.
        """
        added, columns = state["added"], self._columns._asdict()
        if added.shape != () or added.dtype.kind not in "iu" or int(added) < 0:
            raise ValueError(f"replay: added: expected a whole number, got {added!r}")
        filled = min(int(added), self.capacity)
        for name, column in columns.items():
            expected, found = (filled, *column.shape[1:]), state[name]
            if found.shape != expected or found.dtype != column.dtype:
                expectation = f"{expected} of {column.dtype}"
                raise ValueError(f"replay: {name}: expected {expectation}, got {found.shape} of {found.dtype}")
        self.added = int(added)
        self._recent.clear()
        for name, column in columns.items():
            column[:filled] = state[name]
