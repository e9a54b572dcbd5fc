"""Bring neuron outputs, read where a later layer reads them, into the form that a group's activation pattern names."""

import math
from collections.abc import Sequence

from neuroactivity.arrays import Array, asarray_like, namespace
from neuroactivity.errors import LayoutError
from neuroactivity.layout import Layout, ParamView, Pattern
from neuroactivity.layout.patterns import ANY, NEURON, STACK


def read_by_norms(layout: Layout) -> set[str]:
    """Name the groups whose outgoing parameters a normalisation reads, and not they.

    Behind a normalisation a dead neuron is not zero, so what these parameters see is not what such a group outputs.

    Example:
        >>> from neuroactivity.layout import NeuronGroup
        >>> norm = NeuronGroup("norm", [("scale", "neuron")], outgoing=[("v", "out neuron")])
        >>> read_by_norms(Layout([NeuronGroup("fc", [("w", "neuron in")], outgoing=[("v", "out neuron")]), norm]))
        {'fc'}
    """
    scales = {name for name, group in layout.items() if set(group.incoming[0].parsed.names) <= {NEURON, STACK}}
    behind = [set(layout[name].outgoing) for name in scales if layout[name].outgoing]
    rest = [group for name, group in layout.items() if name not in scales]
    return {group.name for group in rest if any(views <= set(group.outgoing) for views in behind)}


