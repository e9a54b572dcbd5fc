"""Scores and masks as rows of numbers on the host, and counts of neurons in them."""

import math
import statistics
from itertools import chain
from typing import Any, TypeAlias, TypeVar

from neuroactivity.arrays import Array, Arrays, to_list
from neuroactivity.layout import NeuronGroup

T = TypeVar("T")
Rows: TypeAlias = tuple[tuple[T, ...], ...]
"""One row of values, neuron by neuron, for each member of a stack; one row where there is no stack."""


def rows_of(array: Array) -> Rows[Any]:
    """Return one row a stack member."""
    values = to_list(array)
    return tuple(map(tuple, values)) if array.ndim == 2 else (tuple(values),)


def mask_rows(masks: Arrays | None, group: NeuronGroup, rows: Rows[float]) -> Rows[bool] | None:
    """Return the rows of a group's mask, all False for a group that is never reset; ``None`` without masks."""
    if masks is None:
        return None
    written = group.resettable and group.name in masks
    return rows_of(masks[group.name]) if written else tuple([(False,) * len(row) for row in rows])


def count_again(scores: Rows[float], low: Rows[bool], before: Rows[bool]) -> int:
    """Count the neurons that were reset before and are inactive now."""
    rows = [(below, then) for row, below, then in zip(scores, low, before, strict=True) if _is_sound(row)]
    return sum([a and b for below, then in rows for a, b in zip(below, then, strict=True)])


def count_neurons(scores: Rows[float], low: Rows[bool]) -> dict[str, Any]:
    """Count neurons by what their scores say; ``low`` are those at or below tau, compared in the scores' own dtype."""
    sound = [(row, below) for row, below in zip(scores, low, strict=True) if _is_sound(row)]
    values = sorted(chain.from_iterable(row for row, _ in sound))
    return {
        "neurons": sum(map(len, scores)),
        "inactive": sum(sum(below) for _, below in sound),
        "lowest": values[0] if values else None,
        "median": statistics.median(values) if values else None,
        "highest": values[-1] if values else None,
        "silent": sum(len(row) for row, _ in sound if row and not any(row)),
        "nonfinite": sum(map(len, scores)) - len(values),
    }


def _is_sound(row: tuple[float, ...]) -> bool:
    """Whether all scores are finite, which a finite sum tells sooner."""
    return math.isfinite(sum(row)) or all(map(math.isfinite, row))
