"""Evaluation of a policy: its returns over a fixed set of episodes."""

import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from reference_agents.agent import Array
from reference_agents.envs.environments import Environment

Policy = Callable[[Array], Array]


def evaluate(policy: Policy, env: Environment, seeds: Iterable[int]) -> list[float]:
    """Run one episode from each seed.

    Args:
        policy: Maps an observation to an action.
        env: Evaluation environment, separate from the training environment.
        seeds: Seeds of the episodes; use the same ones to compare policies.

    Returns:
        The undiscounted return of each episode.
    """
    return [_episode(policy, env, seed) for seed in seeds]


def _episode(policy: Policy, env: Environment, seed: int) -> float:
    episode_return, done = 0.0, False
    observation, _ = env.reset(seed=seed)
    while not done:
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        episode_return += reward
        done = terminated or truncated
    return episode_return


def describe(returns: list[float]) -> dict[str, Any]:
    """Return the mean, the standard deviation over episodes, and the returns; NaN where one is not finite."""
    finite = all(map(math.isfinite, returns))  # those of an agent that has diverged may not be
    mean, std = (statistics.fmean(returns), statistics.pstdev(returns)) if finite else (math.nan, math.nan)
    return {"mean": mean, "std": std, "returns": returns}
