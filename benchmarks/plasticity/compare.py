"""Compare experiments: ``python -m benchmarks.plasticity.compare runs/none.json runs/regrama.json --out both.png``.

Each is compared with the first one, on the same seeds.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from benchmarks.plasticity.experiment import Experiment, Outcome
from benchmarks.plasticity.record import read
from benchmarks.plasticity.statistics import MOST, holm, interquartile, sign_flip
from neuroactivity.tables import format_table
from reference_agents.activity import alive_share
from reference_agents.commandline import parse, tell
from reference_agents.errors import UsageError
from reference_agents.running.files import replacing

__all__ = ["by_seed", "draw", "p_text", "table"]

COLOURS = ("#8a8f98", "#1b6ca8", "#3a9679", "#d9822b", "#8dbbe0", "#9b5fb5", "#b8473c", "#5c7f2e")
Runs = Mapping[str, tuple[Experiment, Outcome]]


@dataclass(frozen=True, kw_only=True)
class Command:
    """Compare experiments with the first of them: returns, inactive neurons, resets, and a picture by phase."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """JSON files of ``python -m benchmarks.plasticity``; their names are those of the table."""
    first: int = 2
    """First phase that counts: in phase 1 nothing can have been lost."""
    failed: float | None = None
    """Return below which a phase has failed, to count them."""
    out: Path | None = None
    """Picture to write, a PNG file."""


def by_seed(outcome: Outcome, first: int) -> NDArray[np.float64]:
    """Average the returns from a phase on, by seed."""
    return np.asarray(np.asarray(outcome.returns, dtype=float)[:, first - 1 :].mean(axis=1))


def table(runs: Runs, first: int, failed: float | None = None, *, p: Mapping[str, float] | None = None) -> list[str]:
    """Compare mean returns from a phase on: interquartile means over seeds, two-sided p corrected by Holm's method.

    Args:
        runs: Experiments and outcomes by name.
        first: First phase that counts.
        failed: Return below which a phase has failed.
        p: Of each run against the first one, where more than these are corrected together.
    """
    means = {name: by_seed(outcome, first) for name, (_, outcome) in runs.items()}
    start, *others = means
    p = holm({name: sign_flip(means[name], means[start]) for name in others}) if p is None else p
    rows = []
    for name, (_, outcome) in runs.items():
        estimate, seeds = interquartile(means[name]), means[name]
        share = alive_share(np.sum(outcome.measured_again), np.sum(outcome.reset_again))
        figures = [f"{estimate.value:.4g}", f"{estimate.low:.4g} to {estimate.high:.4g}"]
        figures += [f"{seeds.min():.4g}, {seeds.max():.4g}", f"{np.asarray(outcome.inactive)[:, -1].mean():.0%}"]
        if failed is not None:
            returns = np.asarray(outcome.returns)[:, first - 1 :]
            figures.append(f"{(returns < failed).sum()} of {returns.size}")
        resets = f"{np.asarray(outcome.resets).sum(axis=1).mean():,.0f}" if np.any(outcome.resets) else ""
        tested = "" if name == start else p_text(p[name])
        rows.append((name, *figures, resets, "" if share is None else f"{share:.0%}", tested))
    counted = () if failed is None else ("failed phases",)
    titles = ("run", "return", "95 % interval", "lowest, highest", "inactive", *counted, "neurons reset", "alive")
    return format_table((*titles, f"p against {start}"), rows, words=("run",))


def p_text(p: float) -> str:
    """Return a p-value as the tables have it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def draw(runs: Runs) -> Figure:
    """Plot returns and inactive neurons by phase: medians and interquartile ranges over seeds."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    returns, inactive = figure.subplots(1, 2)
    for (name, (_, outcome)), colour in zip(runs.items(), COLOURS, strict=False):
        for axes, values in ((returns, outcome.returns), (inactive, outcome.inactive)):
            low, median, high = np.quantile(np.asarray(values, dtype=float), [0.25, 0.5, 0.75], axis=0)
            phases = np.arange(1, len(median) + 1)
            axes.fill_between(phases, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(phases, median, color=colour, label=name, linewidth=2)
    returns.set_title("return at the end of a phase")
    inactive.set(title="inactive neurons (GraMa)", ylim=(0, 1))
    inactive.yaxis.set_major_formatter("{x:.0%}")
    for axes in (returns, inactive):
        axes.set_xlabel("phase")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*returns.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def read_all(paths: Sequence[Path]) -> dict[str, tuple[Experiment, Outcome]]:
    """Read experiments of the same seeds, by the names of their files.

    Raises:
        UsageError: If they cannot be compared.
    """
    if not 2 <= len(paths) <= len(COLOURS):
        raise UsageError(f"runs: expected 2 to {len(COLOURS)} files, got {len(paths)}")
    runs = {path.stem: read(path) for path in paths}
    if len(runs) < len(paths):
        raise UsageError("runs: expected files of different names")
    start, *others = runs.values()
    for name, (one, _) in zip(list(runs)[1:], others, strict=True):
        if (one.seed, one.seeds, one.phases) != (start[0].seed, start[0].seeds, start[0].phases):
            raise UsageError(f"runs: {name} has other seeds or phases than {next(iter(runs))}")
    if start[0].seeds > MOST:
        raise UsageError(f"runs: expected at most {MOST} seeds, got {start[0].seeds}")
    return runs


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m benchmarks.plasticity.compare")))


def _run(command: Command) -> None:
    runs = read_all(command.runs)
    phases = next(iter(runs.values()))[0].phases
    if not 1 <= command.first <= phases:
        raise UsageError(f"first: expected 1 to {phases}, got {command.first}")
    print("\n".join(table(runs, command.first, command.failed)))
    if command.out:
        with replacing(command.out) as file:
            draw(runs).savefig(file, format="png", dpi=130)


if __name__ == "__main__":
    sys.exit(main())
