"""Run all settings of the study: ``python -m benchmarks.continual_digits.grid --out docs/results``.

Settings whose results exist are not run again, so an interrupted grid can be resumed.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from reference_agents.activity import alive_share
from reference_agents.commandline import parse, tell
from reference_agents.compare.statistics import interquartile_mean, stratified_bootstrap
from reference_agents.errors import UsageError
from reference_agents.running.files import check_target, replacing, write_text

VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "none": {"reset": "none"},
    "redo": {"reset": "redo", "clock": "run"},
    "redo_own": {"reset": "redo"},
    "regrama": {"reset": "regrama", "clock": "run"},
    "regrama_own": {"reset": "regrama"},
    "continual": {"reset": "continual"},
}
"""What each setting is run with; the resets of published codes are named by their method alone."""
TITLES: Final = {
    "none": "no reset",
    "redo": "ReDo, published",
    "redo_own": "ReDo",
    "regrama": "ReGraMa, published",
    "regrama_own": "ReGraMa",
    "continual": "ccbp-pytorch",
}
COLORS: Final = {
    "none": "#8a8f98",
    "redo": "#eab983",
    "redo_own": "#d9822b",
    "regrama": "#8dbbe0",
    "regrama_own": "#1b6ca8",
    "continual": "#3a9679",
}
RATES: Final = (0.003, 0.01, 0.03, 0.1)
"""Replacement rates among which ccbp-pytorch's is chosen, by the accuracy of ``TUNED_ON``."""
TUNED_ON: Final[Mapping[str, Any]] = {"seed": 1000, "seeds": 2, "tasks": 20}

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
"""Settings of each section."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Run the study with all settings, and write a page with tables and plots."""

    out: Path
    """Folder for the page and the plots."""
    runs: Path = Path("runs/continual_digits")
    """Folder for the results of each setting."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """What is run of none, redo, redo_own, regrama, regrama_own and continual; those in _own with the default clock."""
    framework: Literal["torch", "jax", "tensorflow"] = "jax"
    """Deep learning framework."""
    seeds: int = 10
    """Runs of each setting."""
    tasks: int = 60
    """Tasks of each run."""
    steps_per_task: int = 400
    """Steps of Adam on a task."""


def studies(command: Command) -> Iterator[tuple[str, str, Study]]:
    """Yield the section, name and study of each setting; ccbp-pytorch's is still to be tuned."""
    if unknown := sorted(set(command.variants) - set(VARIANTS)):
        raise UsageError(f"variants: expected some of {', '.join(VARIANTS)}, got {unknown[0]!r}")
    size: dict[str, Any] = {name: getattr(command, name) for name in ("seeds", "tasks", "steps_per_task")}
    for section, kinds in SECTIONS.items():
        for kind in kinds:
            for variant, options in VARIANTS.items():
                if variant not in command.variants or (variant == "continual" and command.framework != "jax"):
                    continue
                study = Study(framework=command.framework, **options, **size, **kind)
                yield section, "_".join([label(study).replace(", ", "_").replace(" ", "-"), variant]), study


def tuned(study: Study, name: str, folder: Path) -> Study:
    """Return a study of ccbp-pytorch at the replacement rate that is best on other seeds."""
    accuracy = {}
    for rate in RATES:
        trial = replace(study, replacement_rate=rate, **TUNED_ON)
        accuracy[rate] = last(finished(trial, folder / f"{name}_{rate:g}_tuning.json"), "accuracy").mean()
    return replace(study, replacement_rate=max(RATES, key=lambda rate: accuracy[rate]))


def variant_of(study: Study) -> str:
    """Return the name of what a study was run with."""
    found = {"reset": study.reset, "clock": study.clock}
    return next(name for name, options in VARIANTS.items() if {"clock": "own", **options} == found)


def label(study: Study) -> str:
    """Name the network of a study."""
    parts = [study.activation] if study.network == "mlp" else [study.network, study.activation]
    return ", ".join([*parts, "standardised"] if study.standardize else parts)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m benchmarks.continual_digits.grid")))


