"""Where a value comes from: which parameter it is, with its axes moved at most, and which weight made it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from neuroactivity_jax.tracks import Followed, Value

KEEPING = {"convert_element_type", "copy", "stop_gradient", "reduce_precision"}
"""Operations that keep every entry in its place."""
REDUCED = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin"}
"""Operations that make one entry of many, along some axes."""


class Origin(NamedTuple):
    """Where a value comes from.

    Attributes:
        param: Name of the parameter that it is, with axes moved at most; ``""`` if it is none.
        axes: For each axis of the value the axis of the parameter; ``None`` where it has none.
        shape: The parameter's shape.
        weight: Name of the weight or scale that made it, only moved or scaled since; ``""`` if none did.
        followed: What it has of what weights made.
        constant: Whether it is one number, repeated.
        fixed: Whether it depends on nothing but parameters and numbers.
        behind: The bits of what weights made that it depends on.
        statistics: The bits of what weights made of which it is a statistic, such as a mean over neurons.
    """

    param: str = ""
    axes: tuple[int | None, ...] = ()
    shape: tuple[int, ...] = ()
    weight: str = ""
    followed: tuple[Followed, ...] = ()
    constant: bool = False
    fixed: bool = False
    behind: int = 0
    statistics: int = 0


UNKNOWN, CONSTANT = Origin(), Origin(constant=True, fixed=True)

_OF_CONSTANTS = {"broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "neg", "exp", "log", "sqrt", "rsqrt"}
_OF_CONSTANTS |= {"add", "sub", "mul", "div", "pow", "integer_pow", "max", "min", "stop_gradient", "copy", "square"}


def passed_on(name: str, origins: Sequence[Origin]) -> dict[str, Any]:
    """Return what the result of an operation takes over from all that the operation is given."""
    behind = statistics = 0
    for origin in origins:
        behind |= origin.behind
        statistics |= origin.statistics
    if name in REDUCED:
        statistics |= sum({1 << followed.made for followed in origins[0].followed})
    elif name in ("dot_general", "conv_general_dilated") or any(
        origin.followed or (origin.behind and not origin.statistics) for origin in origins
    ):
        statistics = 0
    return {
        "constant": bool(origins) and name in _OF_CONSTANTS and all(origin.constant for origin in origins),
        "fixed": all(origin.fixed for origin in origins),
        "behind": behind,
        "statistics": statistics,
    }


def sources_of(name: str, options: Mapping[str, Any], before: Sequence[int], after: Sequence[int]) -> list[int | None]:
    """For each axis of a result that only moves entries return the axis that it was; nothing for other operations."""
    if name == "transpose":
        return list(options["permutation"])
    if name == "squeeze":
        return [axis for axis in range(len(before)) if axis not in options["dimensions"]]
    if name == "broadcast_in_dim":
        kept = list(options["broadcast_dimensions"])
        return [kept.index(axis) if axis in kept else None for axis in range(len(after))]
    if name == "reshape":
        return _inserted(before, after) or _kept(before, after)
    return []


def moved_origin(
    name: str, origin: Origin, sources: Sequence[int | None], before: Sequence[int], after: Sequence[int]
) -> Origin:
    """Return where a value comes from after an operation that only moves entries."""
    if name in KEEPING:
        return origin
    if not origin.param and not origin.weight:
        return UNKNOWN
    if name == "reshape" and not _inserted(before, after):
        return UNKNOWN
    axes = [None if source is None else origin.axes[source] for source in sources if origin.param]
    return origin._replace(axes=tuple(axes))


def _kept(before: Sequence[int], after: Sequence[int]) -> list[int | None]:
    """Match the last and the first axes of a shape to those of one that was reshaped between them."""
    most = min(len(before), len(after))
    last = next((n for n in range(most) if before[-1 - n] != after[-1 - n]), most)
    first = next((n for n in range(most - last) if before[n] != after[n]), most - last)
    middle: list[int | None] = [None] * (len(after) - first - last)
    return [*range(first), *middle, *range(len(before) - last, len(before))]


def _inserted(before: Sequence[int], after: Sequence[int]) -> list[int | None]:
    """Match the axes of a shape to those of one with additional axes of size 1; nothing if it is none."""
    sources: list[int | None] = []
    left = len(before) - 1
    for size in reversed(after):  # from the last axis on, as broadcasting does
        matches = left >= 0 and size == before[left]
        if not matches and size != 1:
            return []
        sources.append(left if matches else None)
        left -= matches
    return sources[::-1] if left < 0 else []


def aligned(origin: Origin, value: Any, along: Mapping[int, int]) -> Value:
    """Return how a parameter corresponds to a value, from the value's axes for those of the moved parameter."""
    axes: dict[int, int | None] = {}
    for moved, axis in enumerate(origin.axes):
        target = along.get(moved)
        if axis is not None and target is not None and value.shape[target] == origin.shape[axis]:
            axes[axis] = target
    return Value(value, tuple(axes.get(axis) for axis in range(len(origin.shape))))


def axes_of_product(numbers: Any, ndims: Sequence[int], side: int) -> dict[int, int]:
    """Return the axes of a matrix product, by the axis of one of its factors, for those that are not summed over."""
    contracted, batched = numbers
    free = [[i for i in range(ndims[n]) if i not in (*contracted[n], *batched[n])] for n in (0, 1)]
    axes = {axis: number for number, axis in enumerate(batched[side])}
    return axes | {axis: len(batched[0]) + side * len(free[0]) + number for number, axis in enumerate(free[side])}
