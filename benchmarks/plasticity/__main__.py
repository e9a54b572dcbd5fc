"""Run an experiment: ``python -m benchmarks.plasticity --world catch --reset regrama --out runs/regrama.json``."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tyro
from tqdm import tqdm  # type: ignore[import-untyped]

from benchmarks.plasticity import dqn, ppo, sac
from benchmarks.plasticity.experiment import Experiment, Outcome
from benchmarks.plasticity.record import picture, read, restore, save, summary, write
from reference_agents.commandline import parse, tell
from reference_agents.errors import UsageError

AGENTS: Final[Mapping[str, Any]] = {"dqn": dqn, "ppo": ppo, "sac": sac}


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train agents on a world that changes from phase to phase, to measure loss of plasticity."""

    experiment: tyro.conf.OmitArgPrefixes[Experiment]
    out: Path
    """JSON file to write; a picture is saved under the same name, and until the end a checkpoint."""


def finished(experiment: Experiment, path: Path) -> Outcome:
    """Return the outcome of an experiment: that in the file, if it is there; else run it, from its checkpoint on.

    Raises:
        UsageError: If a file is there that is another experiment's.
    """
    if path.exists():
        found, outcome = read(path)
        if found != experiment:
            raise UsageError(f"{path}: expected {experiment}, found {found}")
        return outcome
    checkpoint = path.with_suffix(".npz")
    outcomes: list[Outcome] = []
    module = AGENTS[experiment.agent]
    agent, layout = module.start(experiment)
    if checkpoint.exists():
        agent, outcomes = restore(checkpoint, experiment, agent)
    with tqdm(total=experiment.phases, initial=len(outcomes), unit="phase", disable=None) as bar:
        for state, outcome in module.phases(experiment, agent, layout, len(outcomes)):
            outcomes.append(outcome)
            save(checkpoint, experiment, state, outcomes)
            bar.update()
    outcome = Outcome(*(np.stack(values, axis=1) for values in zip(*outcomes, strict=True)))
    write(experiment, outcome, path)
    picture(experiment, outcome, path.with_suffix(".png"))
    checkpoint.unlink()
    return read(path)[1]


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m benchmarks.plasticity")))


def _run(command: Command) -> None:
    if command.out.suffix != ".json":
        raise UsageError(f"out: expected a file ending in .json, got {command.out}")
    print(summary(command.experiment, finished(command.experiment, command.out)))


if __name__ == "__main__":
    sys.exit(main())
