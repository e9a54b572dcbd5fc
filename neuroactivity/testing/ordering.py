"""Bring the parameters of two networks into one order of axes and positions, by their layouts."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from neuroactivity.arrays import Array, Arrays, asarray_like, dtype_name, namespace, to_list
from neuroactivity.errors import LayoutError
from neuroactivity.layout import NeuronGroup, ParamView, Role, lookup
from neuroactivity.layout.patterns import ANY, NEURON, STACK, BoundPattern, parse

Neuron: TypeAlias = tuple[int, int, int]
"""Number of the group, of the stack member, and of the neuron."""

_Keys: TypeAlias = dict[tuple[str, int], dict[int, tuple[int, int, int]]]
"""By axis of a parameter and position: group and number of the neuron read there, how many before it read the same."""


class Entries(NamedTuple):
    """One parameter as one group sees it: its axes opened and named, its inputs in the order of what they read.

    ``spared`` are the neurons, counted through all stack members, that are not to be compared.
    """

    group: str
    role: Role
    param: str
    names: tuple[str, ...]
    array: Array
    spared: frozenset[int]


def entries_of(groups: Sequence[NeuronGroup], params: Arrays, without: set[Neuron]) -> list[Entries]:
    """List the parameters of all groups, those incoming or unscored somewhere first, then what is outgoing only.

    Args:
        groups: The groups.
        params: Parameters by name.
        without: Neurons that are spared, and whose readers are left out.
    """
    groups, params = _with_joined_axes(groups, params)
    shapes = {
        view.param: tuple(lookup(params, view.param, group.name).shape) for group in groups for _, view in group.views
    }
    fits = [group.bind(shapes) for group in groups]
    keys: _Keys = {}
    for number, fit in enumerate(fits):
        for _, view, bound in [entry for entry in fit.views if entry[0] == "outgoing"]:
            _note_readers(keys, number, view, bound)
    owned = {view.param for group in groups for view in group.incoming + group.unscored}
    entries = []
    readers = {(number, neuron) for number, _, neuron in without}
    for number, (group, fit) in enumerate(zip(groups, fits, strict=True)):
        spared = frozenset([member * fit.shape[-1] + neuron for n, member, neuron in without if n == number])
        for role, view, bound in fit.views:
            if role == "outgoing" and view.param in owned:
                continue
            array = params[view.param]
            if role != "outgoing":
                array = _in_order(array, view, bound, keys, readers)
                bound = group.bind_view(view, tuple(array.shape), fit.shape[-1])
            names, opened = _opened(array, view, bound, fit.shape[-1])
            entries.append(Entries(group.name, role, view.param, names, opened, spared))
    return entries


def _with_joined_axes(groups: Sequence[NeuronGroup], params: Arrays) -> tuple[Sequence[NeuronGroup], Arrays]:
    """Make one axis of those that count neurons map_batched, and call it in other views by the last of their names."""
    spans: dict[str, tuple[int, int]] = {}
    for group in groups:
        for _, view in group.views:
            if view.parsed.neurons > 1:
                span = view.parsed.axes.index((NEURON,)), view.parsed.neurons
                if spans.setdefault(view.param, span) != span:
                    raise LayoutError(f"parameter {view.param!r}: cannot be compared, its axes count neurons variously")
    if not spans:
        return groups, params
    joined = dict(params)
    for param, (first, count) in spans.items():
        array = params[param]
        shape = (*array.shape[:first], -1, *array.shape[first + count :])
        joined[param] = namespace(array).reshape(array, shape)
    roles = [
        {role: [_joined(v, spans) for v in getattr(group, role)] for role in ("incoming", "unscored", "outgoing")}
        for group in groups
    ]
    return [NeuronGroup(**{**vars(group), **own}) for group, own in zip(groups, roles, strict=True)], joined


def _joined(view: ParamView, spans: Mapping[str, tuple[int, int]]) -> ParamView:
    """Write a view for its parameter with some axes joined."""
    if view.param not in spans:
        return view
    first, count = spans[view.param]
    names = [name for axis in view.parsed.axes[first : first + count] for name in axis]
    if (ANY,) in view.parsed.axes or STACK in names or (NEURON in names and set(names) != {NEURON}):
        raise LayoutError(f"parameter {view.param!r}: cannot be compared, its axes are read variously")
    axes = [" ".join(axis) for axis in view.parsed.axes]
    texts = [f"({text})" if " " in text else text for text in (*axes[:first], names[-1], *axes[first + count :])]
    pattern = " ".join(texts)
    sizes = {name: size for name, size in view.sizes.items() if name in parse(pattern).names and name != names[-1]}
    return ParamView(view.param, pattern, sizes, view.index)


def _opened(array: Array, view: ParamView, bound: BoundPattern, neurons: int) -> tuple[tuple[str, ...], Array]:
    """Open the parentheses of a view; with an index, split its axis into neurons and the positions of each."""
    xp = namespace(array)
    opened = xp.reshape(array, bound.sizes)
    if view.owners is None:
        return bound.names, opened
    axis, counts = bound.names.index(NEURON), set(view.owners.counts(neurons))
    if len(counts) > 1:
        raise LayoutError(f"parameter {view.param!r}: cannot be compared, its neurons have {sorted(counts)} positions")
    positions = [position for owned in view.owners.positions for position in owned]
    taken = xp.take(opened, asarray_like(tuple(positions), like=array), axis=axis)
    shape = [*taken.shape[:axis], neurons, len(positions) // neurons, *taken.shape[axis + 1 :]]
    names = (*bound.names[: axis + 1], "position", *bound.names[axis + 1 :])
    if len(positions) == neurons:
        return bound.names, taken
    return names, xp.reshape(taken, tuple(shape))


def table_of(entries: Entries, names: tuple[str, ...] | None) -> list[list[float]]:
    """Return one row of numbers for each stack member and position along the neuron axis.

    Args:
        entries: The parameter.
        names: The order of its axes; ``None`` for its own.
    """
    own = entries.names
    order = [own.index(name) for name in (names or own) if name not in (STACK, NEURON)]
    first = [axis for name in (STACK, NEURON) for axis, given in enumerate(own) if given == name]
    xp = namespace(entries.array)
    moved = xp.permute_dims(entries.array, (*first, *order))
    if dtype_name(moved.dtype).rpartition(".")[2] != "float64":
        moved = xp.astype(moved, xp.float32)
    rows = math.prod([moved.shape[axis] for axis in range(len(first))])
    return to_list(xp.reshape(moved, (rows, -1)))


def place_of(entries: Entries, names: tuple[str, ...] | None, row: int, column: int) -> str:
    """Say which neuron, and which of its entries, one number of such a table is."""
    sizes = dict(zip(entries.names, entries.array.shape, strict=True))
    member, neuron = divmod(row, sizes[NEURON])
    text = f"neuron {neuron} of stack member {member}" if STACK in sizes else f"neuron {neuron}"
    places = []
    for name in reversed([name for name in (names or entries.names) if name not in (STACK, NEURON)]):
        column, place = divmod(column, sizes[name])
        places.append(f"{name} {place}")
    return f"{text} at {', '.join(reversed(places))}" if places else text


def _note_readers(keys: _Keys, number: int, view: ParamView, bound: BoundPattern) -> None:
    """Note which neuron each position along the axis of an outgoing view reads."""
    axis, names = _neuron_axis(view, bound)
    start = bound.names.index(NEURON) - names.index(NEURON)
    sizes = bound.sizes[start : start + len(names)]
    inner = math.prod(sizes[names.index(NEURON) + 1 :])
    read = keys.setdefault((view.param, axis), {})
    counts: dict[int, int] = {}
    for position in range(math.prod(sizes)):
        owner = position // inner % bound.size(NEURON)
        owner = owner if view.index is None else view.index[owner]
        if owner >= 0:
            read[position] = (number, owner, counts.get(owner, 0))
            counts[owner] = counts.get(owner, 0) + 1


def _neuron_axis(view: ParamView, bound: BoundPattern) -> tuple[int, tuple[str, ...]]:
    """Return the axis of the array that holds the neurons, and the names that share it."""
    position = 0
    for names in view.parsed.axes:
        if NEURON in names:
            return position, names
        position += bound.names.count(ANY) if names == (ANY,) else 1
    raise AssertionError("a pattern has an axis called 'neuron'")


def _in_order(array: Array, view: ParamView, bound: BoundPattern, keys: _Keys, without: set[tuple[int, int]]) -> Array:
    """Put the positions that read neurons in the order of these neurons, in front of those that read none."""
    for axis in range(len(array.shape)):
        read = keys.get((view.param, axis))
        if read is None or axis == _neuron_axis(view, bound)[0]:
            continue
        fed = sorted((key, position) for position, key in read.items() if key[:2] not in without)
        rest = [position for position in range(array.shape[axis]) if position not in read]
        order = (*[position for _, position in fed], *rest)
        xp = namespace(array)
        array = xp.take(array, asarray_like(order, like=array), axis=axis)
    return array
