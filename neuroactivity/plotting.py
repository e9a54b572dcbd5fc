"""Pictures of neuronal activity (matplotlib): over time, neuron by neuron, by kind, by length of inactivity.

Each function draws on the axes it is given, or on those of a new figure, and returns the axes. A new figure is outside
of ``pyplot``, whose state and settings stay as they are; ``axes.figure.savefig(...)`` writes it. Give axes of a figure
with ``layout="constrained"``, since legends stand beside them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from neuroactivity.analysis import Series, Spell, kinds
from neuroactivity.arrays import Array, Arrays, to_list
from neuroactivity.errors import LayoutError

try:
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, LogNorm
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator
except ImportError as error:
    raise ImportError("neuroactivity.plotting needs matplotlib and NumPy: pip install 'neuroactivity[plot]'") from error

__all__ = ["inactivity", "lifetimes", "quadrants", "score_map"]

Numbers: TypeAlias = Any
"""A NumPy array."""

# Colours that the colour-blind tell apart; those of lines and points are Okabe and Ito's.
GROUPS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1f2933", "#8c6d46")
STYLES: Final = ("-", "--", ":")  # in turn, where there are more groups than colours
ACTIVE: Final = ("#dbe7f2", "#a3c6e0", "#5b9bc8", "#1f5f99")
INACTIVE: Final = ("#b34700", "#fbb040")
ZERO, UNKNOWN, REBORN = "#2b1508", "#c9ced4", "#00e5b0"
RESET, FAINT, GRID, INK, DARK = "#c2185b", "#c3ccd5", "#e4e7eb", "#3e4c59", "#1f2933"
KINDS: Final = {
    "high_high": ("high activation, high gradient", "#0072b2", "o"),
    "high_low": ("high activation, low gradient", "#d55e00", "s"),
    "low_high": ("low activation, high gradient", "#009e73", "^"),
    "low_low": ("low activation, low gradient", "#7b4ea3", "v"),
}
ENDS: Final = {"open": "#4a5568", "reset": "#e69f00", "recovered": "#009e73"}
LEVELS: Final = 512  # colours of a scale
LINEAR: Final = 1e-3  # at or below this score the scales of the quadrants are linear, down to 0


def inactivity(
    steps: Sequence[float],
    fractions: Mapping[str, Sequence[float | None]],
    *,
    resets: Iterable[float] = (),
    axes: Axes | None = None,
) -> Axes:
    """Draw the inactive fraction of each group over time.

    Args:
        steps: When the measurements were made.
        fractions: For each group name a fraction at each step, in ``[0, 1]``; ``None`` or NaN leaves a gap.
        resets: Steps at which neurons were reset, to be marked.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes.

    Raises:
        LayoutError: If a group has not one fraction for each step.

    Example:
        >>> inactivity([0, 1000, 2000], {"fc1": [0.0, 0.25, 0.5], "fc2": [None, 0.0, 0.0]}).get_ylabel()
        'inactive neurons'
    """
    axes, highest = _axes(axes, min(max(3.6, 0.9 + 0.2 * len(fractions)), 12), fractions), 0.05
    colours = GROUPS if len(fractions) <= len(GROUPS) else colormaps["viridis"](np.linspace(0, 0.92, len(fractions)))
    lines = []
    for place, (name, values) in enumerate(fractions.items()):
        _check_times(len(values), steps, name)
        heights = np.array([math.nan if value is None else float(value) for value in values])
        highest = max(highest, np.nan_to_num(heights).max(initial=0.0))
        style = STYLES[place // len(GROUPS) % len(STYLES)]
        width = max(3.0 - 0.3 * place, 1.2)  # lines that coincide, often at zero, all show
        alone = _alone(heights)
        dots: dict[str, Any] = {"marker": "o", "markersize": 4, "markevery": alone} if alone else {}
        lines += axes.plot(steps, heights, style, color=colours[place], linewidth=width, label=name, **dots)
    if marked := list(resets):
        above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        lines += axes.plot(marked, [1.03] * len(marked), "v", color=RESET, markersize=4, label="reset", **above)
    axes.set_ylim(-0.02 * highest, 1.05 * highest)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.set_ylabel("inactive neurons")
    _label_steps(axes)
    _legend(axes, lines)
    return axes


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
    axes = _axes(axes, min(max(2.8, 0.9 + 1.05 * len(groups)), 12), groups)
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
    labels = [f"{name} ({len(rows)})" for name, rows in groups.items()]
    axes.set_yticks(centres, labels, fontsize=min(9, 600 / len(groups)))
    axes.set_ylim(bottom, 0)
    _dress_map(axes, mesh, everything, tau, marked=bool(marks))
    return axes


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
    _label_steps(axes)
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
    _legend(axes, handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(handles))


def quadrants(
    activation_scores: Arrays,
    gradient_scores: Arrays,
    *,
    fraction: float = 0.25,
    tau_activation: float | None = None,
    tau_gradient: float | None = None,
    masks: Arrays | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw every neuron by its two scores, in the colours of the four kinds. The axes are logarithmic, down to 0.

    Args:
        activation_scores: Scores by group name, from :func:`neuroactivity.tau_dormant`.
        gradient_scores: Scores of the same groups, from :func:`neuroactivity.grama`.
        fraction: What counts as high and low, as in :func:`neuroactivity.analysis.kinds`.
        tau_activation: Threshold of the activation score, to be drawn.
        tau_gradient: Threshold of the gradient score, to be drawn.
        masks: Neurons that a method resets, by group name, to be ringed.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes.

    Raises:
        LayoutError: If the groups or shapes of the mappings differ.
        ValueError: If ``fraction`` is out of range.

    Example:
        >>> scores = {"fc": np.array([0.1, 0.9, 1.2, 1.8])}
        >>> quadrants(scores, scores).get_xlabel()
        'activation score'
    """
    found = kinds(activation_scores, gradient_scores, fraction=fraction)
    resets = {} if masks is None else masks
    for name in resets:
        if name not in found or resets[name].shape != activation_scores[name].shape:
            raise LayoutError(f"group {name!r}, masks: expected a mask of the shape of the group's scores")
    x, y = _join(activation_scores.values()), _join([gradient_scores[name] for name in found])
    axes, handles, neither = _axes(axes, 5), list[Artist](), np.ones(len(x), dtype=bool)
    for field, (label, colour, marker) in KINDS.items():
        chosen = _join(getattr(kind, field) for kind in found.values()) > 0
        neither &= ~chosen
        handles += _points(axes, x, y, chosen, label, color=colour, marker=marker, markersize=4, alpha=0.75)
    handles += _points(axes, x, y, neither, "neither", color=FAINT, marker="o", markersize=2.5, zorder=1.8)
    if masks is not None:
        ringed = _join(resets.get(name, found[name].high_high & ~found[name].high_high) for name in found) > 0
        ring = {"marker": "o", "markersize": 6.5, "fillstyle": "none", "markeredgewidth": 0.7, "zorder": 1.7}
        handles += _points(axes, x, y, ringed, "reset", color=DARK, **ring)
    line: dict[str, Any] = {"color": DARK, "linewidth": 1.2}
    if tau_activation is not None:
        handles.append(
            axes.axvline(tau_activation, linestyle="--", label=f"activation tau: {tau_activation:g}", **line)
        )
    if tau_gradient is not None:
        handles.append(axes.axhline(tau_gradient, linestyle=":", label=f"gradient tau: {tau_gradient:g}", **line))
    axes.set_xscale("symlog", linthresh=LINEAR, linscale=0.6)
    axes.set_yscale("symlog", linthresh=LINEAR, linscale=0.6)
    axes.set_xlim(-0.35 * LINEAR, 2 * x[np.isfinite(x)].max(initial=1))
    axes.set_ylim(-0.35 * LINEAR, 2 * y[np.isfinite(y)].max(initial=1))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("activation score")
    axes.set_ylabel("gradient score")
    _legend(axes, handles)
    return axes


