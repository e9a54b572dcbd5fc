"""Run the study: ``python -m benchmarks.plasticity.study``, which is ``make plasticity``.

Each method is tuned on seeds of its own, and then run on others. What exists is not run again, so an interrupted study
can be resumed.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.plasticity.__main__ import finished
from benchmarks.plasticity.experiment import Experiment, Outcome
from benchmarks.plasticity.page import draw, draw_curves, filled, tables
from benchmarks.plasticity.settings import (
    AGAIN,
    AGAIN_IN,
    AGAIN_METHODS,
    METHODS,
    PLAN,
    RESULT,
    SWEPT,
    SWEPT_IN,
    TUNED_IN,
    experiment,
    trials,
)
from benchmarks.plasticity.statistics import at_the_end
from reference_agents.commandline import parse, tell
from reference_agents.errors import UsageError
from reference_agents.running.files import replacing, write_text

Finish = Callable[[Iterable[tuple[Path, Experiment]]], list[Outcome | None]]
"""Finishes experiments; None stands for what is not there and is not to be run."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Tune and run the methods of the study in its settings, and write the record, the tables and the pictures."""

    out: Path = Path("docs/results")
    """Folder of the page whose tables are written, and for what goes with it: pictures, and the record of the study."""
    runs: Path = Path("runs/plasticity")
    """Folder for the results of each experiment."""
    jobs: int = 2
    """Processes."""
    only_finished: bool = False
    """Whether to run nothing, and to write only what is there."""


def page_of(command: Command, name: str) -> Path:
    """Return the page whose tables a command writes, before anything runs.

    Raises:
        UsageError: If there is none, or the number of processes is out of range.
    """
    if command.jobs < 1:
        raise UsageError(f"jobs: expected at least 1, got {command.jobs}")
    if not (command.out / name).exists():
        raise UsageError(f"out: expected a folder with {name}, whose tables are written, got {command.out}")
    return command.out / name


def path_of(runs: Path, setting: str, method: str, value: float | None, seed: int) -> Path:
    """Return the file of an experiment's results."""
    own = "" if value is None else f"_{value:g}"
    return runs / setting / f"{method}{own}_seed{seed}.json"


def tuning(runs: Path, finish: Finish) -> dict[str, dict[float, float]]:
    """Return the return at the end with each value that is tried for each method, on the seeds of tuning."""
    planned = {
        (method, value): trial for method in METHODS if method in PLAN[TUNED_IN] for value, trial in trials(method)
    }
    outcomes = finish((path_of(runs, TUNED_IN, *key, trial.seed), trial) for key, trial in planned.items())
    found: dict[str, dict[float, float]] = {}
    for (method, value), outcome in zip(planned, outcomes, strict=True):
        if outcome is not None:
            found.setdefault(method, {})[value] = round(float(at_the_end(outcome.returns).mean()), 3)
    return {method: returns for method, returns in found.items() if len(returns) == len(METHODS[method].values)}


def chosen(tried: dict[str, dict[float, float]], method: str) -> float | None:
    """Return the value that was best, the first one of equals; None for a method without a setting of its own."""
    returns = tried.get(method, {})
    return max(returns, key=lambda value: returns[value]) if returns else None


def results(runs: Path, tried: dict[str, dict[float, float]], finish: Finish) -> Iterator[dict[str, Any]]:
    """Yield the record of each method in each setting, then those of some methods on seeds not used before."""
    keys = [(setting, method, RESULT) for setting, methods in PLAN.items() for method in methods]
    keys += [(AGAIN_IN, method, seeds) for seeds in AGAIN for method in AGAIN_METHODS]
    planned = []
    paths: dict[Experiment, Path] = {}  # a tuned method may be the usual one
    for setting, method, seeds in keys:
        value = chosen(tried, method)
        one = experiment(setting, method, value, **seeds)
        planned.append((setting, method, value, one))
        paths.setdefault(one, path_of(runs, setting, method, value, one.seed))
    outcomes = dict(zip(paths, finish((path, one) for one, path in paths.items()), strict=True))
    for setting, method, value, one in planned:
        if (outcome := outcomes[one]) is not None:
            yield {"setting": setting, "method": method, "value": value, "seed": one.seed, **record_of(outcome)}


