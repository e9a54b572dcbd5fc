"""Analyse the recorded neuron scores of a run: ``python -m reference_agents.analyze runs/demo``.

The run must have been made with ``--record-scores``. For each network the command prints and plots the four kinds of
neurons (high or low activation score, high or low gradient score), how long neurons stay inactive and whether they
recover, the fraction of inactive neurons at other thresholds, and every neuron's score over time (Liu et al. 2025,
Figs. 3, 6 and 13).
"""

import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import tyro
from matplotlib.axes import Axes
from numpy.typing import NDArray

from neuroactivity import analysis, plotting
from neuroactivity.escaping import file_name, printable
from neuroactivity.tables import format_table
from reference_agents.activity import alive_share
from reference_agents.commandline import parse, shown, tell
from reference_agents.errors import UsageError
from reference_agents.running.files import replacing
from reference_agents.running.folder import RunFolder
from reference_agents.running.recording import read_records

TAUS: Final = (0.0, 0.001, 0.01, 0.025, 0.05, 0.1)
KINDS: Final = {
    "high_high": "active and learning",
    "high_low": "active, not learning",
    "low_high": "hardly active, learning",
    "low_low": "hardly active, not learning",
}
LONG: Final = 10
"""Measurements from which a spell of inactivity counts as long."""
METHODS: Final = {"dormant": "by activation", "inactive": "by gradient"}
MOST, MOST_GROUPS = 32, 1_000
"""Networks that are analysed, and groups of each."""
Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Command:
    """Classify neurons by both scores, follow inactive ones over time, and compare thresholds."""

    run: tyro.conf.Positional[Path]
    """Folder of a run made with --record-scores."""
    out: Path | None = None
    """Folder for the plots; by default the subfolder neurons of the run."""
    fraction: float = 0.25
    """Fraction of a layer that counts as high, and as low."""


@dataclass(frozen=True)
class History:
    """The scores of one network's neurons over a run, by one method.

    Attributes:
        steps: Environment step of each measurement.
        tau: Threshold of the method.
        scores: By group, (measurements, neurons) or (measurements, stack, neurons).
        resets: Neurons that either method reset after each measurement, in the shapes of the scores.
    """

    steps: list[int]
    tau: float
    scores: dict[str, Numbers]
    resets: dict[str, NDArray[np.bool_]]

    @property
    def inactive(self) -> dict[str, NDArray[np.bool_]]:
        """Neurons at or below the threshold."""
        return {group: scores <= self.tau for group, scores in self.scores.items()}

    def by_step(self) -> "History":
        """Merge several measurements at one environment step: keep the last scores and all resets."""
        steps, first = np.unique(self.steps, return_index=True)
        last = np.append(first[1:], len(self.steps)) - 1
        scores = {group: values[last] for group, values in self.scores.items()}
        resets = {group: np.logical_or.reduceat(marks, first) for group, marks in self.resets.items()}
        return History(steps.tolist(), self.tau, scores, resets)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m reference_agents.analyze")))


def _run(command: Command) -> None:
    if not 0 <= command.fraction <= 0.5:
        raise UsageError(f"fraction: expected a number from 0 to 0.5, got {command.fraction}")
    histories = read_histories(command.run)
    for network, methods in histories.items():
        check_both(network, methods)
    out = command.out or command.run / "neurons"
    if command.out is None and out.is_symlink():
        raise UsageError(f"run: expected a folder for the plots, got the link {out}; name it with --out")
    out.mkdir(parents=True, exist_ok=True)
    for network, methods in histories.items():
        print("\n".join(map(shown, describe(network, methods, fraction=command.fraction))), end="\n\n")
        draw(network, methods, out, fraction=command.fraction)
    print(f"pictures in {out}")


