"""Constraints of layers, such as ``kernel_constraint="non_neg"``: a reset keeps them, as every step of Keras does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity import NeuronGroup
from neuroactivity_tensorflow.parameters import tf_variable

_ROUNDING = 1e-3  # what a norm constraint changes in weights that satisfy it already


def constraints_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constraints of variables, Keras's or TensorFlow's own, by name."""
    found = {name: getattr(variable, "constraint", None) for name, variable in variables.items()}
    return {name: constraint for name, constraint in found.items() if constraint is not None}


def constrain(constraints: Mapping[str, Any], new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Apply constraints to new values; weights that satisfied theirs before and after keep their bits."""
    values = dict(new)
    for name, constraint in constraints.items():
        if name in new:
            value = tf.cast(constraint(new[name]), new[name].dtype)
            moved = tf.abs(value - new[name]) > tf.cast(_ROUNDING, value.dtype) * tf.abs(new[name])
            values[name] = tf.where((new[name] != old[name]) | moved, value, new[name])
    return values


def mark_constrained(layout: na.Layout, variables: Mapping[str, Any]) -> na.Layout:
    """Say in the reason of a group if a constraint lets a reset of one neuron change weights of others.

    With ``UnitNorm``, for example, the other weights of a row grow when one of them becomes zero.
    """
    constraints = constraints_of(variables)
    return na.Layout([_marked(group, constraints, variables) for group in layout.values()]) if constraints else layout


def _marked(group: NeuronGroup, constraints: Mapping[str, Any], variables: Mapping[str, Any]) -> NeuronGroup:
    """Mark one group."""
    params = dict.fromkeys(view.param for _, view in group.views)
    moved = [name for name in params if name in constraints and group.resettable]
    moved = [name for name in moved if _moves_others(group, name, constraints[name], variables)]
    remark = f"the constraint of {', '.join(map(repr, moved))} changes weights of other neurons when one is reset"
    if not moved or remark in group.reason:
        return group
    return replace(group, reason=f"{group.reason}; {remark}" if group.reason else remark)


def _moves_others(group: NeuronGroup, name: str, constraint: Any, variables: Mapping[str, Any]) -> bool:
    """Whether a parameter that satisfies its constraint does so no longer, outside fresh entries, after a reset."""
    views = [view for _, view in group.views]
    tensors = {view.param: tf.convert_to_tensor(tf_variable(variables[view.param])) for view in views}
    count = group.count({param: tuple(value.shape) for param, value in tensors.items()})
    if not count:
        return False
    bound = group.bind({param: tuple(value.shape) for param, value in tensors.items()})
    masks = {group.name: tf.broadcast_to(tf.range(count) == 0, bound.shape)}
    layout = na.Layout([replace(group, partners=())])

    def reset(old: Mapping[str, Any], fresh: Mapping[str, Any]) -> Any:
        return na.reset(old, fresh, masks, layout)[name]

    twos = {param: tf.fill(value.shape, tf.cast(2, value.dtype)) for param, value in tensors.items()}
    ones = {param: tf.ones_like(value) for param, value in tensors.items()}
    others = reset(twos, ones) != ones[name]
    noise = np.random.default_rng(0).standard_normal((2, *tensors[name].shape))
    for size in (1e-3, 1e3):  # below the least norm, and above the largest
        first, fresh = (tf.cast(size * values, tensors[name].dtype) for values in noise)
        new = reset(tensors | {name: tf.cast(constraint(first), first.dtype)}, tensors | {name: fresh})
        least = tf.cast(_ROUNDING, new.dtype) * tf.reduce_max(tf.abs(tf.where(others, new, 0)))
        if tf.reduce_any((tf.abs(tf.cast(constraint(new), new.dtype) - new) > least) & others):
            return True
    return False
