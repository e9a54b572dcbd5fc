"""Every neuron by its two scores."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from neuroactivity.analysis import kinds
from neuroactivity.arrays import Array, Arrays, to_list
from neuroactivity.errors import LayoutError
from neuroactivity.plotting.style import DARK, FAINT, Numbers, add_legend, new_axes

KINDS: Final = {
    "high_high": ("high activation, high gradient", "#0072b2", "o"),
    "high_low": ("high activation, low gradient", "#d55e00", "s"),
    "low_high": ("low activation, high gradient", "#009e73", "^"),
    "low_low": ("low activation, low gradient", "#7b4ea3", "v"),
}
_HIGHEST: Final = 1e300  # to which an axis reaches; a float holds twice as much
LINEAR: Final = 1e-3  # at or below this score the scales of the quadrants are linear, down to 0


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
    axes, handles, neither = new_axes(axes, 5), list[Artist](), np.ones(len(x), dtype=bool)
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
    axes.set_xlim(-0.35 * LINEAR, 2 * min(x[np.isfinite(x)].max(initial=1), _HIGHEST))
    axes.set_ylim(-0.35 * LINEAR, 2 * min(y[np.isfinite(y)].max(initial=1), _HIGHEST))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("activation score")
    axes.set_ylabel("gradient score")
    add_legend(axes, handles)
    return axes


def _points(axes: Axes, x: Numbers, y: Numbers, chosen: Numbers, label: str, **style: Any) -> list[Line2D]:
    """Draw some of the points, and give their share."""
    share = f"{label}: {chosen.sum() / max(len(chosen), 1):.1%}"
    return axes.plot(x[chosen], y[chosen], linestyle="none", label=share, **{"markeredgewidth": 0, **style})


def _join(arrays: Iterable[Array]) -> Numbers:
    """Join the arrays of all groups to one."""
    return np.concatenate([np.zeros(0), *[np.ravel(to_list(array)) for array in arrays]])