def read_histories(run: Path) -> dict[str, dict[str, History]]:
    """Read the recorded scores of a run by network and by method ("inactive" for GraMa, "dormant" for ReDo).

    Raises:
        UsageError: If no scores were recorded.
    """
    path = RunFolder(run).scores
    records = read_records(path) if path.exists() else []
    if not records:
        raise UsageError(f"run: expected the scores of a run, made with --record-scores, got no {path}")
    series: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for record in records:
        network, kind = record.get("network"), record.get("kind")
        tau = record.get("tau", math.nan)
        if not isinstance(network, str) or kind not in METHODS or not (tau is None or 0 <= tau < math.inf):
            got = f"{network!r}, {kind!r}, tau {tau!r}"
            raise UsageError(f"{path}: expected scores of a network by one of two methods, got {got}")
        series.setdefault(network, {}).setdefault(kind, []).append(record)
        if len(series) > MOST:
            raise UsageError(f"{path}: expected at most {MOST} networks, got more")
    try:
        histories = {name: {kind: _history(part) for kind, part in kinds.items()} for name, kinds in series.items()}
    except (ValueError, LookupError) as error:
        raise UsageError(f"{path}: expected scores of the same neurons each time, got {error}") from error
    if len({printable(network) for network in histories}) < len(histories):
        raise UsageError(f"{path}: expected networks whose names can be told apart")
    return {printable(network): _with_all_resets(kinds) for network, kinds in histories.items()}


def check_both(network: str, methods: Mapping[str, History]) -> None:
    """Raise a ``UsageError`` unless a network was measured by both methods together, in groups of the same sizes."""
    problem = ""
    if methods.keys() != METHODS.keys() or not _both(methods)[2]:
        problem = "no measurements of one group by both methods"
    else:
        activation, gradient, groups = _both(methods)
        sizes = [[history.scores[group].shape[1:] for group in groups] for history in (activation, gradient)]
        if gradient.steps != activation.steps[: len(gradient.steps)] or gradient.steps != sorted(gradient.steps):
            problem = "methods that measured at other steps, or steps that do not ascend"
        elif sizes[0] != sizes[1]:
            problem = "groups of other sizes by the other method"
    if problem:
        raise UsageError(f"run: expected scores of {network!r} by both methods, got {problem}")


def _with_all_resets(histories: Mapping[str, History]) -> dict[str, History]:
    """Add the resets of the other method to each history: a neuron that was reset has not recovered by itself."""
    merged = {}
    for kind, history in histories.items():
        resets = dict(history.resets)
        for method in histories.values():
            if method.steps == history.steps:
                shared = resets.keys() & method.resets.keys()
                resets |= {group: resets[group] | method.resets[group] for group in shared}
        merged[kind] = replace(history, resets=resets)
    return merged


def _history(records: Sequence[Mapping[str, Any]]) -> History:
    """Stack the records of one network and method; groups that were not measured every time are left out."""
    groups = [group for group in records[0]["scores"] if all(group in record["scores"] for record in records)]
    if len(groups) > MOST_GROUPS:
        raise ValueError(f"{len(groups)} groups, of which {MOST_GROUPS} can be told apart")
    scores, resets = {}, {}
    for group in groups:
        values = np.array([record["scores"][group] for record in records], dtype=float)  # null becomes NaN
        if values.ndim != 3 or not values.size:
            raise ValueError(f"no neurons in group {group!r}")
        marked = np.zeros(values.shape, dtype=bool)
        for time, record in enumerate(records):
            for member, neurons in enumerate(record["reset"].get(group, ())):
                marked[time, member, neurons] = True
        unstacked = values.shape[1] == 1
        scores[group], resets[group] = (values[:, 0], marked[:, 0]) if unstacked else (values, marked)
    steps = [record["step"] for record in records]
    names = {group: printable(group) for group in groups}
    if len(set(names.values())) < len(names):
        raise ValueError("two groups whose names cannot be told apart")
    named = [{names[group]: values[group] for group in groups} for values in (scores, resets)]
    return History(steps, records[0]["tau"] or 0.0, *named)


def describe(network: str, methods: Mapping[str, History], *, fraction: float) -> Iterator[str]:
    """Yield the lines of the report on one network."""
    steps = methods["inactive"].steps
    yield f"{network}: {len(steps)} measurements, at step {steps[0]:,} to {steps[-1]:,}"
    yield ""
    yield f"kinds of neurons, highest and lowest {fraction:.0%} of each layer, all measurements together"
    yield from _describe_kinds(methods, fraction)
    for kind, history in methods.items():
        yield ""
        yield f"spells of inactivity {METHODS[kind]}, score <= {history.tau:g}"
        spells = analysis.lifetimes(history.inactive, reset=history.resets)
        yield analysis.lifetime_table(spells)
        yield _all_groups([spell for group in spells.values() for spell in group])
        yield from _lasting(history)
    yield ""
    yield "inactive neurons at other thresholds, mean over the measurements"
    rows = [(METHODS[kind], *_shares(history)) for kind, history in methods.items()]
    yield from format_table(("score", *(f"tau {tau:g}" for tau in TAUS)), rows, words=("score",))