def _points(axes: Axes, x: Numbers, y: Numbers, chosen: Numbers, label: str, **style: Any) -> list[Line2D]:
    """Draw some of the points, and give their share."""
    share = f"{label}: {chosen.sum() / max(len(chosen), 1):.1%}"
    return axes.plot(x[chosen], y[chosen], linestyle="none", label=share, **{"markeredgewidth": 0, **style})


def _join(arrays: Iterable[Array]) -> Numbers:
    """Join the arrays of all groups to one."""
    return np.concatenate([np.zeros(0), *[np.ravel(to_list(array)) for array in arrays]])


def lifetimes(spells: Mapping[str, Iterable[Spell]], *, axes: Axes | None = None) -> Axes:
    """Draw how many spells of inactivity lasted how long at least, by how they ended.

    Args:
        spells: Spells by group name, from :func:`neuroactivity.analysis.lifetimes`. All groups are taken together.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes.

    Example:
        >>> lifetimes({"fc": [Spell(neuron=0, member=None, start=0, length=3, end="open")]}).get_xlabel()
        'lasted at least (measurements)'
    """
    axes = _axes(axes, 3.6)
    lengths: dict[str, list[int]] = {end: [] for end in ENDS}
    for spell in [spell for group in spells.values() for spell in group]:
        lengths[spell.end].append(spell.length)
    total = sum(map(len, lengths.values()))
    longest = max([1, *[length for group in lengths.values() for length in group]])
    edges, base = np.arange(longest + 1) + 0.5, np.zeros(longest)
    handles: list[Artist] = []
    for end, colour in ENDS.items():
        counts = base + (np.array(lengths[end])[:, None] >= np.arange(1, longest + 1)).sum(axis=0)
        label = f"{end}: {len(lengths[end])} ({len(lengths[end]) / max(total, 1):.0%})"
        handles.append(axes.stairs(counts, edges, baseline=base, fill=True, color=colour, label=label))
        base = counts
    axes.set_xscale("log")
    axes.set_xlim(0.5, longest + 0.5)
    axes.set_ylim(0, 1.05 * max(total, 1))
    ticks = [mantissa * 10**power for power in range(len(str(longest))) for mantissa in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if tick <= longest], minor=False)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_xlabel("lasted at least (measurements)")
    axes.set_ylabel("spells of inactivity")
    _legend(axes, handles[::-1])
    return axes


