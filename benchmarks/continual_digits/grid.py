"""Run all settings of the study: ``python -m benchmarks.continual_digits.grid --out docs/results``.

Settings whose results exist are not run again, so an interrupted grid can be resumed.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from benchmarks.continual_digits.__main__ import run
from benchmarks.continual_digits.record import LAST, read, settings, write
from benchmarks.continual_digits.study import Study
from neuroactivity.tables import format_table
from reference_agents.commandline import parse
from reference_agents.compare.statistics import interquartile_mean, stratified_bootstrap
from reference_agents.errors import UsageError
from reference_agents.running.files import replacing, write_text

RESETS: Final = ("none", "redo", "regrama")
TITLES: Final = {"none": "no reset", "redo": "ReDo", "regrama": "ReGraMa"}
COLORS: Final = {"none": "#8a8f98", "redo": "#d9822b", "regrama": "#1b6ca8"}

SECTIONS: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = {
    "Plain network, four activation functions": tuple(
        {"activation": activation} for activation in ("relu", "tanh", "sigmoid", "leaky_relu")
    ),
    "Standardised images and LeCun-normal weights": tuple(
        {"activation": activation, "standardize": True, "init": "lecun"} for activation in ("relu", "tanh")
    ),
    "Other networks": tuple(
        {"activation": activation, "network": network}
        for network in ("layernorm", "residual")
        for activation in ("relu", "tanh")
    ),
}
"""Settings of each section; each is run without resets, with ReDo and with ReGraMa."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Run the study with all settings, and write a page with tables and plots."""

    out: Path
    """Folder for the page and the plots."""
    runs: Path = Path("runs/continual_digits")
    """Folder for the results of each setting."""
    framework: Literal["torch", "jax", "tensorflow"] = "jax"
    """Deep learning framework."""
    seeds: int = 10
    """Runs of each setting."""
    tasks: int = 60
    """Tasks of each run."""
    steps_per_task: int = 400
    """Steps of Adam on a task."""


def studies(command: Command) -> Iterator[tuple[str, str, Study]]:
    """Yield the section, name and study of each setting."""
    size: dict[str, Any] = {name: getattr(command, name) for name in ("seeds", "tasks", "steps_per_task")}
    for section, kinds in SECTIONS.items():
        for kind in kinds:
            for reset in RESETS:
                study = Study(framework=command.framework, reset=reset, **size, **kind)
                yield section, "_".join([label(study).replace(", ", "_").replace(" ", "-"), reset]), study


def label(study: Study) -> str:
    """Name the network of a study."""
    parts = [study.activation] if study.network == "mlp" else [study.network, study.activation]
    return ", ".join([*parts, "standardised"] if study.standardize else parts)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    try:
        command = parse(Command, args, prog="python -m benchmarks.continual_digits.grid")
        records: dict[str, dict[str, dict[str, Any]]] = {}
        for section, name, study in studies(command):
            records.setdefault(section, {})[name] = finished(study, command.runs / f"{name}.json")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command.out.mkdir(parents=True, exist_ok=True)
    for number, (section, found) in enumerate(records.items(), start=1):
        with replacing(command.out / f"continual_digits_{number}.png") as file:
            draw(section, list(found.values())).savefig(file, format="png", dpi=120)
    text = page(command, records)
    write_text(command.out / "continual_digits.md", text)
    print(text, end="")
    return 0


def finished(study: Study, path: Path) -> dict[str, Any]:
    """Return the record of a study; run it if the file does not exist.

    Raises:
        UsageError: If the file contains another study.
    """
    if not path.exists():
        write(study, run(study), path)
    record = read(path)
    if record["config"] != settings(study):
        raise UsageError(f"{path}: expected the study {settings(study)}, found {record['config']}")
    return record


def page(command: Command, records: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Write the tables."""
    size = f"{command.seeds} seeds, {command.tasks} tasks of {command.steps_per_task} steps, {command.framework}"
    lines = [
        "# The continual-digits study, all settings",
        "",
        f"{size}. Means over the last {min(LAST, command.tasks)} tasks; accuracy is the interquartile mean over seeds "
        "with its stratified bootstrap interval (95 %), inactive and dormant are fractions of the hidden neurons, "
        "resets are neurons a seed over the whole run. Written by",
        "",
        "    " + command_line(command),
    ]
    for number, (section, found) in enumerate(records.items(), start=1):
        header = ("network", "reset", "accuracy", "95 % interval", "inactive (GraMa)", "dormant", "resets")
        rows = [row(record) for record in found.values()]
        lines += ["", f"## {section}", "", f"![{section}](continual_digits_{number}.png)", "", "```text"]
        lines += [*format_table(header, rows, words=header[:2]), "```"]
    return "\n".join(lines) + "\n"


def command_line(command: Command) -> str:
    """Return the command that reproduces the page."""
    options = {"framework": "jax", "seeds": 10, "tasks": 60, "steps_per_task": 400}
    changed = [
        f"--{name.replace('_', '-')} {getattr(command, name)}"
        for name, default in options.items()
        if getattr(command, name) != default
    ]
    return " ".join(["python -m benchmarks.continual_digits.grid --out docs/results", *changed])


def row(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of one study."""
    study = Study(**record["config"])
    accuracy = last(record, "accuracy")[:, None]
    estimate = stratified_bootstrap(accuracy, statistic=interquartile_mean, rng=np.random.default_rng(0))
    return (
        label(study),
        TITLES[study.reset],
        f"{estimate.value:.3f}",
        f"{estimate.low:.3f} to {estimate.high:.3f}",
        f"{last(record, 'inactive_grama').mean():.1%}",
        f"{last(record, 'inactive_dormant').mean():.1%}",
        f"{np.sum(record['resets'], axis=1).mean():.0f}",
    )


def last(record: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    """Average over the last tasks, by seed."""
    return np.asarray(np.array(record[name])[:, -LAST:].mean(axis=1))


def draw(section: str, records: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot accuracy and inactivity over the tasks, one column per network and one line per reset method."""
    columns: dict[str, dict[str, Mapping[str, Any]]] = {}
    for record in records:
        study = Study(**record["config"])
        columns.setdefault(label(study), {})[study.reset] = record
    figure = Figure(figsize=(2.9 * len(columns) + 0.6, 5), layout="constrained")
    figure.suptitle(section, x=0.01, ha="left")
    panels = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
    rows = (("accuracy", "accuracy after a task"), ("inactive_grama", "inactive neurons (GraMa)"))
    for column, (name, found) in enumerate(columns.items()):
        for axes, (quantity, title) in zip(panels[:, column], rows, strict=True):
            for reset, record in found.items():
                values = np.array(record[quantity])
                tasks = np.arange(1, values.shape[1] + 1)
                low, high = np.quantile(values, [0.25, 0.75], axis=0)
                axes.fill_between(tasks, low, high, color=COLORS[reset], alpha=0.2, linewidth=0)
                axes.plot(tasks, np.median(values, axis=0), color=COLORS[reset], label=TITLES[reset])
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axes.set_ylabel(title)
        panels[0, column].set_title(name)
        panels[1, column].set_xlabel("task")
    panels[1, -1].legend(frameon=False)
    return figure


if __name__ == "__main__":
    sys.exit(main())