def take_neurons(values: Array, reader: ParamView, neurons: int, axis: int) -> Array:
    """Take a group's neurons out of the axis that one of its readers reads, and make them the last axis.

    Args:
        values: The reader's input.
        reader: The group's view of the reader's parameter.
        neurons: Number of neurons.
        axis: The axis of ``values`` that runs along the reader's axis called ``neuron``.

    Returns:
        The neurons' outputs, shape ``(..., neurons)``; what shares the reader's axis with them is in front of them.

    Example:
        >>> import numpy as np
        >>> take_neurons(np.ones((5, 12)), ParamView("out.weight", "out (neuron hw)"), 3, 1).shape
        (5, 4, 3)
    """
    xp = namespace(values)
    names = next(names for names in reader.parsed.axes if NEURON in names)
    sizes, place = [neurons if name == NEURON else reader.sizes.get(name, -1) for name in names], names.index(NEURON)
    if reader.owners is not None and len(names) > 1:
        raise LayoutError(f"parameter {reader.param!r}: an index along {' and '.join(names)} together cannot be read")
    if reader.owners is not None:
        owned = [positions for positions in reader.owners.positions if positions]
        if len(owned) != neurons or len(set(map(len, owned))) > 1:
            raise LayoutError(f"parameter {reader.param!r} reads not all neurons equally often")
        positions = tuple([position for positions in owned for position in positions])
        values = _pick(values, positions, axis)
        sizes, place = [neurons, len(owned[0])] if len(owned[0]) > 1 else [neurons], 0
    shape = tuple(values.shape)
    known = math.prod([size for size in sizes if size > 0])
    if sizes.count(-1) > 1 or shape[axis] % known or (-1 not in sizes and shape[axis] != known):
        raise LayoutError(f"an axis of {shape[axis]} features cannot be read as {' x '.join(names)}, {neurons} neurons")
    sizes = [shape[axis] // known if size < 0 else size for size in sizes]
    values = xp.reshape(values, (*shape[:axis], *sizes, *shape[axis + 1 :]))
    axes = list(range(len(values.shape)))
    axes.append(axes.pop(axis + place))
    return xp.permute_dims(values, tuple(axes))


def join_neurons(parts: Sequence[tuple[Array, Sequence[int]]], neurons: int, *, samples_axis: int = 0) -> Array | None:
    """Put a group's outputs together that were read in several parts, several times, or both.

    Where a part holds all neurons, those that hold some are left out; otherwise a neuron is taken from the first. Parts
    with the same neurons are more samples of them; they may have different sizes.

    Args:
        parts: Outputs of shape ``(*stack, ..., positions)``, and for each position its neuron, -1 for none.
        neurons: Number of neurons.
        samples_axis: The first axis behind those that count copies.

    Returns:
        Outputs of shape ``(*stack, ..., neurons)``; None if a neuron was not read, or on other samples.

    Example:
        >>> import numpy as np
        >>> halves = [(np.zeros((5, 2)), [0, 1]), (np.ones((5, 2)), [2, 3])]
        >>> join_neurons(halves, 4).shape
        (5, 4)
    """
    by_owners: dict[frozenset[int], list[tuple[Array, Sequence[int]]]] = {}
    for values, index in parts:
        by_owners.setdefault(frozenset(index) - {-1}, []).append((values, index))
    everybody = frozenset(range(neurons))
    if everybody in by_owners:
        by_owners = {everybody: by_owners[everybody]}
    order: list[int] = []
    joined: list[Array] = []
    for owners, several in by_owners.items():
        new = sorted(owners.difference(order))
        taken = [even for values, index in several if (even := _take_evenly(values, index, new)) is not None]
        if taken:
            joined.append(_more_samples(taken, samples_axis))
            order += new
    if sorted(order) != list(range(neurons)):
        return None
    if len({tuple(values.shape[:-1]) for values in joined}) > 1:
        joined = [_flat_samples(values, samples_axis) for values in joined]
    if len({tuple(values.shape[:-1]) for values in joined}) > 1:
        return None
    values = joined[0] if len(joined) == 1 else namespace(joined[0]).concat(joined, axis=joined[0].ndim - 1)
    if order == list(range(neurons)):
        return values
    return _pick(values, tuple([order.index(neuron) for neuron in range(neurons)]), values.ndim - 1)


def _pick(values: Array, positions: tuple[int, ...], axis: int) -> Array:
    """Take positions along an axis."""
    xp = namespace(values)
    return xp.take(values, asarray_like(positions, like=values), axis=axis)


def _take_evenly(values: Array, index: Sequence[int], owners: Sequence[int]) -> Array | None:
    """Take these neurons out of the last axis; None if some have more positions than others, or there are none."""
    positions: dict[int, list[int]] = {owner: [] for owner in owners}
    for position, owner in enumerate(index):
        if owner in positions:
            positions[owner].append(position)
    counts = set(map(len, positions.values()))
    if len(counts) != 1:
        return None
    (each,) = counts
    if list(index) != list(owners):
        values = _pick(values, tuple([place for owner in owners for place in positions[owner]]), values.ndim - 1)
    if each > 1:
        xp, last = namespace(values), values.ndim - 1
        values = xp.reshape(values, (*values.shape[:-1], len(owners), each))
        values = xp.permute_dims(values, (*range(last), last + 1, last))
    return values


def _more_samples(arrays: Sequence[Array], axis: int) -> Array:
    """Join arrays along the samples."""
    if len(arrays) == 1:
        return arrays[0]
    if len({(*array.shape[:axis], *array.shape[axis + 1 :]) for array in arrays}) > 1 or arrays[0].ndim < axis + 2:
        arrays = [_flat_samples(array, axis) for array in arrays]
    return namespace(arrays[0]).concat(list(arrays), axis=axis)


def _flat_samples(array: Array, axis: int) -> Array:
    """Bring all samples into one axis."""
    return namespace(array).reshape(array, (*array.shape[:axis], -1, array.shape[-1]))


def arrange_outputs(values: Array, pattern: Pattern, *, neurons: Sequence[int] = ()) -> Array:
    """Bring neuron outputs into the order of axes that a pattern names.

    The axes that count neither neurons nor copies keep their order: each name of the pattern takes one, ``...`` what
    the others leave, the last name all that is left. A name for which none is left has size one.

    Args:
        values: Outputs of shape ``(*stack, ..., neurons)``.
        pattern: The group's activation pattern.
        neurons: Sizes of the axes called ``neuron``, where there are several.

    Raises:
        LayoutError: If the pattern has no place for the samples.

    Example:
        >>> import numpy as np
        >>> from neuroactivity.layout.patterns import parse
        >>> arrange_outputs(np.ones((5, 2, 3)), parse("neuron batch")).shape
        (3, 10)
        >>> arrange_outputs(np.ones((5, 2, 3)), parse("... (neuron dim)")).shape
        (5, 6)
    """
    xp, shape, stacks = namespace(values), tuple(values.shape), pattern.stacks
    if pattern.neurons != max(len(neurons), 1):
        raise LayoutError(f"the pattern has {pattern.neurons} axes called 'neuron', the outputs {max(len(neurons), 1)}")
    shares = _share_out(shape[stacks:-1], [name for name in pattern.names if name not in (NEURON, STACK)])
    dims = [*shape[:stacks], *[size for share in shares for size in share], *(neurons or shape[-1:])]
    first = len(dims) - max(len(neurons), 1)
    counted = {STACK: iter(range(stacks)), NEURON: iter(range(first, len(dims)))}
    others, each_share = iter(range(stacks, first)), iter(shares)
    order: list[int] = []
    sizes: list[int] = []
    for names in pattern.axes:
        axes: list[int] = []
        for name in names:
            axes += [next(counted[name])] if name in counted else [next(others) for _ in next(each_share)]
        order += axes
        sizes += [dims[axis] for axis in axes] if names == (ANY,) else [math.prod([dims[axis] for axis in axes])]
    return xp.reshape(xp.permute_dims(xp.reshape(values, tuple(dims)), tuple(order)), tuple(sizes))


def _share_out(sizes: Sequence[int], names: Sequence[str]) -> list[list[int]]:
    """Share axes out to the names of a pattern, in order: for each name the sizes of its axes."""
    if not names and math.prod(sizes) != 1:
        raise LayoutError("expected an axis for the samples in the activation pattern")
    shares = []
    for place, name in enumerate(names):
        left, after = len(sizes), [other for other in names[place + 1 :] if other != ANY]
        if name == ANY:
            share = list(sizes[: max(left - len(after), min(left, 1))])
        elif place == len(names) - 1:
            share = [math.prod(sizes)]
            sizes = ()
        else:
            share = list(sizes[:1]) or [1]
        shares.append(share)
        sizes = sizes[len(share) :]
    return shares
