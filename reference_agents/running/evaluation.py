"""How good a policy is: its returns over a fixed set of episodes."""

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from reference_agents.agent import Array
from reference_agents.world.environments import Environment

Policy = Callable[[Array], Array]


def evaluate(policy: Policy, env: Environment, seeds: Iterable[int]) -> list[float]:
    """Let a policy act for one episode from each seed.

    Args:
        policy: Maps an observation to an action.
        env: Environment to act in, apart from the one that is trained in.
        seeds: Seeds of the episodes; policies are best compared on the same ones.

    Returns:
        The undiscounted return of each episode.
    """
    return [_episode(policy, env, seed) for seed in seeds]


def _episode(policy: Policy, env: Environment, seed: int) -> float:
    total, over = 0.0, False
    observation, _ = env.reset(seed=seed)
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        total += reward
        over = terminated or truncated
    return total


def describe(returns: list[float]) -> dict[str, Any]:
    """Return mean, standard deviation between episodes, and the returns themselves."""
    return {"mean": statistics.fmean(returns), "std": statistics.pstdev(returns), "returns": returns}
