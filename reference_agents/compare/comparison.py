"""Comparison of groups of runs: runs with equal settings form a group over their seeds.

References:
    Agarwal, Schwarzer, Castro, Courville, Bellemare, "Deep reinforcement learning at the edge of the statistical
    precipice", NeurIPS 2021, arXiv:2108.13264.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from glob import glob
from os.path import realpath
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuroactivity.looking import RecordsError
from reference_agents.activity import alive_share
from reference_agents.compare.statistics import (
    Estimate,
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap,
)
from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.running.folder import RunFolder
from reference_agents.running.recording import read_records

FEWEST_SEEDS: Final = 5
"""Minimum number of seeds of each group on each task for a claim."""

SUITE: Final = re.compile(
    "dm_control/(acrobot|ball_in_cup|cartpole|cheetah|dog|finger|fish|hopper|humanoid|humanoid_CMU|manipulator|pendulum"
    "|point_mass|quadruped|reacher|stacker|swimmer|walker)-.*"
)
"""Tasks of the DeepMind Control Suite: 1,000 rewards in [0, 1] per episode, the only common scale of tasks."""

Bootstrap = Callable[..., Estimate]


@dataclass(frozen=True)
class Run:
    """A run, as read from its folder."""

    path: Path
    config: Config
    returns: tuple[float, ...]
    """Mean return of each evaluation, at the steps of ``evaluation_steps``."""
    problem: str | None = None
    """Reason why the run is left out, if it is."""
    neurons_reset: int | None = None
    """Neurons reset in the whole run; None if not recorded."""
    alive: float | None = None
    """Share of the neurons reset that were active at the next measurement; None if not recorded, or none was reset."""
    inactive: float | None = None
    """Fraction of neurons inactive by GraMa at the last measurement, mean over the layers."""


@dataclass(frozen=True)
class Cell:
    """The runs of one group on one task."""

    group: str
    task: str
    seeds: tuple[int, ...]
    left_out: int
    steps: tuple[int, ...]
    """Steps after which the agent was evaluated; the last is the end of training."""
    returns: tuple[tuple[float, ...], ...]  # (seeds, steps)
    curve: tuple[Estimate, ...]
    """Interquartile mean over the seeds after each of the steps; empty without seeds."""
    neurons_reset: tuple[int, ...]
    """Of each run that has recorded them."""
    alive: tuple[float, ...]
    """Share of the neurons reset that were active at the next measurement, of each run that has recorded it."""
    inactive: tuple[float, ...]
    """Final fraction of inactive neurons of each run that has recorded it."""


@dataclass(frozen=True)
class Pair:
    """How likely a run of the first group is to end with a higher return than one of the second."""

    first: str
    second: str
    tasks: tuple[str, ...]
    probability: Estimate | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Results of all groups."""

    cells: tuple[Cell, ...]
    overall: dict[str, Estimate]
    """Interquartile mean of a group's final returns / 1,000 over all tasks and seeds, if the tasks share a scale."""
    pairs: tuple[Pair, ...]
    left_out: dict[str, str]
    """Reason for each run that is left out, by path."""


def find_runs(paths: Iterable[str]) -> list[Path]:
    """Return every run folder at or below the paths and glob patterns, once each, in their order.

    Raises:
        UsageError: If a path or pattern does not exist, or there is no run at all.
    """
    folders: dict[str, Path] = {}
    for path in paths:
        matches = [path] if Path(path).exists() else sorted(glob(path))
        if not matches:
            raise UsageError(f"runs: expected folders of runs, got {path!r}, where there is nothing")
        for match in matches:
            found = {file.parent for name in ("config.json", "metrics.jsonl") for file in Path(match).rglob(name)}
            folders |= {place: each for each in sorted(found) if (place := realpath(each)) not in folders}
    if not folders:
        raise UsageError("runs: expected folders of runs, got none")
    return list(folders.values())


