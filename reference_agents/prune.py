"""Prune neurons of a trained actor and evaluate what is left: ``python -m reference_agents.prune runs/demo``.

In each layer the neurons with the lowest scores are removed first: by gradient score, by activation score, and at
random as a baseline (Liu et al. 2025, Fig. 7). A normalisation layer is pruned with the layer in front of it, as it
scales the same units. The run must have been made with ``--record-scores``; its latest checkpoint is pruned, by the
latest scores before it. The run's folder is not changed.
"""

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import tyro
from numpy.typing import NDArray

import neuroactivity as na
from neuroactivity.tables import format_table
from reference_agents.agent import Masks
from reference_agents.analyze import History, check_both, read_histories
from reference_agents.commandline import parse, shown, tell
from reference_agents.errors import UsageError
from reference_agents.running.evaluation import describe
from reference_agents.running.files import check_target
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from reference_agents.running.recording import write_json
from reference_agents.seeding import derive

METHODS: Final = {"inactive": "lowest gradient score", "dormant": "lowest activation score", "random": "at random"}
ANY: Final = 1e30
"""A threshold above every score, so that the fraction alone decides how many neurons are removed."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Evaluate an actor with growing fractions of its neurons pruned, by either score and at random."""

    run: tyro.conf.Positional[Path]
    """Folder of a run made with --record-scores."""
    fractions: tuple[float, ...] = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75)
    """Fractions of each hidden layer to remove."""
    episodes: int = 10
    """Episodes per evaluation, with the same seeds for all."""
    out: Path | None = None
    """JSON file for the returns."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m reference_agents.prune")))


def _run(command: Command) -> None:
    results = prune_run(command.run, command.fractions, episodes=command.episodes, out=command.out)
    print("\n".join(map(shown, report(results))))
    if command.out is not None:
        write_json(command.out, results)


def prune_run(run: Path, fractions: Sequence[float], *, episodes: int, out: Path | None = None) -> dict[str, Any]:
    """Evaluate the actor of a run with fractions of its neurons removed.

    Args:
        run: Folder of the run.
        fractions: Fractions of each hidden layer to remove, in ``[0, 1]``.
        episodes: Episodes per evaluation.
        out: File that is to be written, which is tried before the first evaluation.

    Returns:
        The ``step`` of the checkpoint, the step of the ``scores``, and under ``pruned`` for each method and fraction
        the number of neurons removed and the returns.

    Raises:
        UsageError: If there is no checkpoint, no scores before it, or a fraction is out of range.
    """
    if episodes < 1:
        raise UsageError(f"episodes: expected at least 1, got {episodes}")
    for fraction in fractions:
        if not 0 <= fraction <= 1:
            raise UsageError(f"fractions: expected numbers from 0 to 1, got {fraction}")
    histories = read_histories(run).get("actor", {})
    folder = RunFolder(run)
    if not folder.checkpoint.exists():
        raise UsageError(f"run: expected a checkpoint, as --checkpoint-every makes them, got no {folder.checkpoint}")
    try:
        config = folder.settings()
    except UsageError as error:
        raise UsageError(f"run: expected the settings of a run, got {folder.config}: {error}") from error
    if ":" in config.env and config.env.partition(":")[0] not in sys.modules:
        raise UsageError(f"run: expected an environment of a module that is imported already, got {config.env!r}")
    check_both("actor", histories)
    training = Training(replace(config, evaluation_episodes=episodes), folder)
    training.restore()
    step, intact = training.progress.step, training.agent.save()
    scores, at = _latest(histories, step)
    random = np.random.default_rng(derive(config.seed, "pruning"))
    scores["random"] = {group: random.random(values.shape) for group, values in scores["inactive"].items()}
    layout, pruned = training.agent.activity.layouts["actor"], []
    _check_groups(scores, layout)
    if out is not None:
        check_target(out)
    for method, method_scores in scores.items():
        for fraction in fractions:
            masks = _lowest_scores(method_scores, layout, fraction)
            try:
                training.agent.prune_actor(masks)
            except na.LayoutError as error:
                raise UsageError(f"run: expected scores of this actor: {error}") from error
            returns = training.evaluate()
            training.agent.load(intact)
            neurons = int(sum(mask.sum() for mask in masks.values()))
            pruned.append({"method": method, "fraction": fraction, "neurons": neurons, "evaluation": describe(returns)})
    return {"step": step, "scores": at, "pruned": pruned}


def _latest(histories: Mapping[str, History], step: int) -> tuple[dict[str, dict[str, NDArray[Any]]], int]:
    """Return the latest scores up to a step by method and group, and the step at which they were measured."""
    steps = histories["inactive"].steps
    times = [time for time, measured in enumerate(steps) if measured <= step]
    if times and times[-1] >= len(histories["dormant"].steps):
        raise UsageError("run: expected as many measurements by either method")
    if not times:
        raise UsageError(f"run: expected scores from before its checkpoint at step {step}, got the first at {steps[0]}")
    scores = {
        kind: {group: values[times[-1]] for group, values in histories[kind].scores.items()}
        for kind in ("inactive", "dormant")
    }
    return scores, steps[times[-1]]


def _check_groups(scores: Mapping[str, Mapping[str, NDArray[Any]]], layout: na.Layout) -> None:
    """Raise a ``UsageError`` unless all scores are of groups of the actor."""
    if unknown := {group for groups in scores.values() for group in groups} - layout.keys():
        raise UsageError(f"run: expected scores of this actor, got those of {sorted(unknown)[0]!r}")


def _lowest_scores(scores: Mapping[str, NDArray[Any]], layout: na.Layout, fraction: float) -> Masks:
    """Mask a fraction of each hidden layer, the neurons with the lowest scores, and the same of its normalisation."""
    hidden = {group: values for group, values in scores.items() if layout[group].resettable}
    masks = na.reset_masks(hidden, ANY, max_fraction=fraction, reset_silent=True)
    for layer, norm in itertools.pairwise(hidden):
        if _is_normed(layout[layer], layout[norm]) and masks[layer].shape == masks[norm].shape:
            masks[norm] = masks[layer]
    return masks


def _is_normed(layer: na.NeuronGroup, norm: na.NeuronGroup) -> bool:
    """Whether the second group is the normalisation right behind the first: both have the same units."""
    scales = set(norm.incoming[0].pattern.split()) <= {"neuron", "stack"}
    return scales and (layer.status == "through_norm" or layer.status == norm.status == "shared")


def report(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of returns by method and fraction."""
    yield f"actor of step {results['step']:,}, pruned by the scores of step {results['scores']:,}: mean return"
    returns: dict[float, dict[str, str]] = {}
    for entry in results["pruned"]:
        evaluation = entry["evaluation"]
        text = f"{evaluation['mean']:.1f} ± {evaluation['std']:.1f}"
        returns.setdefault(entry["fraction"], {})[entry["method"]] = text
    rows = [(f"{fraction:.0%}", *(by_method[method] for method in METHODS)) for fraction, by_method in returns.items()]
    yield from format_table(("removed of each layer", *METHODS.values()), rows, words=("removed of each layer",))


if __name__ == "__main__":
    sys.exit(main())