def _run(command: Command) -> None:
    planned = list(studies(command))
    check_target(command.out / "continual_digits.md")
    records: dict[str, dict[str, dict[str, Any]]] = {}
    for section, name, study in planned:
        if study.reset == "continual":
            study = tuned(study, name, command.runs)
        records.setdefault(section, {})[name] = finished(study, command.runs / f"{name}.json")
    for number, (section, found) in enumerate(records.items(), start=1):
        with replacing(command.out / f"continual_digits_{number}.png") as file:
            draw(section, list(found.values())).savefig(file, format="png", dpi=120)
    text = page(command, records)
    write_text(command.out / "continual_digits.md", text)
    print(text, end="")


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
        "resets are neurons a seed over the whole run, alive is the share of them that was active at the next "
        "measurement. Published resets leave the optimizer's step count to the run (`--clock run`); ours have one of "
        "their own. ccbp-pytorch is discrete continual backprop as in its version 0.0.3, restated in "
        f"`benchmarks/continual_digits/continual.py`, at the best of the replacement rates {RATES}, chosen on "
        f"{TUNED_ON['seeds']} other seeds of {TUNED_ON['tasks']} tasks. Written by",
        "",
        "    " + command_line(command),
    ]
    for number, (section, found) in enumerate(records.items(), start=1):
        header = ("network", "reset", "accuracy", "95 % interval", "inactive (GraMa)", "dormant", "resets", "alive")
        rows = [row(record) for record in found.values()]
        lines += ["", f"## {section}", "", f"![{section}](continual_digits_{number}.png)", "", "```text"]
        lines += [*format_table(header, rows, words=header[:2]), "```"]
    return "\n".join(lines) + "\n"


def command_line(command: Command) -> str:
    """Return the command that reproduces the page."""
    options = {"framework": "jax", "seeds": 10, "tasks": 60, "steps_per_task": 400}
    chosen = [] if command.variants == tuple(VARIANTS) else ["--variants", *command.variants]
    changed = [
        f"--{name.replace('_', '-')} {getattr(command, name)}"
        for name, default in options.items()
        if getattr(command, name) != default
    ]
    return " ".join(["python -m benchmarks.continual_digits.grid --out docs/results", *chosen, *changed])


def row(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of one study."""
    study = Study(**record["config"])
    accuracy = last(record, "accuracy")[:, None]
    share = alive_share(np.sum(record["measured_again"]), np.sum(record["reset_again"]))
    variant = variant_of(study)
    rate = f" ({study.replacement_rate:g})" if variant == "continual" else ""
    estimate = stratified_bootstrap(accuracy, statistic=interquartile_mean, rng=np.random.default_rng(0))
    return (
        label(study),
        TITLES[variant] + rate,
        f"{estimate.value:.3f}",
        f"{estimate.low:.3f} to {estimate.high:.3f}",
        f"{last(record, 'inactive_grama').mean():.1%}",
        f"{last(record, 'inactive_dormant').mean():.1%}",
        f"{np.sum(record['resets'], axis=1).mean():.0f}",
        "" if share is None else f"{share:.0%}",
    )


def last(record: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    """Average over the last tasks, by seed."""
    return np.asarray(np.array(record[name])[:, -LAST:].mean(axis=1))


def draw(section: str, records: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot accuracy and inactivity over the tasks, one column per network and one line per variant."""
    columns: dict[str, dict[str, Mapping[str, Any]]] = {}
    for record in records:
        study = Study(**record["config"])
        columns.setdefault(label(study), {})[variant_of(study)] = record
    figure = Figure(figsize=(2.9 * len(columns) + 0.6, 5), layout="constrained")
    figure.suptitle(section, x=0.01, ha="left")
    panels = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
    rows = (("accuracy", "accuracy after a task"), ("inactive_grama", "inactive neurons (GraMa)"))
    for column, (name, found) in enumerate(columns.items()):
        for axes, (quantity, title) in zip(panels[:, column], rows, strict=True):
            for variant, record in found.items():
                values = np.array(record[quantity])
                tasks = np.arange(1, values.shape[1] + 1)
                low, high = np.quantile(values, [0.25, 0.75], axis=0)
                axes.fill_between(tasks, low, high, color=COLORS[variant], alpha=0.2, linewidth=0)
                axes.plot(tasks, np.median(values, axis=0), color=COLORS[variant], label=TITLES[variant])
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
