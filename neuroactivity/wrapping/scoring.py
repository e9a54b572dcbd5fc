"""A score that a user brings: how it is called, what it may return, and what a saved state calls it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from neuroactivity.arrays import Array, Arrays, accumulation_dtype, is_finite, namespace, no_autograph, shape_of
from neuroactivity.layout import Layout

Score: TypeAlias = Callable[..., Mapping[str, Array]]
"""From gradients (or activations) by name and a layout to scores by group name; the lower, the less active.

One that takes ``params`` too is given the parameters by name.
"""


@no_autograph
def own_scores(
    score: Score,
    signals: Arrays,
    layout: Layout,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    signal: Literal["weights", "activations"],
    params: Callable[[], Arrays],
    known: Callable[[Array], bool] = lambda array: True,
) -> dict[str, Array]:
    """Return what a user's score says of the groups that there is a gradient or an activation of, checked.

    Args:
        score: The score.
        signals: Gradients by parameter name, or activations by group name, as :func:`neuroactivity.grama` and
            :func:`neuroactivity.tau_dormant` get them.
        layout: The neuron groups.
        shapes: The shape of each group's scores.
        signal: Which of the two the signals are.
        params: Returns the parameters by name; called if the score takes them.
        known: Whether the values of an array can be looked at. In code that is traced a score below zero becomes NaN,
            and its group is left alone, as any is with a score that is not finite.

    Returns:
        Scores by group name, float32 or float64.

    Raises:
        TypeError: If the score returns something else than arrays by name.
        ValueError: If a group is missing or not known, or its scores have another shape, are no floating-point numbers
            or below zero, or not finite where all signals are.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> layout = na.Layout([na.dense("fc", weight=("w", "neuron in"))])
        >>> largest = lambda grads, layout: {"fc": np.abs(grads["w"]).max(axis=1)}
        >>> grads = {"w": np.array([[1.0, -3.0], [0.0, 0.0]])}
        >>> own_scores(largest, grads, layout, {"fc": (2,)}, signal="weights", params=dict)
        {'fc': array([3., 0.])}
    """
    found: Any = score(signals, layout, **({"params": params()} if _takes_params(score) else {}))
    if not isinstance(found, Mapping):
        raise TypeError(f"score: expected arrays by group name, got {type(found).__name__}")
    if unknown := [name for name in found if name not in layout]:
        raise ValueError(f"score: group {unknown[0]!r} is not in the layout; there are {', '.join(list(layout)[:8])}")
    checked = {}
    for name, group in layout.items():
        own = [name] if signal == "activations" else [view.param for view in group.incoming]
        given = [signals[key] for key in own if signals.get(key) is not None]
        if not given:
            continue
        if name not in found:
            raise ValueError(f"score: group {name!r} is missing; there are {', '.join(list(found)[:8]) or 'no groups'}")
        try:
            xp = namespace(found[name], given[0])
            scores = checked[name] = _in_form(found[name], shapes[name])
            if known(scores):
                _check_values(scores, signals, known)
            else:
                checked[name] = xp.where(scores < 0, xp.nan, scores)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"score: group {name!r}: {error}") from None
    return checked


def name_of_score(score: Score | None) -> str:
    """Return what a saved state calls a score: the name of its function or class, empty for a wrapper's own.

    Example:
        >>> name_of_score(None), name_of_score(max)
        ('', 'builtins.max')
    """
    if score is None:
        return ""
    named: Any = getattr(score, "func", score)  # of a partial
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}.{named.__qualname__}"


def check_same_score(record: Any, name: str) -> None:
    """Raise unless a wrapper's state comes from one with the same score: sums and counts of two are not comparable.

    Args:
        record: What the state calls its score; empty, as in an older version, for the wrapper's own.
        name: What :func:`name_of_score` calls the wrapper's.

    Raises:
        ValueError: If they differ.
    """
    if not isinstance(record, str) or record != name:
        theirs, ours = (
            "the wrapper's own score" if isinstance(each, str) and not each else repr(each) for each in (record, name)
        )
        raise ValueError(f"state: expected neurons scored by {ours}, got {theirs}; make the wrapper with that score=")


def _takes_params(score: Score) -> bool:
    try:
        return "params" in inspect.signature(score).parameters
    except ValueError:  # it has none
        return False


def _in_form(scores: Array, shape: tuple[int, ...]) -> Array:
    """Return scores of the right shape as float32 or float64."""
    if shape_of(scores, "") != shape:
        raise ValueError(f"expected scores of shape {shape}, got {shape_of(scores, '')}")
    xp = namespace(scores)
    return xp.astype(scores, accumulation_dtype(xp, scores.dtype), copy=False)


def _check_values(scores: Array, signals: Arrays, known: Callable[[Array], bool]) -> None:
    xp = namespace(scores)
    if bool(xp.any(scores < 0)):
        raise ValueError(f"expected scores of 0 or more, got {float(xp.min(scores))}")
    if not is_finite(scores) and all(known(x) and is_finite(x) for x in signals.values() if x is not None):
        raise ValueError("expected finite scores of finite numbers, zeros too, got NaN or Inf")
