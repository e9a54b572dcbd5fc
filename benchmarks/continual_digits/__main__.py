"""Run the study: ``python -m benchmarks.continual_digits --activation tanh --reset redo --out runs/tanh_redo.json``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import tyro
from tqdm import tqdm  # type: ignore[import-untyped]

from benchmarks.continual_digits.record import picture, summary, write
from benchmarks.continual_digits.study import Outcome, Study, draw_tasks
from reference_agents.commandline import parse, tell
from reference_agents.errors import UsageError
from reference_agents.running.files import check_target


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train on a sequence of random labellings of the same images, to measure loss of plasticity."""

    study: tyro.conf.OmitArgPrefixes[Study]
    out: Path
    """JSON file to write; a plot is saved under the same name."""


def run(study: Study) -> Outcome:
    """Run a study in its framework, with a progress bar.

    Raises:
        UsageError: If the framework is not installed.
    """
    try:
        runs = import_module(f"benchmarks.continual_digits.{study.framework}_runs")
    except ModuleNotFoundError as error:
        raise UsageError(f"framework: {study.framework!r} is not installed here: {error}") from error
    with tqdm(total=study.tasks * study.seeds, unit="task", disable=None) as bar:
        outcome: Outcome = runs.run(study, draw_tasks(study), bar.update)
    return outcome


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m benchmarks.continual_digits")))


def _run(command: Command) -> None:
    if command.out.suffix != ".json":
        raise UsageError(f"out: expected a file ending in .json, got {command.out}")
    check_target(command.out)
    outcome = run(command.study)
    write(command.study, outcome, command.out)
    picture(command.study, outcome, command.out.with_suffix(".png"))
    print(summary(command.study, outcome))


if __name__ == "__main__":
    sys.exit(main())
