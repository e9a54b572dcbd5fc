"""Compare runs over their seeds: ``python -m reference_agents.compare runs/... --out runs/comparison``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from reference_agents.commandline import parse, shown, tell
from reference_agents.compare.comparison import compare, find_runs, read_run
from reference_agents.compare.report import describe, save


@dataclass(frozen=True, kw_only=True)
class Command:
    """Compare groups of finished runs, which differ only in their seeds: returns, and which group is better."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run folders, parent folders, or glob patterns."""
    out: Path | None = None
    """Output folder for comparison.json and learning_curves.png."""
    resamples: int = 10_000
    """Bootstrap resamples for each interval."""
    seed: int = 0
    """Seed of the bootstrap."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m reference_agents.compare")))


def _run(command: Command) -> None:
    runs = [read_run(path) for path in find_runs(command.runs)]
    comparison = compare(runs, resamples=command.resamples, seed=command.seed)
    if command.out is not None:
        save(comparison, command.out)
    print("\n".join(map(shown, describe(comparison))))


if __name__ == "__main__":
    sys.exit(main())
