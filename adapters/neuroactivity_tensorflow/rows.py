"""The entries of reset neurons in a variable: read, and written without computing the others anew."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity.resets import Outgoing, small_outgoing
from neuroactivity.wrapping import Rows, written_rows
from neuroactivity_tensorflow.optimizers import BY_ENTRY
from neuroactivity_tensorflow.parameters import Patch, patched, tf_variable
from neuroactivity_tensorflow.slots import Member


def index_of(rows: Rows) -> Any:
    """Return where rows are in a tensor with the parentheses of its pattern opened, as ``tf.gather_nd`` takes it."""
    axes = range(max(rows.axes) + 1)
    free = [axis for axis in axes if axis not in rows.axes]
    shape = [*[rows.bound.sizes[axis] for axis in free], len(rows.owners)]
    index = np.empty((*shape, len(axes)), np.int32)
    for number, axis in enumerate(free):
        index[..., axis] = np.arange(shape[number]).reshape([-1 if at == number else 1 for at in range(len(shape))])
    for axis, places in zip(rows.axes, rows.places, strict=True):
        index[..., axis] = places
    return tf.constant(index)


def patches(
    masks: Mapping[str, Any],
    layout: na.Layout,
    variables: Mapping[str, Any],
    draw: Callable[[str], Any],
    outgoing: Outgoing,
) -> dict[str, list[Patch]]:
    """Return what :func:`neuroactivity.reset` writes into each parameter, by its rows.

    Args:
        masks: Masks by group name.
        layout: The neuron groups.
        variables: The parameters' ``tf.Variable`` by name.
        draw: From a parameter's name to fresh values for it.
        outgoing: What outgoing parameters become.
    """
    numbers = {name: np.flatnonzero(mask.numpy()).tolist() for name, mask in masks.items()}
    chosen = {name: neurons for name, neurons in numbers.items() if neurons}
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    found: dict[str, list[Patch]] = {}
    for rows in written_rows(chosen, layout, shapes, outgoing=outgoing):
        if not rows.owners:
            continue
        name, index, sizes = rows.view.param, index_of(rows), rows.bound.sizes
        if rows.role == "outgoing" and outgoing == "zero":
            values = tf.zeros((*index.shape[:-1], *sizes[index.shape[-1] :]), variables[name].dtype)
        else:
            values = draw(name)
            if rows.role == "outgoing" and outgoing == "small":
                old = tf.convert_to_tensor(variables[name])
                values = small_outgoing(values, old, masks[rows.group], rows.view, rows.bound)
            values = Patch(index, None, sizes).read(tf.cast(values, variables[name].dtype))
        found.setdefault(name, []).append(Patch(index, values, sizes))
    return found


def moment_patches(
    found: Sequence[Member], variables: Mapping[str, Any], new: Mapping[str, Sequence[Patch]]
) -> list[tuple[Any, Any]]:
    """Return pairs of an optimizer's ``tf.Variable`` and what clears it where a reset writes.

    Args:
        found: The optimizers.
        variables: The parameters' ``tf.Variable`` by name.
        new: What the reset writes.
    """
    pairs: list[tuple[Any, Any]] = []
    for optimizer, rules, slots in found:
        for slot, by_id in slots.items():
            for name in [name for name in new if id(variables[name]) in by_id]:
                held, rule = tf_variable(by_id[id(variables[name])]), rules[slot]
                whole = None if rule in BY_ENTRY else rule(patched(variables[name], new[name]), optimizer)
                begun = [rule(part.values, optimizer) if whole is None else part.read(whole) for part in new[name]]
                moved = zip(new[name], begun, strict=True)
                pairs.append((held, [part._replace(values=tf.cast(value, held.dtype)) for part, value in moved]))
    return pairs
