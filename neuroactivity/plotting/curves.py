"""Inactive neurons over time, and how long they stay so."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from neuroactivity.analysis import Spell
from neuroactivity.escaping import picture_text
from neuroactivity.plotting.style import RESET, Numbers, add_legend, check_times, label_steps, new_axes

GROUPS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1f2933", "#8c6d46")
STYLES: Final = ("-", "--", ":")  # in turn, where there are more groups than colours
ENDS: Final = {"open": "#4a5568", "reset": "#e69f00", "recovered": "#009e73"}


def inactivity(
    steps: Sequence[float],
    fractions: Mapping[str, Sequence[float | None]],
    *,
    resets: Iterable[float] = (),
    reset_again: Iterable[float] = (),
    axes: Axes | None = None,
) -> Axes:
    """Draw the inactive fraction of each group over time.

    Args:
        steps: When the measurements were made.
        fractions: For each group name a fraction at each step, in ``[0, 1]``; ``None`` or NaN leaves a gap.
        resets: Steps at which neurons were reset, to be marked.
        reset_again: Steps at which most of the neurons that were reset before were inactive again, to be circled.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes.

    Raises:
        LayoutError: If a group has not one fraction for each step.

    Example:
        >>> inactivity([0, 1000, 2000], {"fc1": [0.0, 0.25, 0.5], "fc2": [None, 0.0, 0.0]}).get_ylabel()
        'inactive neurons'
    """
    axes, highest = new_axes(axes, min(max(3.6, 0.9 + 0.2 * len(fractions)), 12), fractions), 0.05
    colours = GROUPS if len(fractions) <= len(GROUPS) else colormaps["viridis"](np.linspace(0, 0.92, len(fractions)))
    lines = []
    for place, (name, values) in enumerate(fractions.items()):
        check_times(len(values), steps, name)
        heights = np.array([math.nan if value is None else float(value) for value in values])
        highest = max(highest, np.nan_to_num(heights).max(initial=0.0))
        style = STYLES[place // len(GROUPS) % len(STYLES)]
        width = max(3.0 - 0.3 * place, 1.2)  # lines that coincide, often at zero, all show
        alone = _alone(heights)
        dots: dict[str, Any] = {"marker": "o", "markersize": 4, "markevery": alone} if alone else {}
        lines += axes.plot(
            steps, heights, style, color=colours[place], linewidth=width, label=picture_text(name), **dots
        )
    above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "color": RESET}
    if marked := list(resets):
        lines += axes.plot(marked, [1.03] * len(marked), "v", markersize=4, label="reset", **above)
    if circled := list(reset_again):
        above |= {"markersize": 8, "markerfacecolor": "none"}
        lines += axes.plot(circled, [1.03] * len(circled), "o", label="most did not last", **above)
    axes.set_ylim(-0.02 * highest, 1.05 * highest)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.set_ylabel("inactive neurons")
    label_steps(axes)
    add_legend(axes, lines)
    return axes


def _alone(heights: Numbers) -> list[int]:
    """Return the places of values between two gaps, which a line does not show."""
    known = np.concatenate([[False], np.isfinite(heights), [False]])
    return [int(place) for place in np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])]


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
    axes = new_axes(axes, 3.6)
    lengths: dict[str, list[int]] = {end: [] for end in ENDS}
    for spell in [spell for group in spells.values() for spell in group]:
        lengths[spell.end].append(spell.length)
    total = sum(map(len, lengths.values()))
    longest = max([1, *[length for group in lengths.values() for length in group]])
    edges, base = np.arange(longest + 1) + 0.5, np.zeros(longest)
    handles: list[Artist] = []
    for end, colour in ENDS.items():
        ended = np.bincount(np.array(lengths[end], dtype=int), minlength=longest + 1)
        counts = base + ended[::-1].cumsum()[-2::-1]  # of each length or longer, from 1 on
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
    add_legend(axes, handles[::-1])
    return axes
