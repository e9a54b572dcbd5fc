"""Plot of a run: returns, and the fraction of inactive neurons."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from numpy.typing import NDArray

from neuroactivity.escaping import picture_text
from reference_agents.activity import alive_share
from reference_agents.errors import UsageError
from reference_agents.running.files import replacing
from reference_agents.running.recording import read_records

Records = Sequence[dict[str, Any]]
Colour = str | tuple[float, float, float, float]

STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": "#3e4c59",
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "text.color": "#1f2933",
    "xtick.color": "#616e7c",
    "ytick.color": "#616e7c",
    "legend.frameon": False,
}
RESETS: Final = "neurons reset"
AGAIN: Final = "most did not last"
LAYERS: Final = ("#1b6ca8", "#e07a3f", "#3a9679", "#8e5ea2", "#7f6f5d", "#d4a72c")
LEGEND_WIDTH: Final = 110  # characters
MOST: Final = 16  # networks
TRAINING, EVALUATION, RANDOM, RESET = "#a9bcd0", "#1b6ca8", "#9aa5b1", "#c44e52"


def plot_run(metrics: Path, picture: Path, *, title: str, random_policy: float | None = None) -> None:
    """Plot the return, and below it the inactive fraction of each network's groups, over the environment steps.

    Records with resets are marked, and circled where most of the neurons that were reset before are inactive again.

    Args:
        metrics: The run's metrics.jsonl.
        picture: PNG file to write.
        title: Title of the figure.
        random_policy: Mean return of a random policy, as a baseline.
    """
    records = read_records(metrics)
    networks = _names(records, "neurons_reset/", part=1)
    if not 0 < len(networks) <= MOST:
        raise UsageError(f"{metrics}: expected records of 1 to {MOST} networks, got {len(networks)}")
    colours = _colours(_groups(records, "inactive/"))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 6.2), layout="constrained")
        figure.suptitle(picture_text(title, longest=200), x=0.01, ha="left", fontsize=13, fontweight="bold")
        mosaic: list[Any] = [["/"] * len(networks), networks]  # no network's name has a slash
        panels = figure.subplot_mosaic(mosaic, empty_sentinel="//")
        _plot_returns(panels["/"], records, random_policy)
        for network in networks:
            _plot_activity(panels[network], records, network, colours)
        _align([panels[network] for network in networks])
        for axes in panels.values():
            axes.set_xlim(0, records[-1]["step"] * 1.01)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.set_xlabel("environment steps")
        lines = {str(line.get_label()): line for network in networks for line in panels[network].lines}
        lines |= {label: lines.pop(label) for label in (RESETS, AGAIN) if label in lines}  # moves them to the end
        columns = max(1, min(len(lines), LEGEND_WIDTH // (5 + max(map(len, lines)))))
        figure.legend(lines.values(), lines, loc="outside lower center", ncols=columns)
        with replacing(picture) as file:
            figure.savefig(file, format="png", dpi=150)


def _plot_returns(axes: Axes, records: Records, random_policy: float | None) -> None:
    """Plot the returns of training episodes and of evaluations."""
    if random_policy is not None:
        axes.axhline(random_policy, color=RANDOM, linewidth=1.4, linestyle="--", label="random policy")
    steps, returns = _series(records, "return")
    alone = "o" if len(steps) == 1 else ""
    axes.plot(steps, returns, marker=alone, color=TRAINING, linewidth=1.8, label="training episodes")
    axes.plot(*_series(records, "evaluation"), "o-", color=EVALUATION, linewidth=2, markersize=5, label="evaluation")
    axes.set_ylabel("return")
    axes.legend(loc="upper left")


def _plot_activity(axes: Axes, records: Records, network: str, colours: Mapping[str, Colour]) -> None:
    """Plot the inactive fraction of each group of one network, and mark the records that follow resets."""
    for kind, style in (("inactive", "-"), ("dormant", ":")):
        prefix = f"{kind}/{network}/"
        for index, (name, group) in enumerate(_groups(records, prefix).items()):
            at, values = _series(records, prefix + group)
            axes.plot(
                at,
                values,
                style,
                marker="o" if len(at) == 1 else "",  # which a line does not show
                color=colours.get(name, LAYERS[-1]),
                linewidth=max(3.2 - 0.8 * index, 1),  # keeps coinciding lines visible
                label=picture_text(name if kind == "inactive" else f"{name}, ReDo"),
            )
    new, measured, again = (
        _increases(records, f"{name}/{network}") for name in ("neurons_reset", "measured_again", "reset_again")
    )
    steps, top = np.array([record["step"] for record in records]), axes.get_xaxis_transform()
    marked, lost = steps[new > 0], steps[2 * again > measured]
    axes.plot(marked, [0.97] * len(marked), "v", color=RESET, markersize=4, transform=top, label=RESETS)
    if len(lost):
        hollow: dict[str, Any] = {"markerfacecolor": "none", "markersize": 8, "transform": top, "clip_on": False}
        axes.plot(lost, [0.97] * len(lost), "o", color=RESET, label=AGAIN, **hollow)
    share = alive_share(measured.sum(), again.sum())
    alive = "" if share is None else f", {share:.0%} lasted"
    axes.set_title(f"{picture_text(network, longest=30)}: {new.sum()} neurons reset{alive}")


def _increases(records: Records, key: str) -> NDArray[np.int64]:
    """Return by how much a count has grown since the record before; zeros in records of earlier versions without it."""
    return np.diff([record.get(key, 0) for record in records], prepend=0)


def _align(panels: Sequence[Axes]) -> None:
    """Use the same y-axis for all networks."""
    highest = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(-0.02 * highest, max(highest * 1.1, 0.05))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(labelleft=axes is panels[0])
    panels[0].set_ylabel("inactive neurons")


def _series(records: Records, key: str) -> tuple[list[int], list[float]]:
    """Return steps and values of one metric, where it is not None."""
    known = [(record["step"], record[key]) for record in records if record.get(key) is not None]
    return [step for step, _ in known], [value for _, value in known]


def _groups(records: Records, prefix: str) -> dict[str, str]:
    """Return the groups whose keys have a prefix: display name to name in the records."""
    groups = _names(records, prefix, part=2)
    return {group.replace("/", ".").removeprefix("trunk."): group for group in groups}  # TensorFlow uses slashes


def _colours(groups: Collection[str]) -> dict[str, Colour]:
    """Assign each group a colour, the same in every network; from a colour map if there are many."""
    if len(groups) <= len(LAYERS):
        return dict(zip(groups, LAYERS, strict=False))
    scale = mpl.colormaps["turbo"]
    return {group: scale(0.05 + 0.9 * index / (len(groups) - 1)) for index, group in enumerate(groups)}


def _names(records: Records, prefix: str, *, part: int) -> list[str]:
    """Return the distinct values of one part, between slashes, of the keys with a prefix."""
    keys = [key.split("/", 2) for key in (records or [{}])[-1] if key.startswith(prefix)]
    return list(dict.fromkeys(key[part] for key in keys if len(key) > part))
