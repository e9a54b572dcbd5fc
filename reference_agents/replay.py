"""A uniform replay buffer: the last transitions of a run, in NumPy, for every framework."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from reference_agents.agent import Array, Batch


class ReplayBuffer:
    """The last ``capacity`` transitions, from which batches are drawn uniformly and with replacement.

    Memory is claimed by the operating system only as transitions arrive, so a large capacity costs a short run nothing.

    Args:
        capacity: Transitions kept; a new one then replaces the oldest.
        observation_size: Length of an observation.
        action_size: Length of an action.
    """

    def __init__(self, capacity: int, observation_size: int, action_size: int) -> None:
        self.capacity = capacity
        self.added = 0
        self._columns = Batch(
            observations=np.zeros((capacity, observation_size), np.float32),
            actions=np.zeros((capacity, action_size), np.float32),
            rewards=np.zeros((capacity, 1), np.float32),
            next_observations=np.zeros((capacity, observation_size), np.float32),
            terminated=np.zeros((capacity, 1), np.float32),
        )

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, observation: Array, action: Array, reward: float, next_observation: Array, terminated: bool) -> None:
        """Add one transition.

        Args:
            observation: What the agent saw.
            action: What it did.
            reward: What it got.
            next_observation: What it saw next, also where the episode ended.
            terminated: Whether the episode ended in the environment's own terms, so that no return follows; False
                where it was cut off by a time limit.
        """
        row, columns = self.added % self.capacity, self._columns
        columns.observations[row] = observation
        columns.actions[row] = action
        columns.rewards[row] = reward
        columns.next_observations[row] = next_observation
        columns.terminated[row] = terminated
        self.added += 1

    def sample(self, size: int, rng: np.random.Generator) -> Batch[Array]:
        """Draw transitions uniformly and with replacement.

        Args:
            size: Number of transitions.
            rng: Generator that draws them.

        Returns:
            A batch of copies, each array of shape (size, ...).
        """
        rows = rng.integers(len(self), size=size)
        return Batch(*(column[rows] for column in self._columns))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the filled part as views, not copies, with the number of transitions ever added."""
        columns = self._columns._asdict()
        return {"added": np.asarray(self.added)} | {name: column[: len(self)] for name, column in columns.items()}

    def load_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what ``state`` returned; the buffer must be of the same capacity and sizes."""
        self.added = int(state["added"])
        for name, column in self._columns._asdict().items():
            column[: len(self)] = state[name]