def thresholds(runs: Path, finish: Finish) -> Iterator[dict[str, Any]]:
    """Yield the record of each other threshold."""
    keys = [
        (setting, method, value) for setting in SWEPT_IN for method, (_, values) in SWEPT.items() for value in values
    ]
    outcomes = finish((path_of(runs, *key, RESULT["seed"]), experiment(*key, **RESULT)) for key in keys)
    for (setting, method, value), outcome in zip(keys, outcomes, strict=True):
        if outcome is not None:
            yield {"setting": setting, "method": method, "value": value, **record_of(outcome)}


def record_of(outcome: Outcome) -> dict[str, Any]:
    """Return what the page shows: by seed at the end, in sum, quartiles by phase, curves of the first and last one."""
    quartiles = np.quantile(outcome.returns, [0.25, 0.5, 0.75], axis=0)
    return {
        "returns": at_the_end(outcome.returns).round(4).tolist(),
        "inactive": at_the_end(outcome.inactive).round(4).tolist(),
        "rank": at_the_end(outcome.rank).round(3).tolist(),
        "norm": at_the_end(outcome.norm).round(3).tolist(),
        "resets": np.asarray(outcome.resets).sum(axis=1).tolist(),
        "measured_again": int(np.sum(outcome.measured_again)),
        "reset_again": int(np.sum(outcome.reset_again)),
        "by_phase": quartiles.round(3).tolist(),
        "curves": np.median(outcome.curves[:, [0, -1]], axis=0).round(3).tolist(),
    }


@contextmanager
def finishing(jobs: int, *, only_finished: bool) -> Iterator[Finish]:
    """Yield a function that finishes experiments, in so many processes of one thread each."""
    if only_finished:
        yield lambda planned: [finished(one, path) if path.exists() else None for path, one in planned]
        return
    # Where XLA optimises less, results are rounded otherwise, and are there in two thirds of the time.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
    os.environ.setdefault("PJRT_NPROC", "1")
    if jobs == 1:
        yield lambda planned: [finished(one, path) for path, one in planned]
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:

        def finish(planned: Iterable[tuple[Path, Experiment]]) -> list[Outcome | None]:
            waiting = [pool.submit(_finish, one, path) for path, one in planned]
            return [one.result() for one in waiting]

        yield finish


def _finish(one: Experiment, path: Path) -> Outcome:
    """Finish an experiment and forget its programs, before they take all memory maps that a process can have."""
    outcome = finished(one, path)
    jax.clear_caches()  # type: ignore[no-untyped-call]
    return outcome


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m benchmarks.plasticity.study")))


def _run(command: Command) -> None:
    page = page_of(command, "plasticity.md")
    with finishing(command.jobs, only_finished=command.only_finished) as finish:
        tried = tuning(command.runs, finish)
        found = list(results(command.runs, tried, finish))
        swept = list(thresholds(command.runs, finish))
    record: dict[str, Any] = {"results": found, "thresholds": swept}
    record["tuning"] = [{"method": name, "returns": list(map(list, one.items()))} for name, one in tried.items()]
    write_text(command.out / "plasticity.json", json.dumps(record) + "\n")
    for name, drawn in {"plasticity": draw(record), "plasticity_curves": draw_curves(record)}.items():
        with replacing(command.out / f"{name}.png") as file:
            drawn.savefig(file, format="png", dpi=130)
    write_text(page, filled(page.read_text(), tables(record)))
    for name, lines in tables(record).items():
        print("\n".join([name, *lines, ""]))


if __name__ == "__main__":
    sys.exit(main())
