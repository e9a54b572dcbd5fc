"""Results of a study: a JSON file with all numbers, and a plot."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.continual_digits.study import Outcome, Study
from neuroactivity.looking import RecordsError
from reference_agents.activity import alive_share
from reference_agents.errors import UsageError
from reference_agents.running.files import read_json, replacing, write_text

__all__ = ["LAST", "picture", "read", "settings", "summary", "write"]

LAST = 10
"""Tasks at the end over which the summary averages."""

PANELS = (
    ("accuracy", "accuracy at the end of a task"),
    ("inactive_grama", "inactive by GraMa"),
    ("inactive_dormant", "dormant by activation"),
)


def summary(study: Study, outcome: Outcome) -> str:
    """Summarise the last tasks in one line."""
    share = alive_share(outcome.measured_again.sum(), outcome.reset_again.sum())
    alive = "" if share is None else f", {share:.0%} of them alive at the next measurement"
    final = {name: float(getattr(outcome, name)[:, -LAST:].mean()) for name, _ in PANELS}
    return (
        f"{study.framework} {study.network} {study.activation}, reset {study.reset}{_options(study)}: "
        f"accuracy {final['accuracy']:.3f}, "
        f"inactive {final['inactive_grama']:.1%} by GraMa and {final['inactive_dormant']:.1%} by activation "
        f"(last {min(LAST, study.tasks)} tasks, {study.seeds} seeds), "
        f"{outcome.resets.sum(1).mean():.0f} neurons reset a seed{alive}"
    )


def _options(study: Study) -> str:
    """Name the options of the reset that are not the defaults."""
    if study.reset == "continual":
        return f" (replacement rate {study.replacement_rate:g})"
    changed = [f"{name} {getattr(study, name)}" for name in ("clock", "batches", "outgoing")]
    defaults = ("clock own", "batches 1", "outgoing zero")
    shown = [option for option in changed if option not in defaults]
    return f" ({', '.join(shown)})" if shown else ""


def settings(study: Study) -> dict[str, Any]:
    """Return the resolved settings."""
    return dataclasses.asdict(study) | {"tau": study.threshold}


def read(path: Path) -> dict[str, Any]:
    """Read what ``write`` wrote.

    Raises:
        UsageError: If the file is not a record of a study.
        RecordsError: If it holds no JSON.
    """
    try:
        record: dict[str, Any] = read_json(path, "the record of a study")
        config = record["config"]
        if "clock" not in config:  # of an earlier version, in which there was but one
            config |= {"clock": "own" if config["reset"] == "none" else "run"}
            record |= {name: np.zeros_like(record["resets"]).tolist() for name in ("measured_again", "reset_again")}
        record["config"] = settings(Study(**config))
        if any(np.shape(record[name]) != np.shape(record["accuracy"]) for name in Outcome._fields):
            raise ValueError("its numbers are not all of one shape")
    except RecordsError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"{path}: expected the record of a study, got {error}") from error
    return record


def write(study: Study, outcome: Outcome, path: Path) -> None:
    """Write the numbers to a file."""
    record: dict[str, Any] = {"config": settings(study)}
    record |= {name: np.asarray(values).tolist() for name, values in outcome._asdict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record) + "\n")


def picture(study: Study, outcome: Outcome, path: Path) -> None:
    """Plot accuracy and inactivity over the tasks to a file."""
    with replacing(path) as file:
        _draw(study, outcome).savefig(file, format="png", dpi=150)


def _draw(study: Study, outcome: Outcome) -> Figure:
    """Plot accuracy and inactivity over the tasks: the mean over seeds, and each seed faintly."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    title = f"{study.network}, {study.activation}, reset: {study.reset}{_options(study)} ({study.framework})"
    figure.suptitle(title, x=0.01, ha="left")
    tasks = np.arange(1, study.tasks + 1)
    for axes, (name, title) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        values = getattr(outcome, name)
        axes.plot(tasks, values.T, color="#a9bcd0", linewidth=0.8)
        axes.plot(tasks, values.mean(0), color="#1b6ca8", linewidth=2)
        axes.set(title=title, xlabel="task", ylim=(-0.02, 1.02), xlim=(1, max(study.tasks, 2)))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.spines[["top", "right"]].set_visible(False)
    return figure
