"""Have two networks the same active neurons?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from neuroactivity.arrays import Array, Arrays, dtype_name, to_list
from neuroactivity.layout import Layout, NeuronGroup
from neuroactivity.masks import reset_masks
from neuroactivity.testing.ordering import Entries, Neuron, entries_of, place_of, table_of

_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


class _Side(NamedTuple):
    """One of the two networks: its groups in the order in which they are compared, its scores, its parameters."""

    groups: tuple[NeuronGroup, ...]
    scores: Arrays
    params: Arrays | None


def assert_same_activity(
    a: Mapping[str, Arrays],
    b: Mapping[str, Arrays],
    *,
    layouts: Layout | Sequence[Layout],
    tau: float = 0.01,
    max_fraction: float | None = None,
    ulps: float = 16,
    tie_band: float = 1e-5,
) -> None:
    """Assert that two networks, usually one network in two frameworks, have the same active neurons.

    Scores may differ by rounding. Masks may differ only where a score lies within ``tie_band`` of the threshold or,
    with ``max_fraction``, of the highest score that is still reset.

    Parameters are brought into one order by the layouts. Axes are matched by name where both layouts give them the same
    names, else in their order. The inputs of a layer are put in the order of the neurons that they read, so that a
    flatten may have its channels first or last. Neurons whose masks differ within the band are left out, and so is what
    reads them.

    Args:
        a: ``{"scores": scores}`` by group name, as :func:`neuroactivity.grama` returns them; with ``"params"`` also
            parameters by name, for example those after a reset.
        b: The same, of the other network.
        layouts: The layouts of the two, or one for both. Groups are matched by name if both have the same names, else
            one after the other.
        tau: Threshold, as for :func:`neuroactivity.reset_masks`.
        max_fraction: As for :func:`neuroactivity.reset_masks`.
        ulps: How far apart numbers may be, in rounding units of the coarser of their two dtypes: of scores, units at
            the larger of the two, and at one (their mean) if both are smaller; of parameters, units at the largest of
            the array.
        tie_band: How far from a threshold a score may be for the masks to differ.

    Raises:
        AssertionError: If the two differ; the message says where and by how much.
        LayoutError: If a layout does not fit its parameters.
        ValueError: If an argument is not of this form.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> rows = na.Layout([na.dense("fc", weight=("fc.weight", "neuron in"))])
        >>> columns = na.Layout([na.dense("Dense_0", weight=("Dense_0/kernel", "in neuron"))])
        >>> gradient = np.array([[3.0, 3.0], [1.0, 1.0]])
        >>> a = {"scores": na.grama({"fc.weight": gradient}, rows)}
        >>> b = {"scores": na.grama({"Dense_0/kernel": gradient.T}, columns)}
        >>> na.testing.assert_same_activity(a, b, layouts=(rows, columns))
    """
    for name, value in (("ulps", ulps), ("tie_band", tie_band)):
        if not value >= 0:
            raise ValueError(f"{name}: expected a number of 0 or more, got {value!r}")
    left, right = _sides(a, b, layouts)
    tied: set[Neuron] = set()
    for number, (first, second) in enumerate(zip(left.groups, right.groups, strict=True)):
        where = f"group {_both(first.name, second.name)}"
        if (first.name in left.scores) != (second.name in right.scores):
            raise AssertionError(f"{where}: scored in only one of the two networks")
        if first.name in left.scores:
            scores = left.scores[first.name], right.scores[second.name]
            _compare_scores(*scores, ulps, where)
            tied |= {(number, *neuron) for neuron in _tied(*scores, tau, max_fraction, tie_band, where)}
    if left.params is not None and right.params is not None:
        entries = entries_of(left.groups, left.params, tied), entries_of(right.groups, right.params, tied)
        _compare_params(*entries, ulps)


def _sides(a: Any, b: Any, layouts: Layout | Sequence[Layout]) -> tuple[_Side, _Side]:
    """Check the arguments, and match the groups of the two layouts."""
    pair = (layouts, layouts) if isinstance(layouts, Layout) else layouts
    if not isinstance(pair, Sequence) or [isinstance(one, Layout) for one in pair] != [True, True]:
        raise ValueError(f"layouts: expected a Layout or two, got {type(layouts).__name__}")
    first, second = pair
    for name, side, layout in (("a", a, first), ("b", b, second)):
        if not isinstance(side, Mapping) or "scores" not in side or set(side) - {"scores", "params"}:
            given = sorted(side) if isinstance(side, Mapping) else type(side).__name__
            raise ValueError(f"{name}: expected a mapping with 'scores' and, if wanted, 'params', got {given}")
        unknown = [group for group in side["scores"] if group not in layout]
        if unknown:
            raise ValueError(f"{name}: group {unknown[0]!r} of the scores is not in its layout ({', '.join(layout)})")
    if ("params" in a) != ("params" in b):
        raise ValueError("expected 'params' in both of a and b, or in neither")
    if len(first) != len(second):
        raise AssertionError(f"{len(first)} groups ({', '.join(first)}) against {len(second)} ({', '.join(second)})")
    names = list(first if set(first) == set(second) else second)
    return (
        _Side(tuple(first.values()), a["scores"], a.get("params")),
        _Side(tuple([second[name] for name in names]), b["scores"], b.get("params")),
    )


def _both(first: str, second: str) -> str:
    """Name something that may have two names."""
    return repr(first) if first == second else f"{first!r} (in b {second!r})"


def _members(array: Array) -> list[list[float]]:
    """Return one list a stack member."""
    values = to_list(array)
    return values if len(array.shape) == 2 else [values]


def _rounding(*arrays: Array) -> float:
    """Return the rounding unit at one of the coarsest dtype."""
    return max(_EPSILON[dtype_name(array.dtype).rpartition(".")[2]] for array in arrays)


def _distance(x: float, y: float, unit: float) -> float:
    """Return how many units two numbers are apart; NaN equals NaN."""
    if x == y or (math.isnan(x) and math.isnan(y)):
        return 0.0
    distance = abs(x - y) / unit if unit else math.inf
    return math.inf if math.isnan(distance) else distance


def _compare_scores(a: Array, b: Array, ulps: float, where: str) -> None:
    """Raise unless the scores of a group are the same but for rounding."""
    shape = tuple(a.shape)
    if shape != tuple(b.shape):
        raise AssertionError(f"{where}: scores of shape {shape} against {tuple(b.shape)}")
    unit = _rounding(a, b)
    apart = [
        (_distance(x, y, unit * max(1.0, abs(x), abs(y))), member, neuron, x, y)
        for member, rows in enumerate(zip(_members(a), _members(b), strict=True))
        for neuron, (x, y) in enumerate(zip(*rows, strict=True))
    ]
    wrong = [entry for entry in apart if entry[0] > ulps]
    if wrong:
        distance, member, neuron, x, y = max(wrong)
        place = f"neuron {neuron}" + (f" of stack member {member}" if len(shape) == 2 else "")
        raise AssertionError(
            f"{where}: {len(wrong)} of {len(apart)} scores differ, most at {place}: {x!r} against {y!r}, "
            f"{distance:.4g} rounding units apart where {ulps:g} are allowed"
        )


def _tied(
    a: Array, b: Array, tau: float, max_fraction: float | None, tie_band: float, where: str
) -> set[tuple[int, int]]:
    """Return stack member and number of the neurons whose masks differ; raise if one is not within the band."""
    tied: set[tuple[int, int]] = set()
    masks = [_members(reset_masks({"": array}, tau, max_fraction=max_fraction)[""]) for array in (a, b)]
    for member, pairs in enumerate(zip(_members(a), _members(b), *masks, strict=True)):
        neurons = list(zip(*pairs, strict=True))
        limits = [float(tau)]
        if max_fraction is not None:
            limits += [max((score for n in neurons for score, mask in (n[::2], n[1::2]) if mask), default=limits[0])]
        for neuron, (x, y, mask, other) in enumerate(neurons):
            if mask == other:
                continue
            if not any(abs(x - limit) <= tie_band and abs(y - limit) <= tie_band for limit in limits):
                raise AssertionError(
                    f"{where}: neuron {neuron} is reset in only one of the two networks, with scores {x!r} and {y!r}, "
                    f"which are not both within {tie_band:g} of {' or '.join(f'{limit:.9g}' for limit in limits)}"
                )
            tied.add((member, neuron))
    return tied


def _compare_params(a: Sequence[Entries], b: Sequence[Entries], ulps: float) -> None:
    """Raise unless all parameters are the same but for rounding."""
    if [entries.role for entries in a] != [entries.role for entries in b]:
        made = [", ".join(f"{entries.role} {entries.param!r}" for entries in side) for side in (a, b)]
        raise AssertionError(f"the layouts name other parameters: {made[0]} against {made[1]}")
    for first, second in zip(a, b, strict=True):
        where = f"group {_both(first.group, second.group)}, {first.role} parameter {_both(first.param, second.param)}"
        names = first.names if set(first.names) == set(second.names) else None
        rows, others = table_of(first, names), table_of(second, names)
        if [*map(len, rows)] != [*map(len, others)]:
            sizes = [dict(zip(e.names, e.array.shape, strict=True)) for e in (first, second)]
            raise AssertionError(f"{where}: axes {sizes[0]} against {sizes[1]}")
        largest = max((abs(x) for row in rows for x in row if math.isfinite(x)), default=0.0)
        unit = _rounding(first.array, second.array) * largest
        for neuron, (row, other) in enumerate(zip(rows, others, strict=True)):
            apart = [_distance(x, y, unit) for x, y in zip(row, other, strict=True)]
            worst = max(range(len(apart)), key=apart.__getitem__, default=-1)
            if worst >= 0 and apart[worst] > ulps and neuron not in first.spared:
                raise AssertionError(
                    f"{where}: {place_of(first, names, neuron, worst)} differs: {row[worst]!r} against "
                    f"{other[worst]!r}, {apart[worst]:.4g} rounding units apart where {ulps:g} are allowed"
                )
