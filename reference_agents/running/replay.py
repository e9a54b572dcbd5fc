"""A uniform replay buffer: the last transitions of a run, in NumPy, for every framework."""

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reference_agents.agent import Array, Batch


class ReplayBuffer:
    """The last ``capacity`` transitions, from which batches are drawn uniformly and with replacement.

    Memory is claimed by the operating system only as transitions arrive, so a large capacity costs a short run nothing.

    With ``n_step`` a transition leads from a state to the one ``n_step`` steps later, and its reward is the discounted
    sum of those in between. The last steps of an episode that was cut off, behind which fewer rewards are known, are
    left out; if it ended in its own terms nothing is missing, and they count.

    Args:
        capacity: Transitions kept; a new one then replaces the oldest.
        observation_size: Length of an observation.
        action_size: Length of an action.
        observation_dtype: Type of an observation's entries.
        n_step: Steps from an observation to the next in a transition.
        gamma: Discount of each reward against the one before.
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
        """Add what one step showed.

        Args:
            observation: What the agent saw.
            action: What it did.
            reward: What it got.
            next_observation: What it saw next, also where the episode ended.
            terminated: Whether the episode ended in the environment's own terms, so that no return follows.
            truncated: Whether it was cut off by a time limit, so that returns would have followed.
        """
        recent = self._recent
        recent.append((observation, action, reward))
        while len(recent) == recent.maxlen or (terminated and recent):
            self._store(next_observation, terminated=terminated)
            recent.popleft()
        if truncated:
            recent.clear()

    def _store(self, next_observation: Array, *, terminated: bool) -> None:
        """Store the transition that begins with the earliest of the recent steps."""
        row, columns = self.added % self.capacity, self._columns
        columns.observations[row], columns.actions[row], _ = self._recent[0]
        columns.rewards[row] = sum(self.gamma**k * reward for k, (_, _, reward) in enumerate(self._recent))
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
        """Return the filled part as views, not copies, with the number of transitions ever added.

        It is complete at the end of an episode only, when no steps wait for later rewards.
        """
        columns = self._columns._asdict()
        return {"added": np.asarray(self.added)} | {name: column[: len(self)] for name, column in columns.items()}

    def load_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what ``state`` returned; the buffer must be of the same capacity and sizes."""
        self.added = int(state["added"])
        self._recent.clear()
        for name, column in self._columns._asdict().items():
            column[: len(self)] = state[name]
