"""Train JAX agents with several seeds in parallel: ``python -m reference_agents.jax.vmap_seeds --seeds 0..4 --out F``.

The runs and their files are those of ``reference_agents.train``, one folder per seed. Each run has a thread; at every
update the threads wait for each other, and one update, vmapped over the seeds, is computed for all of them.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from reference_agents import train
from reference_agents.commandline import parse, tell
from reference_agents.errors import UsageError
from reference_agents.ranges import parse_range
from reference_agents.running.loop import Training


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train JAX agents that differ only in their seeds, with one update vmapped over all of them.

    Options after ``--`` are passed to reference_agents.train. Run the same command again to continue unfinished runs.
    """

    seeds: str
    """Seeds of the runs: 0..4 or 0,1,5."""
    out: Path
    """Parent folder of the runs, which are named by their seeds."""
    train: tyro.conf.Positional[tuple[str, ...]] = ()
    """Further options of reference_agents.train."""


class VmappedUpdate:
    """One update for several agents, vmapped over their states.

    Replaces each agent's compiled update by one that waits for the others; the last agent to arrive updates all. If an
    agent fails, call ``stop``, or the others wait forever.

    Args:
        agents: JAX agents that differ only in their seeds, with the same number of updates.
    """

    def __init__(self, agents: Sequence[Any]) -> None:
        self._inputs: list[tuple[Any, Any, tuple[bool, ...]]] = [(None, None, ())] * len(agents)
        self._outputs: Sequence[Any] = ()
        self._barrier = threading.Barrier(len(agents), action=self._update_all)
        self._update = jax.jit(_vmapped(agents[0]._update), donate_argnums=0)
        self._stopped = threading.Event()
        for index, agent in enumerate(agents):
            agent._compiled_update = self._synchronised(index)

    def _synchronised(self, index: int) -> Callable[..., Any]:
        def update(state: Any, batch: Any, *due: bool) -> Any:
            self._inputs[index] = state, batch, due
            self._barrier.wait()
            return self._outputs[index]

        return update

    def _update_all(self) -> None:
        states, batches, due = zip(*self._inputs, strict=True)
        if len(set(due)) > 1:
            raise RuntimeError("expected agents that have learned equally often")
        self._outputs = self._update(states, batches, *due[0])

    def stop(self) -> None:
        """Let all threads end with an error: those that wait now, the others before their next step."""
        self._stopped.set()
        self._barrier.abort()

    def check(self) -> None:
        """Raise if threads are to end."""
        if self._stopped.is_set():
            raise threading.BrokenBarrierError


def _vmapped(update: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the update of one agent into one for tuples of states and batches."""

    def update_all(states: Any, batches: Any, *due: Any) -> Any:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
        updated = jax.vmap(update, in_axes=(0, 0) + (None,) * len(due))(stacked, batch, *due)
        return tuple(jax.tree.map(lambda leaf: leaf[index], updated) for index in range(len(states)))  # noqa: B023

    return update_all


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    goes_on = "interrupted; the same command goes on from the last checkpoints"
    return tell(
        lambda: run(parse(Command, args, prog="python -m reference_agents.jax.vmap_seeds")), interrupted=goes_on
    )


def run(command: Command) -> None:
    """Train the unfinished runs, in groups with the same number of updates.

    Raises:
        UsageError: If a run cannot start or resume in its folder, or is not of JAX.
    """
    trainings: dict[int, list[Training]] = {}
    for seed in parse_range("seeds", command.seeds):
        args = ("--framework=jax", *command.train, f"--seed={seed}", f"--out={command.out / seed}")
        config = parse(train.Command, args, prog="python -m reference_agents.train").config
        if config.framework != "jax":
            raise UsageError(f"framework: expected jax, whose updates can be vmapped, got {config.framework!r}")
        training = train.prepare(config, command.out / seed, resume=True)
        if training is not None:
            trainings.setdefault(training.agent.updates, []).append(training)
    for group in trainings.values():
        train_group(group)


def train_group(trainings: Sequence[Training]) -> None:
    """Train agents that differ only in their seeds, with the same number of updates."""
    updates = VmappedUpdate([training.agent for training in trainings])
    for training in trainings:
        training.before_step = updates.check

    def train_one(training: Training) -> None:
        try:
            training.run()
        except BaseException:
            updates.stop()
            raise

    with ExitStack() as folders:
        for training in trainings:
            folders.enter_context(training.folder.claimed(training.config))
        with ThreadPoolExecutor(len(trainings)) as pool:
            runs = [pool.submit(train_one, training) for training in trainings]
            try:
                wait(runs)
            except BaseException:  # an interrupt; folders are released when all threads have ended
                updates.stop()
                raise
        errors = [error for error in (run.exception() for run in runs) if error is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error  # the cause before the broken barriers
        for training in trainings:
            train.finish(training)


if __name__ == "__main__":
    sys.exit(main())
