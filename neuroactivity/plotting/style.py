"""What all pictures share: their frame, colours, legends and axes of time."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from neuroactivity.errors import LayoutError

Numbers: TypeAlias = Any
"""A NumPy array."""

# Colours that the colour-blind tell apart; those of lines and points are Okabe and Ito's.
RESET, FAINT, GRID, INK, DARK = "#c2185b", "#c3ccd5", "#e4e7eb", "#3e4c59", "#1f2933"


def new_axes(axes: Axes | None, height: float, names: Iterable[str] = ()) -> Axes:
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


def add_legend(axes: Axes, handles: Sequence[Artist], **place: Any) -> None:
    """Put a legend beside the axes, where it hides nothing, or at another place."""
    if handles:
        beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "ncols": math.ceil(len(handles) / 56)}
        axes.legend(
            handles=handles, frameon=False, borderaxespad=0.2, fontsize=9, labelcolor=INK, **{**beside, **place}
        )


def label_steps(axes: Axes) -> None:
    """Let the horizontal axis count steps."""
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("steps")


def check_times(count: int, steps: Sequence[float], name: str) -> None:
    """There is one measurement for each step."""
    if count != len(steps):
        raise LayoutError(f"group {name!r}: expected {len(steps)} measurements, one for each step, got {count}")