def read_run(path: Path) -> Run:
    """Read a run's settings and evaluations; a run that cannot be compared has a ``problem``.

    Raises:
        UsageError: If the settings cannot be read, so that the run's group is unknown.
    """
    folder = RunFolder(path)
    try:
        config = folder.settings()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"runs: expected the settings of a run in {folder.config}: {reason}") from error
    try:
        returns = _read_returns(folder, config)
        return Run(path, config, returns, None, *_read_activity(read_records(folder.metrics)[-1]))
    except UsageError as error:
        return Run(path, config, (), str(error))
    except RecordsError as error:
        return Run(path, config, (), f"damaged: {error}")
    except (OSError, ValueError, LookupError, TypeError, OverflowError) as error:
        return Run(path, config, (), f"damaged: {error!r}")


def evaluation_steps(config: Config) -> tuple[int, ...]:
    """Return the environment steps at which a run is evaluated, including the final one."""
    return tuple(_evaluation_steps(config))


def _evaluation_steps(config: Config) -> Iterator[int]:
    every = config.evaluate_every or config.steps
    return itertools.chain(range(every, config.steps, every), [config.steps])


def _read_returns(folder: RunFolder, config: Config) -> tuple[float, ...]:
    """Return the mean return of each evaluation, or raise a ``UsageError`` with the reason why the run is left out."""
    if not folder.metrics.exists():
        raise UsageError("no metrics.jsonl")
    records = read_records(folder.metrics)
    summary = folder.results()
    if summary is None or summary["step"] != config.steps:
        raise UsageError(f"unfinished: recorded up to step {records[-1]['step'] if records else 0} of {config.steps}")
    returns = {record["step"]: record["evaluation"] for record in records}
    returns[config.steps] = summary["evaluation"]["mean"]
    for step in _evaluation_steps(config):  # one by one: a damaged file may ask for more than memory holds
        if step not in returns:
            raise UsageError(f"no evaluation at step {step}")
        if returns[step] is None or not math.isfinite(returns[step]):
            raise UsageError(f"no finite return at step {step}")
    return tuple(returns[step] for step in evaluation_steps(config))


def _read_activity(last: Mapping[str, Any]) -> tuple[int | None, float | None, float | None]:
    """Return the number of neurons reset, the share of them that lasted, and the mean fraction of inactive neurons."""
    shares = [value for name, value in last.items() if name.startswith("inactive/") and value is not None]
    alive = alive_share(last.get("measured_again", 0), last.get("reset_again", 0))
    return last.get("neurons_reset"), alive, float(np.mean(shares)) if shares else None


