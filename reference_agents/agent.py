"""The interface between the training loop and an agent, and a factory of agents."""

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
"""Neuron masks by group."""
T = TypeVar("T")


class Batch(NamedTuple, Generic[T]):
    """A batch of transitions, as NumPy arrays (replay buffer) or as arrays of a framework (agents).

    All are float32, but observations that are images are uint8.
    """

    observations: T  # (batch, observation)
    actions: T  # (batch, action)
    rewards: T  # (batch, 1)
    next_observations: T  # (batch, observation)
    terminated: T  # (batch, 1), 1 where the next state is terminal


class Agent(Protocol):
    """An off-policy agent with actions in [-1, 1]."""

    updates: int
    """Number of updates so far."""

    @property
    def activity(self) -> ActivityLog:
        """Measurements and resets of its neurons."""

    def act(self, observation: Array, *, explore: bool) -> Array:
        """Select an action, with exploration or greedily."""

    def update(self, batch: Batch[Array]) -> None:
        """Update the networks on one batch."""

    def prune_actor(self, masks: Masks) -> None:
        """Remove masked neurons from the actor, for evaluation only."""

    def losses(self) -> dict[str, float | None]:
        """Losses and coefficients of the latest update; None before the first."""

    def save(self) -> bytes:
        """Return the full state of the agent."""

    def load(self, state: bytes) -> None:
        """Restore what ``save`` returned."""


class AgentFactory(Protocol):
    """Builds an agent; usually its class."""

    def __call__(self, config: Config, observation_size: int, action_size: int) -> Agent:
        """Build an agent for observation and action vectors of these sizes."""


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
"""Module and class of the agent of each framework and algorithm."""


def check_agent(config: Config) -> None:
    """Raise a ``UsageError`` if the algorithm is not available in the framework."""
    if (config.framework, config.algo) not in FACTORIES:
        available = ", ".join(framework for framework, algo in FACTORIES if algo == config.algo)
        raise UsageError(f"framework: expected one of {available} for {config.algo}, got {config.framework!r}")


def make_agent(config: Config, observation_size: int, action_size: int) -> Agent:
    """Build the agent of a configuration, importing only its framework.

    Raises:
        UsageError: If the algorithm is not available in the framework, or the framework is not installed.
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
