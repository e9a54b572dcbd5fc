"""Train JAX agents of several seeds in one process: ``python -m reference_agents.jax.together --seeds 0..4 --out F``.

The runs are those of ``reference_agents.train``, each in a folder of its own with the same files. Each goes its way in
a thread of its own; where all have come to their next update, one function that is vmapped over the seeds does it for
all of them.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from reference_agents import train
from reference_agents.commandline import parse
from reference_agents.errors import UsageError
from reference_agents.ranges import spread
from reference_agents.running.loop import Training


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train JAX agents that differ in their seeds alone, with one update vmapped over all of them.

    What reference_agents.train is to be told stands at the end, after two hyphens. The same command again goes on with
    what is not finished.
    """

    seeds: str
    """Seeds of the runs: 0..4 or 0,1,5."""
    out: Path
    """Folder for the folders of the runs, which are named by their seeds."""
    train: tyro.conf.Positional[tuple[str, ...]] = ()
    """Further options of reference_agents.train."""


class Updates:
    """The updates of several agents as one.

    Each agent's own compiled update is replaced by one that waits for the others, and whichever agent comes last
    updates all. An agent that is done has to say so, by ``stop``, or the others would wait for it for ever.

    Args:
        agents: JAX agents that differ in their seeds alone, and have learned equally often.
    """

    def __init__(self, agents: Sequence[Any]) -> None:
        self._given: list[tuple[Any, Any, tuple[bool, ...]]] = [(None, None, ())] * len(agents)
        self._learned: Sequence[Any] = ()
        self._barrier = threading.Barrier(len(agents), action=self._update_all)
        self._update = jax.jit(_for_all(agents[0]._update), donate_argnums=0)
        for place, agent in enumerate(agents):
            agent._learn = self._waiting(place)

    def _waiting(self, place: int) -> Callable[..., Any]:
        def learn(state: Any, batch: Any, *turns: bool) -> Any:
            self._given[place] = state, batch, turns
            self._barrier.wait()
            return self._learned[place]

        return learn

    def _update_all(self) -> None:
        states, batches, turns = zip(*self._given, strict=True)
        if len(set(turns)) > 1:
            raise RuntimeError("expected agents that have learned equally often")
        self._learned = self._update(states, batches, *turns[0])

    def stop(self) -> None:
        """Let nobody wait any longer."""
        self._barrier.abort()


def _for_all(update: Callable[..., Any]) -> Callable[..., Any]:
    """Turn an update of one agent into one of several, which has their states and batches in tuples."""

    def all_at_once(states: Any, batches: Any, *turns: Any) -> Any:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
        learned = jax.vmap(update, in_axes=(0, 0) + (None,) * len(turns))(stacked, batch, *turns)
        return tuple(jax.tree.map(lambda leaf: leaf[place], learned) for place in range(len(states)))  # noqa: B023

    return all_at_once


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    try:
        command = parse(Command, args, prog="python -m reference_agents.jax.together")
        run(command)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoints", file=sys.stderr)
        return 130
    return 0


def run(command: Command) -> None:
    """Train what is not finished: together those agents that have learned equally often.

    Raises:
        UsageError: If the runs could not all begin, or go on, in their folders, or are not of JAX.
    """
    trainings: dict[int, list[Training]] = {}
    for seed in spread("seeds", command.seeds):
        words = ("--framework=jax", *command.train, f"--seed={seed}", f"--out={command.out / seed}")
        config = parse(train.Command, words, prog="python -m reference_agents.train").config
        if config.framework != "jax":
            raise UsageError(f"framework: expected jax, whose updates can be vmapped, got {config.framework!r}")
        training = train.prepare(config, command.out / seed, resume=True)
        if training is not None:
            trainings.setdefault(training.agent.updates, []).append(training)
    for group in trainings.values():
        train_together(group)


def train_together(trainings: Sequence[Training]) -> None:
    """Train agents that differ in their seeds alone, and have learned equally often."""
    updates = Updates([training.agent for training in trainings])

    def go(training: Training) -> None:
        try:
            training.run()
        except BaseException:
            updates.stop()
            raise

    with ExitStack() as folders:
        for training in trainings:
            folders.enter_context(training.folder.claimed(training.config))
        with ThreadPoolExecutor(len(trainings)) as pool:
            runs = [pool.submit(go, training) for training in trainings]
        errors = [error for error in (run.exception() for run in runs) if error is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error  # the cause, not that others waited in vain
        for training in trainings:
            train.finish(training)


if __name__ == "__main__":
    sys.exit(main())
