"""What the training loop asks of an agent, whatever framework it is written in."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final, Generic, NamedTuple, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from reference_agents.activity import ActivityLog
from reference_agents.config import Config
from reference_agents.errors import UsageError

Array = NDArray[np.float32]
Masks = Mapping[str, NDArray[np.bool_]]
"""Neurons by group."""
T = TypeVar("T")


class Batch(NamedTuple, Generic[T]):
    """Transitions to learn from: of the replay buffer in NumPy, of an agent in its framework's arrays.

    In float32, but for observations that are images: these are bytes.
    """

    observations: T  # (batch, observation)
    actions: T  # (batch, action)
    rewards: T  # (batch, 1)
    next_observations: T  # (batch, observation)
    terminated: T  # (batch, 1), 1 where no return follows


class Agent(Protocol):
    """An agent that learns off-policy, one update at a time, with actions from -1 to 1."""

    updates: int
    """Batches learned from so far."""

    @property
    def activity(self) -> ActivityLog:
        """What is known of its neurons."""

    def act(self, observation: Array, *, explore: bool) -> Array:
        """Choose an action: a random one of the policy to explore, else its best guess."""

    def update(self, batch: Batch[Array]) -> None:
        """Learn from one batch."""

    def prune_actor(self, masks: Masks) -> None:
        """Remove neurons of the actor, masked by group, from what it computes: to look at it, not to train on."""

    def losses(self) -> dict[str, float | None]:
        """Losses and coefficients of the latest update, None before the first."""

    def save(self) -> bytes:
        """Return everything that the agent's future depends on."""

    def load(self, state: bytes) -> None:
        """Take over what ``save`` returned."""


class AgentFactory(Protocol):
    """What builds an agent: its class, as a rule."""

    def __call__(self, config: Config, observation_size: int, action_size: int) -> Agent:
        """Build an agent for observations and actions of the given lengths."""


FACTORIES: Final = MappingProxyType(
    {
        ("torch", "sac"): ("reference_agents.torch.sac", "SAC"),
        ("torch", "td3"): ("reference_agents.torch.td3", "TD3"),
        ("torch", "drqv2"): ("reference_agents.torch.drqv2", "DrQv2"),
        ("jax", "sac"): ("reference_agents.jax.sac", "SAC"),
        ("jax", "td3"): ("reference_agents.jax.td3", "TD3"),
        ("jax", "dacer"): ("reference_agents.jax.dacer", "DACER"),
        ("tensorflow", "sac"): ("reference_agents.tensorflow.sac", "SAC"),
        ("tensorflow", "td3"): ("reference_agents.tensorflow.td3", "TD3"),
    }
)
"""Where the agent of each framework and algorithm is found."""


def check_agent(config: Config) -> None:
    """Raise a ``UsageError`` unless there is an agent of the framework and the algorithm."""
    if (config.framework, config.algo) not in FACTORIES:
        written = ", ".join(framework for framework, algo in FACTORIES if algo == config.algo)
        raise UsageError(f"framework: expected one of {written} for {config.algo}, got {config.framework!r}")


def make_agent(config: Config, observation_size: int, action_size: int) -> Agent:
    """Build the agent that the settings ask for, importing its framework and no other.

    Raises:
        UsageError: If there is no such agent, or its framework is not installed.
    """
    check_agent(config)
    module, name = FACTORIES[config.framework, config.algo]
    try:
        factory = cast(AgentFactory, getattr(import_module(module), name))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("neuroactivity", "reference_agents")):
            raise
        raise UsageError(f"framework: {config.framework!r} is not installed here: {error}") from error
    return factory(config, observation_size, action_size)
