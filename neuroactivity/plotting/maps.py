"""Every neuron's score over time."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neuroactivity.analysis import Series
from neuroactivity.arrays import to_list
from neuroactivity.errors import LayoutError
from neuroactivity.escaping import picture_text
from neuroactivity.plotting.style import FAINT, INK, Numbers, add_legend, check_times, label_steps, new_axes

ACTIVE: Final = ("#dbe7f2", "#a3c6e0", "#5b9bc8", "#1f5f99")
INACTIVE: Final = ("#b34700", "#fbb040")
ZERO, UNKNOWN, REBORN = "#2b1508", "#c9ced4", "#00e5b0"
LEVELS: Final = 512  # colours of a scale


def score_map(
    steps: Sequence[float],
    scores: Series,
    *,
    tau: float | None = None,
    resets: Series | None = None,
    sort: bool = True,
    axes: Axes | None = None,
) -> Axes:
    """Draw every neuron's score over time: a row for each neuron, a block of rows for each group.

    The colours are those of a logarithmic scale. A score of exactly 0 has a colour of its own, scores of at most
    ``tau`` have a range of their own, and neurons that were reset are marked.

    Args:
        steps: When the measurements were made, in ascending order.
        scores: Scores by group name: a sequence over the measurements of arrays of shape ``(neurons,)`` or
            ``(stack, neurons)``, or one array with a leading axis for the measurements.
        tau: Threshold at or below which a neuron is inactive.
        resets: Masks of the same form, of the neurons that were reset after each measurement.
        sort: Whether the rows of a group are in the order of their scores, the lowest on top (in the mean of the
            logarithm over time). Otherwise they are in the order of the neurons, the first on top.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes.

    Raises:
        LayoutError: If there is nothing to draw, if a group has not one array for each step, or if its masks have
            another shape than its scores.
        ValueError: If the steps do not ascend.

    Example:
        >>> score_map([0, 1000], {"fc": np.array([[0.0, 2.0], [0.5, 1.5]])}, tau=0.01).get_yticklabels()
        [Text(0, 1.0, 'fc (2)')]
    """
    edges = _edges(steps)
    groups = {name: _rows(series, steps, name) for name, series in scores.items()}
    marks = {name: _rows(series, steps, name) for name, series in (resets or {}).items()}
    for name in marks:
        if name not in groups or groups[name].shape != marks[name].shape:
            raise LayoutError(f"group {name!r}, resets: expected masks of the shapes of the group's scores")
    everything = np.concatenate([rows.ravel() for rows in groups.values()] or [np.zeros(0)])
    if not everything.size:
        raise LayoutError("scores: expected a group with a neuron at least")
    axes = new_axes(axes, min(max(2.8, 0.9 + 1.05 * len(groups)), 12), groups)
    colours, norm = _score_colours(everything, tau)
    total, bottom, centres = sum(map(len, groups.values())), 0.0, list[float]()
    for name, rows in groups.items():
        top = bottom + 0.015 * total if centres else 0.0
        bottom = top + max(len(rows), 0.045 * total)  # room for a label
        borders = np.linspace(top, bottom, len(rows) + 1)
        shown = _coded(rows, norm)
        order = np.argsort(np.log(np.nan_to_num(shown, nan=1.0)).mean(axis=1), kind="stable")
        order = order if sort else np.arange(len(rows))
        mesh = axes.pcolormesh(edges, borders, shown[order], cmap=colours, norm=norm, rasterized=True)
        if name in marks:
            place, time = np.nonzero(marks[name][order])
            heights = (borders[:-1] + borders[1:])[place] / 2
            size = min(max(1.8, 300 / total), 5)
            axes.plot(np.asarray(steps)[time], heights, "o", color=REBORN, markersize=size, markeredgewidth=0)
        centres.append((top + bottom) / 2)
    labels = [f"{picture_text(name)} ({len(rows)})" for name, rows in groups.items()]
    axes.set_yticks(centres, labels, fontsize=min(9, 600 / len(groups)))
    axes.set_ylim(bottom, 0)
    _dress_map(axes, mesh, everything, tau, marked=bool(marks))
    return axes


def _rows(series: Any, steps: Sequence[float], name: str) -> Numbers:
    """Copy the arrays of one group to one with a row for each neuron, stack members one after the other."""
    times = [series[time, ...] for time in range(series.shape[0])] if hasattr(series, "shape") else list(series)
    check_times(len(times), steps, name)
    if any(tuple(array.shape) != tuple(times[0].shape) for array in times):
        raise LayoutError(f"group {name!r}: expected arrays of one shape at all steps")
    return np.array([np.ravel(to_list(array)) for array in times], dtype=float).T


def _edges(steps: Sequence[float]) -> Numbers:
    """Return the borders between measurements, half way from one to the next."""
    at = np.asarray(steps, dtype=float)
    gaps = np.diff(at)
    if not len(at) or not (gaps > 0).all():
        raise ValueError(f"steps: expected one at least, in ascending order, got {list(steps)}")
    before, after = (gaps[0], gaps[-1]) if len(gaps) else (1.0, 1.0)
    return np.concatenate([[at[0] - before / 2], at[:-1] + gaps / 2, [at[-1] + after / 2]])


def _score_colours(scores: Numbers, tau: float | None) -> tuple[Colormap, LogNorm]:
    """Choose the scale of the scores, with an edge just above tau, so that a score of tau is below the edge."""
    positive = scores[np.isfinite(scores) & (scores > 0)]
    highest = float(np.clip(positive.max(initial=0), 3, 10))
    active = LinearSegmentedColormap.from_list("active", ACTIVE)
    if tau:
        edge = tau * (1 + 1e-6)  # more than what float32 makes of tau
        highest = max(highest, 2 * edge)
        below = round(LEVELS * math.log(30) / math.log(30 * highest / edge))
        lowest = edge * (edge / highest) ** (below / (LEVELS - below))
        inactive = LinearSegmentedColormap.from_list("inactive", INACTIVE)
        shades = [inactive(np.linspace(0, 1, below)), active(np.linspace(0, 1, LEVELS - below))]
    else:
        lowest = float(np.clip(positive.min(initial=1), 1e-4, 0.1))
        shades = [active(np.linspace(0, 1, LEVELS))]
    colours = ListedColormap(np.concatenate(shades), "scores").with_extremes(under=ZERO, bad=UNKNOWN)
    return colours, LogNorm(lowest, highest)


def _coded(scores: Numbers, norm: LogNorm) -> Numbers:
    """Return scores as the scale takes them: 0 below its lower end, small ones on it, those not finite NaN."""
    lowest = float(norm.vmin or 0)
    small = np.where(scores == 0, lowest / 10, np.maximum(scores, lowest))
    return np.where(np.isfinite(scores), small, np.nan)


def _dress_map(axes: Axes, mesh: QuadMesh, scores: Numbers, tau: float | None, *, marked: bool) -> None:
    """Add to a map of scores what explains it."""
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    label_steps(axes)
    extend = "both" if scores[np.isfinite(scores)].max(initial=0) > mesh.norm.vmax else "min"
    bar = axes.figure.colorbar(mesh, ax=axes, extend=extend, pad=0.015, aspect=30, extendfrac=0.03, format="%g")
    bar.set_label("score", color=INK)
    bar.minorticks_off()
    bar.ax.tick_params(color=FAINT, labelcolor=INK)
    bar.outline.set_visible(False)
    handles: list[Artist] = [Patch(color=ZERO, label="score 0")]
    if tau:
        handles.append(Patch(color=INACTIVE[1], label=f"at most {tau:g}"))
    handles.append(Patch(color=ACTIVE[2], label=f"above {tau or 0:g}"))
    if not np.isfinite(scores).all():
        handles.append(Patch(color=UNKNOWN, label="not finite"))
    if marked:
        handles.append(Line2D([], [], marker="o", linestyle="none", color=REBORN, markersize=5, label="reset"))
    add_legend(axes, handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(handles))
