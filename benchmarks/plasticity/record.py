"""The record of an experiment: a JSON file with its settings and all numbers, a picture, and a checkpoint to resume."""

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.plasticity.experiment import Experiment, Outcome
from neuroactivity.looking import RecordsError
from reference_agents.activity import alive_share
from reference_agents.compare.statistics import interquartile_mean, stratified_bootstrap
from reference_agents.errors import UsageError
from reference_agents.running.files import read_json, replacing, write_text

__all__ = ["picture", "read", "restore", "save", "summary", "write"]


def write(experiment: Experiment, outcome: Outcome, path: Path) -> None:
    """Write settings and numbers to a file."""
    numbers = {name: np.asarray(values).round(6).tolist() for name, values in outcome._asdict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"config": dataclasses.asdict(experiment)} | numbers) + "\n")


def read(path: Path) -> tuple[Experiment, Outcome]:
    """Read what ``write`` wrote.

    Raises:
        UsageError: If the file is not a record of an experiment.
        RecordsError: If it holds no JSON.
    """
    try:
        record: dict[str, Any] = read_json(path, "the record of an experiment")
        experiment = Experiment(**record["config"])
        outcome = Outcome(*(np.asarray(record[name]) for name in Outcome._fields))
        expected = (experiment.seeds, experiment.phases)
        if any(values.shape[:2] != expected or values.dtype.kind not in "fi" for values in outcome):
            raise ValueError(f"numbers that are not of shape {expected}")
    except RecordsError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: expected the record of an experiment, got {error}") from error
    return experiment, outcome


def save(path: Path, experiment: Experiment, agent: Any, outcomes: list[Outcome]) -> None:
    """Write a checkpoint: the leaves of the agents, and the outcomes of the phases so far."""
    done = Outcome(*(np.stack(values, axis=1) for values in zip(*outcomes, strict=True)))
    arrays = {f"agent{number}": _plain(leaf) for number, leaf in enumerate(jax.tree.leaves(agent))}
    arrays |= done._asdict() | {"config": np.array(_config(experiment))}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def restore(path: Path, experiment: Experiment, agent: Any) -> tuple[Any, list[Outcome]]:
    """Read a checkpoint into agents of the same form; return them and the outcomes so far.

    Raises:
        UsageError: If the file is not a checkpoint of this experiment.
    """
    leaves, form = jax.tree.flatten(agent)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if str(file["config"]) != _config(experiment):
                raise ValueError("another experiment's")
            saved = [file[f"agent{number}"] for number in range(len(leaves))]
            done = [file[name] for name in Outcome._fields]
        for leaf, values in zip(leaves, saved, strict=True):
            if values.shape != _plain(leaf).shape or values.dtype != _plain(leaf).dtype:
                raise ValueError("arrays of another form")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{path}: expected a checkpoint of this experiment, got {error}") from error
    restored = [_like(leaf, values) for leaf, values in zip(leaves, saved, strict=True)]
    outcomes = [Outcome(*(values[:, phase] for values in done)) for phase in range(done[0].shape[1])]
    return jax.tree.unflatten(form, restored), outcomes


def _config(experiment: Experiment) -> str:
    return json.dumps(dataclasses.asdict(experiment))


def _plain(leaf: Any) -> np.ndarray[Any, Any]:
    """Return a leaf as an array of numbers; random keys by their data."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _like(leaf: Any, values: np.ndarray[Any, Any]) -> jax.Array:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(jnp.asarray(values)) if is_key else jnp.asarray(values)


def summary(experiment: Experiment, outcome: Outcome) -> str:
    """Summarise the last eighth of the phases in one line."""
    last = max(1, experiment.phases // 8)
    scores = outcome.returns[:, -last:].mean(axis=1, keepdims=True)
    estimate = stratified_bootstrap(scores, statistic=interquartile_mean, rng=np.random.default_rng(0))
    share = alive_share(outcome.measured_again.sum(), outcome.reset_again.sum())
    alive = "" if share is None else f", {share:.0%} of them active at the next measurement"
    return (
        f"{experiment.world}, {experiment.network} {experiment.activation}, {experiment.reset}: "
        f"return {estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f}), "
        f"inactive {outcome.inactive[:, -last:].mean():.1%} "
        f"(last {last} of {experiment.phases} phases, {experiment.seeds} seeds), "
        f"{outcome.resets.sum(axis=1).mean():.0f} neurons reset a seed{alive}"
    )


def picture(experiment: Experiment, outcome: Outcome, path: Path) -> None:
    """Plot returns and inactive neurons by phase, and the learning curves of the first and the last phase."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    title = f"{experiment.world}, {experiment.network}, {experiment.activation}, {experiment.reset}"
    figure.suptitle(title, x=0.01, ha="left")
    returns, inactive, curves = figure.subplots(1, 3)
    numbers = np.arange(1, experiment.phases + 1)
    for axes, values in ((returns, outcome.returns), (inactive, outcome.inactive)):
        axes.plot(numbers, values.T, color="#a9bcd0", linewidth=0.8)
        axes.plot(numbers, values.mean(0), color="#1b6ca8", linewidth=2)
        axes.set(xlabel="phase", xlim=(1, max(experiment.phases, 2)))
    returns.set_title("return at the end of a phase")
    inactive.set(title="inactive neurons (GraMa)", ylim=(-0.02, 1.02))
    inactive.yaxis.set_major_formatter(PercentFormatter(1))
    times = np.linspace(0, 1, outcome.curves.shape[-1])
    for phase, color in ((0, "#8a8f98"), (-1, "#1b6ca8")):
        curves.plot(times, outcome.curves[:, phase].mean(0), color=color, label=("first", "last")[phase] + " phase")
    curves.set_title("return within a phase")
    if experiment.world == "catch":
        returns.set_ylim(-1.05, 1.05)
        curves.set_ylim(-1.05, 1.05)
    curves.xaxis.set_major_formatter(PercentFormatter(1))
    curves.legend(frameon=False)
    for axes in (returns, inactive, curves):
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)
