"""For how long neurons stay inactive, and whether they recover by themselves."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from neuroactivity.analysis.checks import check_shape, members, names_of
from neuroactivity.arrays import dtype_name, namespace
from neuroactivity.errors import LayoutError
from neuroactivity.tables import format_table

Series: TypeAlias = Mapping[str, Any]
"""By group name: a sequence of arrays over the measurements, or one array with a leading axis for them."""

End: TypeAlias = Literal["recovered", "reset", "open"]


@dataclass(frozen=True)
class Spell:
    """Consecutive measurements at which one neuron was inactive.

    Attributes:
        neuron: Number of the neuron in its group.
        member: Number of the stack member; ``None`` in a group that is no stack.
        start: First of the measurements, counted from 0. A spell that starts at 0 may have begun before.
        length: Number of measurements, 1 or more.
        end: ``"recovered"``: active at the next measurement without a reset. ``"reset"``: reset right after its last
            measurement. ``"open"``: inactive at the last measurement of all, and not reset after it.
    """

    neuron: int
    member: int | None
    start: int
    length: int
    end: End


def lifetimes(inactive: Series, /, *, reset: Series | None = None) -> dict[str, tuple[Spell, ...]]:
    """Find for how long neurons stay inactive, and whether they recover by themselves.

    Args:
        inactive: Masks by group name, boolean, True = inactive: a sequence over the measurements of masks of shape
            ``(neurons,)`` or ``(stack, neurons)``, or one array with a leading axis for the measurements.
        reset: The same for the neurons that were reset right after each measurement. Of a group that is absent, none
            was.

    Returns:
        Spells by group name, in the order of stack members, neurons and time. A neuron that is inactive again after a
        reset begins another spell.

    Raises:
        LayoutError: If ``reset`` has a group that ``inactive`` does not have, if the numbers of measurements or the
            shapes of masks differ, or if a mask is not boolean.

    Example:
        >>> import numpy as np
        >>> inactive = {"fc": np.array([[True, False], [True, True], [False, True]])}
        >>> for spell in lifetimes(inactive)["fc"]:
        ...     print(spell)
        Spell(neuron=0, member=None, start=0, length=2, end='recovered')
        Spell(neuron=1, member=None, start=1, length=2, end='open')

    References:
        Liu et al., "Measure gradients, not activations!", NeurIPS 2025, arXiv:2505.24061, Fig. 6.

    Notes:
        The paper follows one set of inactive neurons through training; this follows every neuron. A group that is not
        finite at a measurement counts as active there, if its mask is that of :func:`neuroactivity.reset_masks`.
    """
    resets = {} if reset is None else reset
    for name in resets:
        if name not in inactive:
            raise LayoutError(f"group {name!r} of reset is missing in inactive; there are {names_of(inactive)}")
    return {name: tuple(_find_spells(series, resets.get(name), name)) for name, series in inactive.items()}


def _find_spells(series: Any, resets: Any, name: str) -> Iterator[Spell]:
    """Yield the spells of one group."""
    states, shape = _read_masks(series, name, "inactive")
    cleared = [[False] * len(state) for state in states]
    if resets is not None:
        cleared, other = _read_masks(resets, name, "reset")
        if (len(cleared), other) != (len(states), shape):
            expected, came = f"{len(states)} masks of shape {shape}", f"{len(cleared)} of shape {other}"
            raise LayoutError(f"group {name!r}, reset: expected {expected} as of inactive, got {came}")
    for place, history in enumerate(zip(zip(*states, strict=True), zip(*cleared, strict=True), strict=True)):
        member, neuron = divmod(place, shape[-1])
        for start, length, end in _find_runs(*history):
            yield Spell(neuron, member if len(shape) == 2 else None, start, length, end)


def _read_masks(series: Any, name: str, which: str) -> tuple[list[list[bool]], tuple[int, ...]]:
    """Copy the masks of one group to lists, stack members one after the other, and return the shape of a mask."""
    masks = [series[time, ...] for time in range(series.shape[0])] if hasattr(series, "shape") else list(series)
    states = []
    for time, mask in enumerate(masks):
        where = f"{which}, measurement {time}"
        shape = check_shape(mask, name, where)
        if not namespace(mask).isdtype(mask.dtype, "bool"):
            raise LayoutError(f"group {name!r}, {where}: expected a boolean mask, got {dtype_name(mask.dtype)}")
        if shape != tuple(masks[0].shape):
            raise LayoutError(f"group {name!r}, {where}: expected shape {tuple(masks[0].shape)}, got {shape}")
        states.append([value for member in members(mask) for value in member])
    return states, tuple(masks[0].shape) if masks else ()


def _find_runs(inactive: Sequence[bool], reset: Sequence[bool]) -> Iterator[tuple[int, int, End]]:
    """Yield start, length and end of the spells of one neuron."""
    start: int | None = None
    for time, (low, cleared) in enumerate(zip(inactive, reset, strict=True)):
        if low and start is None:
            start = time
        if not low and start is not None:
            yield start, time - start, "recovered"
            start = None
        if cleared and start is not None:
            yield start, time + 1 - start, "reset"
            start = None
    if start is not None:
        yield start, len(inactive) - start, "open"


def lifetime_table(spells: Mapping[str, Iterable[Spell]], /) -> str:
    """Summarize spells in a table for a person: how many ended how, the share that recovered, and their lengths.

    Args:
        spells: Spells by group name, from :func:`lifetimes`.

    Returns:
        The table. The share is that of all spells; one that is open had no time to recover if it began late.

    Example:
        >>> import numpy as np
        >>> inactive = {"fc": np.array([[True, False], [True, True], [False, True]])}
        >>> print(lifetime_table(lifetimes(inactive)))
        group  spells  reset  open  recovered         median length  longest
        --------------------------------------------------------------------
        fc          2      0     1          1  50.0%              2        2
    """
    header = ("group", "spells", "reset", "open", "recovered", "", "median length", "longest")
    rows = []
    for name, group in spells.items():
        lengths = [spell.length for spell in group]
        ends = [spell.end for spell in group]
        counts = (len(ends), *[ends.count(end) for end in ("reset", "open", "recovered")])
        share = f"{100 * counts[-1] / len(ends):.1f}%" if ends else "n/a"
        extent = (f"{statistics.median(lengths):g}", str(max(lengths))) if lengths else ("", "")
        rows.append((name, *map(str, counts), share, *extent))
    return "\n".join(format_table(header, rows, words=("group",)))