def group_runs(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return runs by group and task; groups are named by the settings in which they differ."""
    names = _distinctive([run.config for run in runs])
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        label = ", ".join(f"{name}={getattr(run.config, name)}" for name in names)
        cells.setdefault((label or "all runs", run.config.env), []).append(run)
    return cells


def _distinctive(configs: Sequence[Config]) -> list[str]:
    """Return the settings that distinguish groups.

    Seed and task do not, nor does the number of steps if it depends only on the task. A setting whose default depends
    on other settings does not if all runs use that default.
    """
    ignored = {"seed", "env"}
    if len({(config.env, config.steps) for config in configs}) == len({config.env for config in configs}):
        ignored.add("steps")
    for name in [field.name for field in fields(Config) if field.default is None]:
        unset: dict[str, Any] = {name: None}
        if all(getattr(config, name) == getattr(replace(config, **unset), name) for config in configs):
            ignored.add(name)
    names = (field.name for field in fields(Config) if field.name not in ignored)
    return [name for name in names if len({getattr(config, name) for config in configs}) > 1]


def compare(runs: Sequence[Run], *, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Estimate each group's learning curve on each task, and the probability of improvement of each pair of groups.

    Args:
        runs: Runs with any settings.
        resamples: Bootstrap resamples for each interval.
        seed: Seed of the bootstrap.

    Raises:
        UsageError: If no run is finished, a seed occurs twice in a group, or an option is out of range.
    """
    for name, value, least in (("resamples", resamples, 1), ("seed", seed, 0)):
        if value < least:
            raise UsageError(f"{name}: expected at least {least}, got {value}")
    left_out = {str(run.path): run.problem for run in runs if run.problem is not None}
    if len(left_out) == len(runs):
        reasons = "; ".join(f"{path} ({problem})" for path, problem in left_out.items())
        raise UsageError(f"runs: expected a finished run, got {reasons or 'none'}")
    bootstrap = partial(stratified_bootstrap, rng=np.random.default_rng(seed), resamples=resamples)
    cells = [_cell(group, task, members, bootstrap) for (group, task), members in group_runs(runs).items()]
    groups = [[cell for cell in cells if cell.group == group] for group in dict.fromkeys(cell.group for cell in cells)]
    tasks = {cell.task for cell in cells}
    overall = {
        group[0].group: bootstrap(_finals(group) / 1_000, statistic=interquartile_mean)
        for group in groups
        if len(tasks) > 1 and have_one_scale(tasks) and len(group) == len(tasks) and _is_even(group)
    }
    pairs = tuple(_pair(first, second, bootstrap) for first, second in itertools.combinations(groups, 2))
    return Comparison(tuple(cells), overall, pairs, left_out)


def have_one_scale(tasks: Iterable[str]) -> bool:
    """Whether returns can be averaged over these tasks: whether all are from the DeepMind Control Suite."""
    return all(SUITE.fullmatch(task) for task in tasks)


def _cell(group: str, task: str, members: Sequence[Run], bootstrap: Bootstrap) -> Cell:
    """Estimate the learning curve of one group on one task."""
    kept: dict[int, Run] = {}
    for run in sorted(members, key=lambda run: run.config.seed):
        seed = run.config.seed
        if run.problem is None and kept.setdefault(seed, run) is not run:
            raise UsageError(f"runs: expected a seed once in a group, got {seed} in {kept[seed].path} and {run.path}")
    returns = tuple(run.returns for run in kept.values())
    points = zip(*returns, strict=True)  # each (seeds,)
    curve = tuple(bootstrap(np.array(point)[:, None], statistic=interquartile_mean) for point in points)
    steps = evaluation_steps(members[0].config) if kept else ()  # of what is left out it may be more than memory holds
    resets = tuple(run.neurons_reset for run in kept.values() if run.neurons_reset is not None)
    alive = tuple(run.alive for run in kept.values() if run.alive is not None)
    inactive = tuple(run.inactive for run in kept.values() if run.inactive is not None)
    return Cell(group, task, tuple(kept), len(members) - len(kept), steps, returns, curve, resets, alive, inactive)


def _finals(cells: Sequence[Cell]) -> NDArray[np.float64]:
    """Return the final returns of one group, shape ``(seeds, tasks)``."""
    return np.array([[returns[-1] for returns in cell.returns] for cell in cells]).T


def _is_even(cells: Sequence[Cell]) -> bool:
    """Whether a group has runs, and the same number on every task."""
    return len({len(cell.seeds) for cell in cells}) == 1 and bool(cells[0].seeds)


def _pair(first: Sequence[Cell], second: Sequence[Cell], bootstrap: Bootstrap) -> Pair:
    """Compare two groups on the tasks for which both have runs."""
    shared = [(a, b) for a in first for b in second if a.task == b.task and a.seeds and b.seeds]
    names, tasks = (first[0].group, second[0].group), tuple(a.task for a, _ in shared)
    if not shared:
        return Pair(*names, tasks, None, "not compared: no task with runs of both")
    if any(a.steps[-1] != b.steps[-1] for a, b in shared):
        return Pair(*names, tasks, None, "not compared: trained for different numbers of steps")
    finals = [_finals([cell]) for both in shared for cell in both]  # each (seeds, 1)
    probability = bootstrap(*finals, statistic=_mean_probability)
    if min(map(len, finals)) < FEWEST_SEEDS:
        verdict = f"no claim: fewer than {FEWEST_SEEDS} seeds"
    elif any(cell.left_out for cell in (*first, *second)):
        verdict = "no claim: runs are left out"
    elif probability.low <= 0.5 <= probability.high:
        verdict = "no difference shown"
    else:
        verdict = f"{names[0] if probability.value > 0.5 else names[1]} does better"
    return Pair(*names, tasks, probability, verdict)


def _mean_probability(*finals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the probability of improvement over tasks; the number of seeds may differ by task and group."""
    pairs = zip(finals[::2], finals[1::2], strict=True)
    return np.asarray(np.mean([probability_of_improvement(first, second) for first, second in pairs], axis=0))