def _lasting(history: History) -> Iterator[str]:
    """Yield a line on the neurons that were reset and measured once more, if there are any."""
    again = [(marks[:-1], history.inactive[group][1:]) for group, marks in history.resets.items()]
    measured = sum(int(marks.sum()) for marks, _ in again)
    share = alive_share(measured, sum(int((marks & inactive).sum()) for marks, inactive in again))
    if share is not None:
        yield f"{measured} neurons reset, {share:.0%} of them alive at the next measurement"


def _all_groups(spells: Sequence[analysis.Spell]) -> str:
    """Summarise how the spells of all groups ended, and the long ones among them."""
    words = []
    for what, chosen in (
        ("spells in all", spells),
        (f"of {LONG} measurements or more", [spell for spell in spells if spell.length >= LONG]),
    ):
        ends = Counter(spell.end for spell in chosen)
        words.append(
            f"{len(chosen)} {what}: {', '.join(f'{ends[end]} {end}' for end in ('reset', 'open', 'recovered'))}"
        )
    return "; ".join(words)


def _describe_kinds(methods: Mapping[str, History], fraction: float) -> Iterator[str]:
    """Yield a table of the four kinds, with the fraction of each that is inactive by either score."""
    activation, gradient, groups = _both(methods)
    counts = dict.fromkeys(KINDS, np.zeros(3))  # neurons, below tau by activation, below tau by gradient
    for time in range(len(gradient.steps)):
        first, second = ({group: history.scores[group][time] for group in groups} for history in (activation, gradient))
        for group, kinds in analysis.kinds(first, second, fraction=fraction).items():
            low = first[group] <= activation.tau, second[group] <= gradient.tau
            for kind in KINDS:
                mask = getattr(kinds, kind)
                counts[kind] = counts[kind] + [mask.sum(), *((mask & below).sum() for below in low)]
    total = sum(gradient.scores[group].size for group in groups)
    header = ("kind", "share", *(f"inactive {method}" for method in METHODS.values()))
    rows = [
        (title, f"{counts[kind][0] / total:.1%}", *(_share(part, counts[kind][0]) for part in counts[kind][1:]))
        for kind, title in KINDS.items()
    ]
    yield from format_table(header, rows, words=("kind",))


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "n/a"


def _both(methods: Mapping[str, History]) -> tuple[History, History, list[str]]:
    """Return the histories by activation and by gradient, and the groups that both measured."""
    activation, gradient = methods["dormant"], methods["inactive"]
    return activation, gradient, [group for group in gradient.scores if group in activation.scores]


def _shares(history: History) -> Iterator[str]:
    """Yield the fraction of a network's neurons at or below each threshold."""
    scores = np.concatenate([values.reshape(len(values), -1) for values in history.scores.values()], axis=1)
    judged = scores[np.isfinite(scores)]
    for tau in TAUS:
        yield _share((judged <= tau).sum(), judged.size)


def draw(network: str, methods: Mapping[str, History], out: Path, *, fraction: float) -> None:
    """Plot the kinds at the last measurement, the spells, and every neuron's score over time."""
    activation, gradient, groups = _both(methods)
    first, second = ({group: history.scores[group][-1] for group in groups} for history in (activation, gradient))
    plots = {
        "kinds": plotting.quadrants(
            first, second, fraction=fraction, tau_activation=activation.tau, tau_gradient=gradient.tau
        )
    }
    for kind, history in methods.items():
        spells = analysis.lifetimes(history.inactive, reset=history.resets)
        plots[f"lifetimes_{kind}"] = plotting.lifetimes(spells)
        merged = history.by_step()
        resets = merged.resets if any(marks.any() for marks in merged.resets.values()) else None
        plots[f"scores_{kind}"] = plotting.score_map(merged.steps, merged.scores, tau=merged.tau, resets=resets)
    for name, axes in plots.items():
        _save(axes, out / f"{file_name(network)}_{name}.png")


def _save(axes: Axes, path: Path) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    with replacing(path) as file:
        figure.savefig(file, format="png")


if __name__ == "__main__":
    sys.exit(main())
