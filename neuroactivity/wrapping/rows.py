"""Where the entries of reset neurons lie, by index: a reset is to cost what it writes, not what it leaves alone."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from neuroactivity.arrays import cache_outside_compile
from neuroactivity.errors import LayoutError
from neuroactivity.layout import BoundGroup, BoundPattern, Layout, ParamView, Role
from neuroactivity.layout.patterns import NEURON, STACK
from neuroactivity.resets import Outgoing


class Rows(NamedTuple):
    """The entries of one parameter that belong to some neurons of one group.

    Attributes:
        group: Name of the group.
        role: What the parameter is to it.
        view: How neurons lie in the parameter.
        bound: The view fitted to the parameter's shape; ``bound.sizes`` is that shape with parentheses opened.
        axes: The axes of that shape along which copies and neurons are counted.
        places: The positions along each of these axes, one for each row.
        owners: To which neuron each row belongs, by its number in the group, copies of a stack counted through.
    """

    group: str
    role: Role
    view: ParamView
    bound: BoundPattern
    axes: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]
    owners: tuple[int, ...]


def written_rows(
    neurons: Mapping[str, Sequence[int]],
    layout: Layout,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    outgoing: Outgoing = "zero",
) -> list[Rows]:
    """List the entries that :func:`neuroactivity.reset` writes, in the order in which it writes them.

    Args:
        neurons: The numbers of the neurons that are reset by group name, in order, copies of a stack counted through.
        layout: The neuron groups.
        shapes: The shapes of the parameters.
        outgoing: As given to the reset.

    Raises:
        LayoutError: If a parameter is missing, or does not fit its pattern.

    Example:
        >>> import neuroactivity as na
        >>> layout = na.Layout([na.dense("a", weight=("w", "in neuron"), outgoing=[("v", "neuron out")])])
        >>> rows = written_rows({"a": [1, 2]}, layout, {"w": (2, 3), "v": (3, 1)})
        >>> [(each.view.param, each.axes, each.places) for each in rows]
        [('w', (1,), ((1, 2),)), ('v', (0,), ((1, 2),))]
    """
    found, groups = [], _bind(layout, tuple(shapes.items()))
    for name, numbers in neurons.items():
        if layout[name].resettable:
            for role, view in layout[name].views:
                if view.param not in shapes and (role != "outgoing" or outgoing != "keep"):
                    raise LayoutError(f"group {name!r}: parameter {view.param!r} is missing")
            own, (*_, size) = tuple(numbers), groups[name].shape
            views = groups[name].views
            found += [Rows(name, role, view, bound, *_places(own, size, view, bound)) for role, view, bound in views]
    last = [rows for rows in found if rows.role == "outgoing" and outgoing != "keep"]
    return [rows for rows in found if rows.role != "outgoing"] + last


@cache_outside_compile
def _bind(layout: Layout, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> dict[str, BoundGroup]:
    """Bind the views of all groups that these shapes are of."""
    known = dict(shapes)
    return {name: group.bind(known, default=0) for name, group in layout.items() if group.resettable}


def _places(
    neurons: tuple[int, ...], size: int, view: ParamView, bound: BoundPattern
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return axes, the positions along them, and the neuron that each position belongs to; a copy has ``size``."""
    counted = tuple([axis for axis, name in enumerate(bound.names) if name == STACK] + [bound.names.index(NEURON)])
    if not bound.stack_sizes and view.owners is None:
        return counted, (neurons,), neurons
    copies = list(itertools.product(*map(range, bound.stack_sizes)))
    found = [(n, *copies[n // size], place) for n in neurons for place in _owned(n % size, view)]
    owners, *places = zip(*found, strict=True) if found else ((), *[() for _ in counted])
    return counted, tuple(places), tuple(owners)


def _owned(neuron: int, view: ParamView) -> tuple[int, ...]:
    """Return a neuron's positions along the neuron axis."""
    if view.owners is None:
        return (neuron,)
    return view.owners.positions[neuron] if neuron < len(view.owners.positions) else ()
