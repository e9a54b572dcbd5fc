"""Bring neuron outputs from where they were seen into the form that a group's activation pattern names."""

from collections.abc import Sequence

from torch import Tensor, nn

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from neuroactivity.layout import Pattern
from neuroactivity.layout.patterns import NEURON, STACK, bind, parse
from neuroactivity.wrapping import arrange_outputs, join_neurons, take_neurons
from neuroactivity_torch.readers import axis_of
from neuroactivity_torch.tracks import Seen


def in_form(values: Tensor, group: NeuronGroup, neurons: int) -> Tensor:
    """Bring outputs of shape ``(*stack, ..., neurons)`` into the form that a group's activation pattern names.

    Raises:
        LayoutError: If the pattern has no place for what there is.
    """
    pattern = parse(group.activation)
    if values.ndim == pattern.stacks + 1:
        values = values.unsqueeze(pattern.stacks)  # a single sample, without an axis for it
    arranged: Tensor = arrange_outputs(values, pattern)
    bind(pattern, tuple(arranged.shape), {NEURON: neurons})
    return arranged


def put_together(group: NeuronGroup, seen: Sequence[Seen], neurons: int) -> Tensor | None:
    """Put a group's neurons together from all places where they were seen: shape ``(*stack, ..., neurons)``."""
    if not seen:
        return None
    copies = -(-int(max(part.owners.max().item() for part in seen)) // neurons) if parse(group.activation).stacks else 1
    values: Tensor | None = join_neurons([_apart(part) for part in seen], copies * neurons)
    if values is None or not parse(group.activation).stacks:
        return values
    return values.reshape(*values.shape[:-1], copies, neurons).movedim(-2, 0)


def _apart(seen: Seen) -> tuple[Tensor, tuple[int, ...]]:
    """Bring the axes along which owners differ to the end, as one."""
    owners = seen.owners
    axes = [axis for axis in range(owners.ndim) if (owners.amax(axis) != owners.amin(axis)).any()] or [owners.ndim - 1]
    last = list(range(-len(axes), 0))
    index = owners.movedim(axes, last)[(0,) * (owners.ndim - len(axes))].flatten()
    values = seen.values.movedim(axes, last).flatten(-len(axes))
    return values, tuple([int(owner) - 1 for owner in index.tolist()])


def part_read(
    module: nn.Module, values: Tensor, view: ParamView, neurons: int, pattern: Pattern, shape: tuple[int, ...]
) -> tuple[Tensor, tuple[int, ...]] | None:
    """Bring the neurons to the last axis of what a module read, and say which lies where."""
    axis = axis_of(module, values.ndim)
    axis = values.ndim - 1 if axis is None else axis
    if axis < 0 or values.shape[axis] == 0:
        return None
    if view.index is not None and not pattern.stacks:
        return (values.movedim(axis, -1), view.index) if values.shape[axis] == len(view.index) else None
    try:
        values = _stacks_first(take_neurons(values, view, neurons, axis), pattern)
    except na.LayoutError:
        if _fits(view, shape, neurons):
            return None  # the module read something else than these neurons
        raise
    return values, tuple(range(neurons))


def _fits(view: ParamView, shape: tuple[int, ...], neurons: int) -> bool:
    """Whether a parameter has the neurons that a view of it says."""
    try:
        view.bind(shape, neurons)
    except na.LayoutError:
        return False
    return True


def _stacks_first(values: Tensor, pattern: Pattern) -> Tensor:
    """Move the axes of copies to the front; they lie among the axes other than the neurons where the pattern says."""
    if not pattern.stacks:
        return values
    others = bind(Pattern(tuple([names for names in pattern.axes if NEURON not in names])), values.shape[:-1], {})
    stacks = [axis for axis, name in enumerate(others.names) if name == STACK]
    return values.movedim(stacks, list(range(len(stacks))))
