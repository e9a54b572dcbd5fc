"""Cost of a GraMa and of a ReDo measurement per update: ``python -m benchmarks.methods``.

The reference agents of each framework are updated repeatedly on one batch: without measurements, with a GraMa
measurement at every optimizer step, and with an additional ReDo measurement (Liu et al. 2025, Fig. 5 left). The three
alternate, nothing is reset, and the shortest times are compared. A measurement includes its report on the host.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from neuroactivity.tables import format_table
from reference_agents.agent import Agent, Batch, make_agent
from reference_agents.commandline import parse, tell
from reference_agents.config import Config

NEVER = 10**9


@dataclass(frozen=True, kw_only=True)
class Command:
    """Time SAC updates without measurements, with GraMa, and with GraMa and ReDo."""

    frameworks: tuple[Literal["torch", "jax", "tensorflow"], ...] = ("torch", "jax", "tensorflow")
    """Frameworks of the agents."""
    network: Literal["mlp", "bronet"] = "bronet"
    """Network of the agents, with the paper's settings."""
    sizes: tuple[int, int] = (223, 38)
    """Sizes of observations and actions; by default those of the Control Suite's dog."""
    rounds: int = 30
    """Rounds of two updates each."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m benchmarks.methods")))


def _run(command: Command) -> None:
    rows = []
    for framework in command.frameworks:
        plain, grama, both = measure(framework, command)
        costs = (grama - plain, both - grama)
        rows.append((framework, *(f"{1e3 * seconds:.1f}" for seconds in (plain, *costs)), f"{costs[1] / costs[0]:.1f}"))
    header = ("framework", "two updates, ms", "GraMa, ms", "ReDo, ms", "ReDo / GraMa")
    print("\n".join(format_table(header, rows, words=("framework",))))


def measure(framework: Any, command: Command) -> list[float]:
    """Return the shortest time of two updates, of which one updates the actor: plain, with GraMa, with both."""
    shared: dict[str, Any] = {"framework": framework, "network": command.network, "max_fraction": 0.0}
    settings: list[dict[str, Any]] = [
        {"reset": "none", "reset_every": NEVER},
        {"reset": "regrama", "reset_every": 1},
        {"reset": "redo", "reset_every": 1},
    ]
    configs = [Config(**shared, **variant) for variant in settings]
    agents = [make_agent(config, *command.sizes) for config in configs]
    batch = draw(configs[0].batch_size, *command.sizes)
    shortest = [float("inf")] * len(agents)
    for turn in range(command.rounds + 2):
        for index, agent in enumerate(agents):
            seconds = two_updates(agent, batch)
            if turn > 1:  # the first two compile
                shortest[index] = min(shortest[index], seconds)
    return shortest


def two_updates(agent: Agent, batch: Batch[Any]) -> float:
    """Time an update of the critics alone and one of the actor too, up to the losses on the host."""
    start = time.perf_counter()
    agent.update(batch)
    agent.update(batch)
    agent.losses()
    return time.perf_counter() - start


def draw(size: int, observation_size: int, action_size: int) -> Batch[Any]:
    """Draw a batch of transitions."""
    rng = np.random.default_rng(0)
    return Batch(
        observations=rng.normal(size=(size, observation_size)).astype(np.float32),
        actions=rng.uniform(-1, 1, (size, action_size)).astype(np.float32),
        rewards=rng.normal(size=(size, 1)).astype(np.float32),
        next_observations=rng.normal(size=(size, observation_size)).astype(np.float32),
        terminated=np.zeros((size, 1), np.float32),
    )


if __name__ == "__main__":
    sys.exit(main())