def _axes(axes: Axes | None, height: float, names: Iterable[str] = ()) -> Axes:
    """Return the given axes as they are, or those of a new figure, which is wider where names are long."""
    if axes is not None:
        return axes
    width = 8.5 + 0.08 * max([0, *[len(name) - 16 for name in names]])
    axes = Figure(figsize=(width, height), dpi=150, layout="constrained").add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=INK, which="both")
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.set_axisbelow(True)
    axes.grid(color=GRID)
    return axes


def _legend(axes: Axes, handles: Sequence[Artist], **place: Any) -> None:
    """Put a legend beside the axes, where it hides nothing, or at another place."""
    if handles:
        beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "ncols": math.ceil(len(handles) / 56)}
        axes.legend(
            handles=handles, frameon=False, borderaxespad=0.2, fontsize=9, labelcolor=INK, **{**beside, **place}
        )


def _label_steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("steps")


def _alone(heights: Numbers) -> list[int]:
    """Return the places of values between two gaps, which a line does not show."""
    known = np.concatenate([[False], np.isfinite(heights), [False]])
    return [int(place) for place in np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])]


def _rows(series: Any, steps: Sequence[float], name: str) -> Numbers:
    """Copy the arrays of one group to one with a row for each neuron, stack members one after the other."""
    times = [series[time, ...] for time in range(series.shape[0])] if hasattr(series, "shape") else list(series)
    _check_times(len(times), steps, name)
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


def _check_times(count: int, steps: Sequence[float], name: str) -> None:
    if count != len(steps):
        raise LayoutError(f"group {name!r}: expected {len(steps)} measurements, one for each step, got {count}")
