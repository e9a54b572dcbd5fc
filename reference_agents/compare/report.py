"""Text, JSON and plots of a comparison."""

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from neuroactivity.escaping import picture_text
from reference_agents.compare.comparison import (
    FEWEST_SEEDS,
    Cell,
    Comparison,
    have_one_scale,
)
from reference_agents.compare.statistics import Estimate
from reference_agents.errors import UsageError
from reference_agents.running.files import replacing
from reference_agents.running.plots import LAYERS, STYLE
from reference_agents.running.recording import write_json

CAUTION: Final = (
    f"No difference is claimed from fewer than {FEWEST_SEEDS} seeds, or where runs are left out. Nominal 95% intervals "
    "cover about 83% with 3 seeds (75% on a single task), 90% with 5, 94% with 10. Each pair is judged by itself: of "
    "pairs that do not differ, about 9 in 100 are claimed to with 5 seeds, 6 with 10."
)
MOST_TASKS: Final = 100
"""Tasks whose curves fit into one picture."""
MIDDLE: Final = 4
"""Maximum number of evaluations before the final one in a table; the JSON file and the plot have all."""


def describe(comparison: Comparison) -> Iterator[str]:
    """Yield the lines of a report."""
    tasks = list(dict.fromkeys(cell.task for cell in comparison.cells))
    for task in tasks:
        yield f"{task}: return, interquartile mean over seeds [95% interval]"
        cells = [cell for cell in comparison.cells if cell.task == task]
        yield from _table(_rows(cells))
        yield ""
        yield (
            f"{task}: neurons reset in a run, alive at the next measurement, and inactive at the end, mean over the "
            "layers [least to most of a run]"
        )
        yield from _table(
            [
                ["group", "neurons reset", "alive", "inactive"],
                *(
                    [
                        cell.group,
                        _mean_and_range(cell.neurons_reset, ",.0f"),
                        _mean_and_range(cell.alive, ".0%"),
                        _mean_and_range(cell.inactive, ".1%"),
                    ]
                    for cell in cells
                ),
            ]
        )
        yield ""
    if comparison.overall:
        yield "all tasks: return / 1,000, interquartile mean over seeds and tasks, as many seeds on each [95% interval]"
        groups = dict.fromkeys(cell.group for cell in comparison.cells)
        yield from _table([[group, _format(comparison.overall.get(group), 3)] for group in groups])
        yield ""
    elif len(tasks) > 1:
        why = "no group has as many seeds on every task" if have_one_scale(tasks) else "they have no scale in common"
        yield f"no mean over all tasks: {why}\n"
    if comparison.pairs:
        yield "probability that a run of the first group ends with a higher return [95% interval]"
        yield from _table(
            [
                [f"{pair.first} > {pair.second}", _format(pair.probability, 2), _on(pair.tasks), pair.verdict]
                for pair in comparison.pairs
            ]
        )
        yield ""
    if comparison.left_out:
        yield "left out"
        yield from _table([[path, problem] for path, problem in comparison.left_out.items()])
        yield ""
    yield textwrap.fill(CAUTION, 100)


def save(comparison: Comparison, out: Path) -> None:
    """Write comparison.json and learning_curves.png.

    Raises:
        UsageError: If the folder cannot be written to.
    """
    if (tasks := len({cell.task for cell in comparison.cells})) > MOST_TASKS:
        raise UsageError(f"runs: expected at most {MOST_TASKS} tasks, which fit into a picture, got {tasks}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "comparison.json", asdict(comparison) | {"caution": CAUTION})
        plot(comparison, out / "learning_curves.png")
    except OSError as error:
        raise UsageError(f"out: expected a folder to write to, got {out}: {error.strerror}") from error


def plot(comparison: Comparison, picture: Path) -> None:
    """Plot the learning curves of all groups, one panel per task."""
    groups = list(dict.fromkeys(cell.group for cell in comparison.cells))
    tasks = list(dict.fromkeys(cell.task for cell in comparison.cells))
    columns = min(len(tasks), 3)
    rows = math.ceil(len(tasks) / columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(5 * columns, 8), 3.8 * rows + 0.8), layout="constrained")
        figure.suptitle(
            "Return of the agent: interquartile mean over seeds, 95% interval", x=0.01, ha="left", fontsize=12
        )
        for index, task in enumerate(tasks):
            axes = figure.add_subplot(rows, columns, index + 1, title=picture_text(task), xlabel="environment steps")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            for cell in comparison.cells:
                if cell.task == task and cell.seeds:
                    _plot_curve(axes, cell, groups.index(cell.group))
        figure.axes[0].set_ylabel("return")
        lines = {str(line.get_label()): line for axes in figure.axes for line in axes.lines}
        figure.legend(lines.values(), lines, loc="outside lower center", ncols=min(len(lines), 3))
        with replacing(picture) as file:
            figure.savefig(file, format="png", dpi=150)


def _plot_curve(axes: Axes, cell: Cell, index: int) -> None:
    """Plot one learning curve with its interval, in the style of the group's index."""
    turn, colour = divmod(index, len(LAYERS))
    values, low, high = zip(*((point.value, point.low, point.high) for point in cell.curve), strict=True)
    style = ("-", "--", ":")[turn % 3]
    marker = "o" if len(cell.steps) <= 20 else ""
    axes.plot(
        cell.steps,
        values,
        style,
        color=LAYERS[colour],
        marker=marker,
        markersize=4,
        label=picture_text(cell.group, longest=100),
    )
    axes.fill_between(cell.steps, low, high, color=LAYERS[colour], alpha=0.18, linewidth=0)


def _rows(cells: Sequence[Cell]) -> list[list[str]]:
    """Return the table of one task: each group's seeds, final return, and some earlier points of the curve."""
    steps = [set(cell.steps[:-1]) for cell in cells if cell.seeds]
    common = sorted(set.intersection(*steps)) if steps else []
    stride = math.ceil(len(common) / MIDDLE) or 1
    middle = common[stride - 1 :: stride]
    rows = [["group", "seeds", "left out", "final", *(f"step {step:,}" for step in middle)]]
    for cell in cells:
        curve = dict(zip(cell.steps, cell.curve, strict=True)) if cell.seeds else {}
        final = curve[cell.steps[-1]] if curve else None
        values = [_format(final, 1), *(f"{curve[step].value:.1f}" for step in middle if curve)]
        rows.append([cell.group, str(len(cell.seeds)), str(cell.left_out), *values])
    return rows


def _on(tasks: Sequence[str]) -> str:
    """Format the number of tasks that a pair was compared on."""
    return f"on {len(tasks)} task{'s'[: len(tasks) != 1]}"


def _format(estimate: Estimate | None, digits: int) -> str:
    """Format an estimate with its interval, if there is one."""
    if estimate is None:
        return "-"
    interval = (
        f"[{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]" if math.isfinite(estimate.low) else "[one seed]"
    )
    return f"{estimate.value:.{digits}f} {interval}"


def _mean_and_range(values: Sequence[float], form: str) -> str:
    """Format the mean over runs, with the minimum and the maximum."""
    if not values:
        return "-"
    return f"{np.mean(values):{form}} [{min(values):{form}} to {max(values):{form}}]"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table with aligned columns."""
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    for row in rows:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)).rstrip()
