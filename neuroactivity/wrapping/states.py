"""What a resumed run is given: the counts of a wrapper and its layout, checked before anything is set."""

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from neuroactivity.errors import LayoutError
from neuroactivity.layout import Layout

COUNTS = ("steps", "measurements", "resets", "neurons_reset")
"""What every wrapper counts, in every framework."""


def read_counts(state: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of a wrapper's state, checked.

    Args:
        state: The state, or the part of it that holds the counts.

    Raises:
        ValueError: If a count is missing, no whole number or below 0, or they contradict each other: there are at most
            as many measurements as steps, and as many resets as measurements and as neurons that were reset.

    Example:
        >>> read_counts({"steps": 10, "measurements": 2, "resets": 1, "neurons_reset": 5})["neurons_reset"]
        5
    """
    counts = {}
    for name in COUNTS:
        if name not in state:
            raise ValueError(f"state: {name!r} is missing; there are {sorted(map(str, state))}")
        value = state[name]
        try:
            counts[name] = -1 if isinstance(value, bool) else operator.index(value)
        except TypeError:
            counts[name] = -1
        if counts[name] < 0:
            raise ValueError(f"state: {name}: expected a whole number of 0 or more, got {value!r}")
    for fewer, more in (("measurements", "steps"), ("resets", "measurements"), ("resets", "neurons_reset")):
        if counts[fewer] > counts[more]:
            raise ValueError(f"state: {counts[fewer]} {fewer} contradict {counts[more]} {more}")
    return counts


def check_same_layout(record: Any, layout: Layout, *, source: str = 'state["layout"]') -> None:
    """Raise unless a wrapper's state holds the layout of the wrapper that is to go on from it.

    Args:
        record: What :meth:`neuroactivity.Layout.to_dict` returned; ``None`` in a state of an older version.
        layout: The wrapper's layout. Reasons need not agree.
        source: Where a user finds the saved layout.

    Raises:
        LayoutError: If the record is no layout, or another one.
    """
    if record is None:
        return
    try:
        saved = Layout.from_dict(record)
    except LayoutError as error:
        raise LayoutError(f"state: {error}") from None
    if _without_reasons(saved) != _without_reasons(layout):
        raise LayoutError(
            "state: its layout is not this wrapper's; make the wrapper with "
            f"layout=neuroactivity.Layout.from_dict({source})"
        )


def _without_reasons(layout: Layout) -> Layout:
    return Layout([replace(group, reason="") for group in layout.values()])
