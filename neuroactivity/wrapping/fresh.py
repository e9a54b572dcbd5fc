"""Which entries a reset draws anew, from what, and the keys of the draws."""

import hashlib
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from neuroactivity.arrays import Array, Arrays, accumulation_dtype, asarray_like, check_like, is_finite, namespace
from neuroactivity.errors import ActivityWarning
from neuroactivity.layout import BoundPattern, Layout, ParamView
from neuroactivity.layout.patterns import NEURON
from neuroactivity.resets import Outgoing

DrawnViews: TypeAlias = Mapping[str, Sequence[tuple[ParamView, BoundPattern]]]
"""For each parameter that a reset takes from fresh values how its neurons lie in it."""


def derive_key(seed: int, event: int, name: str) -> int:
    """Return the key of one random draw: a whole number in ``[0, 2**63)`` that depends on nothing but the arguments.

    A resumed run and every rank of a distributed run thus draw the same values, and no two parameters or events share
    theirs.

    Args:
        seed: The user's seed.
        event: Number of the reset, counted from 1.
        name: Name of the parameter that is drawn.

    Example:
        >>> derive_key(0, 1, "fc1.weight") == derive_key(0, 1, "fc1.weight")
        True
        >>> derive_key(0, 1, "fc1.weight") == derive_key(0, 1, "fc2.weight")
        False
    """
    digest = hashlib.blake2b(f"{seed}/{event}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def drawn_views(layout: Layout, shapes: Mapping[str, tuple[int, ...]], *, outgoing: Outgoing = "zero") -> DrawnViews:
    """List the parameters that a reset takes from fresh values, with the views of the groups that own their entries.

    Args:
        layout: The neuron groups.
        shapes: The shapes of the parameters.
        outgoing: What outgoing parameters become; those that are drawn are listed too, after the incoming ones.
    """
    drawn = outgoing in ("small", "fresh")
    views: dict[str, list[tuple[ParamView, BoundPattern]]] = {}
    for group in layout.values():
        for role, view, bound in group.bind(shapes).views if group.resettable else ():
            if role != "outgoing" or drawn:
                views.setdefault(view.param, []).append((view, bound))
    return views


def check_fresh(fresh: Arrays, params: Arrays, names: Collection[str], *, known: bool = True) -> None:
    """Raise unless there is a fresh value for each named parameter, of its shape and dtype, without NaN and infinities.

    Args:
        fresh: Fresh values by parameter name.
        params: The parameters.
        names: Which of them must have one.
        known: Whether the values can be looked at; in code that is traced they cannot.

    Raises:
        ValueError: If one is missing, or does not fit.
    """
    if not isinstance(fresh, Mapping):
        raise ValueError(f"initializer: expected fresh parameters by name, got {type(fresh).__name__}")
    for name in names:
        if name not in fresh:
            given = ", ".join(list(fresh)[:8]) or "nothing"
            raise ValueError(f"initializer: expected a fresh value for parameter {name!r}, got {given}")
        check_like(fresh[name], params[name], f"initializer, parameter {name!r}")
        if known and not is_finite(fresh[name]):
            raise ValueError(f"initializer: expected finite values for parameter {name!r}, got NaN or Inf")


_WIDER, _FEW = 1.5, 100


def warn_of_spread(fresh: Arrays, present: Arrays, *, stacklevel: int = 1) -> None:
    """Warn where a layer's own initialiser draws wider or narrower than what the model was initialised with.

    Vectors, arrays of fewer than 100 entries, and constants are not compared.

    Args:
        fresh: Fresh values by parameter name, all or a sample of them.
        present: The values that the model starts with, by parameter name.
        stacklevel: As for :func:`warnings.warn`.

    Example:
        >>> import numpy as np
        >>> values = np.arange(100.0).reshape(10, 10)
        >>> warn_of_spread({"w": 1.2 * values}, {"w": values})
    """
    found = []
    for name, value in fresh.items():
        shape = present[name].shape
        if len(shape) < 2 or math.prod(shape) < _FEW:
            continue
        drawn, there = _deviation(value), _deviation(present[name])
        if min(drawn, there) > 0 and max(drawn, there) > _WIDER * min(drawn, there):
            found.append(f"{name} (fresh {drawn:.3g}, present {there:.3g})")
    if found:
        shown = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
        warnings.warn(
            f"fresh values have another standard deviation than the model's own: {shown}; if the network was not "
            'initialised by its layers, as with orthogonal weights, use initializer="snapshot"',
            ActivityWarning,
            stacklevel=stacklevel + 1,
        )


def _deviation(values: Array) -> float:
    """Compute the standard deviation of all entries; zero for constants."""
    xp, size = namespace(values), math.prod(values.shape)
    values = xp.astype(values, accumulation_dtype(xp, values.dtype))
    values = values - xp.sum(values) / size
    return math.sqrt(float(xp.sum(values * values)) / size)


def resample(
    values: Array, views: Sequence[tuple[ParamView, BoundPattern]], donors: Callable[[int, int], Array]
) -> Array:
    """Give each neuron the entries of another, its donor.

    Args:
        values: A parameter.
        views: How neurons lie in it, one view for each group that owns entries of it.
        donors: From the number of neurons and the number of the view to a donor for each neuron: integers, drawn by the
            framework, on the device of the parameter.

    Returns:
        The parameter with its rows exchanged. Where a neuron owns more entries than its donor, the donor's repeat;
        where the donor owns none, it keeps its own.

    Example:
        >>> import numpy as np
        >>> view = ParamView("w", "in neuron")
        >>> resample(np.array([[1, 2, 3]]), [(view, view.bind((1, 3)))], lambda neurons, number: np.array([2, 2, 0]))
        array([[3, 3, 1]])
    """
    for number, (view, bound) in enumerate(views):
        neurons = bound.size(NEURON) if view.owners is None else len(view.owners.positions)
        values = _exchange_rows(values, donors(neurons, number), view, bound)
    return values


def _exchange_rows(values: Array, donors: Array, view: ParamView, bound: BoundPattern) -> Array:
    """Give each neuron of one view the entries of its donor."""
    xp, axis, size = namespace(values), bound.names.index(NEURON), bound.size(NEURON)
    owned = [(i,) for i in range(size)] if view.owners is None else view.owners.positions
    width = max(map(len, owned))
    table = [own[rank % len(own)] if own else -1 for own in owned for rank in range(width)]
    owner = {place: (neuron, rank) for neuron, own in enumerate(owned) for rank, place in enumerate(own)}

    def indices(entries: Sequence[int]) -> Array:
        return asarray_like(tuple(entries), like=donors, dtype=donors.dtype)

    neurons, ranks = zip(*[owner.get(place, (0, 0)) for place in range(size)], strict=True)
    cells = xp.take(donors, indices(neurons), axis=0) * width + indices(ranks)
    mine = asarray_like(tuple([place in owner for place in range(size)]), like=donors, dtype=xp.bool)
    taken = xp.take(indices(table), cells, axis=0)
    source = xp.where(mine & (taken >= 0), taken, indices(range(size)))
    return xp.reshape(xp.take(xp.reshape(values, bound.sizes), source, axis=axis), tuple(values.shape))
