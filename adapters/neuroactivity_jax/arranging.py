"""Bring neuron outputs, from where they were seen, into the form that a group's activation pattern names."""

from collections.abc import Iterable, Mapping

import jax.numpy as jnp
from jax import Array

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from neuroactivity.layout.patterns import ANY, NEURON, STACK, parse
from neuroactivity.wrapping import arrange_outputs, take_neurons
from neuroactivity_jax.tracing import Made
from neuroactivity_jax.tracks import Value


def makers(group: NeuronGroup, made: Iterable[Made]) -> tuple[ParamView, list[int]]:
    """Return which of what weights made is a group: the sums with its bias, or without one its weight's products.

    The view that is returned too names their axes. None is known of a group with several weights.
    """
    weight = group.incoming[0]
    view = group.unscored[0] if group.unscored else weight
    several = len(group.incoming) > 1 or len(group.unscored) > 1
    if several or any(NEURON in names and len(names) > 1 for names in view.parsed.axes):  # gates, or heads as neurons
        return view, []
    bias = view.param if group.unscored else None
    return view, [n for n, one in enumerate(made) if (one.weight, one.bias) == (weight.param, bias)]


def put_together(
    seen: Iterable[Value], view: ParamView, group: NeuronGroup, shapes: Mapping[str, tuple[int, ...]]
) -> Array | None:
    """Put a group's neurons together from all values that a view's parameter lies along; nothing if none has them."""
    neurons = group.count(shapes)
    try:
        parts = [part for value in seen if (part := _neurons_last(value, view, neurons)) is not None]
        return _arrange(jnp.concatenate(parts, axis=-2), group, shapes) if parts else None
    except na.LayoutError as error:
        raise na.LayoutError(f"group {group.name!r}, activation {group.activation!r}: {error}") from None


def _axes(view: ParamView, name: str, ndim: int) -> list[int]:
    """Return the axes of a parameter that a name shares or stands for."""
    axes: list[tuple[str, ...]] = []
    for names in view.parsed.axes:
        axes += [names] * (ndim - len(view.parsed.axes) + 1 if names == (ANY,) else 1)
    return [axis for axis, names in enumerate(axes) if name in names]


def _neurons_last(seen: Value, view: ParamView, neurons: int) -> Array | None:
    """Take a group's neurons out of a value that a parameter lies along: shape ``(*stack, samples, neurons)``.

    Nothing is returned where an axis is missing, or the parameter does not read all neurons equally often.
    """
    stacks, counted = _axes(view, STACK, len(seen.axes)), _axes(view, NEURON, len(seen.axes))
    axes = [axis for axis in [seen.axes[axis] for axis in (*stacks, *counted)] if axis is not None]
    uneven = view.owners is not None and len(set(view.owners.counts(neurons))) > 1
    if uneven or len(set(axes)) < len(stacks) + len(counted):
        return None
    values: Array = jnp.moveaxis(seen.value, axes, [*range(len(stacks)), *range(-len(counted), 0)])
    values = values.reshape(*values.shape[: values.ndim - len(counted)], -1)
    values = take_neurons(values, view, neurons, values.ndim - 1)
    return values.reshape(*values.shape[: len(stacks)], -1, neurons)


def _arrange(values: Array, group: NeuronGroup, shapes: Mapping[str, tuple[int, ...]]) -> Array:
    """Bring outputs of shape ``(*stack, samples, neurons)`` into the form that a group's activation pattern names."""
    pattern, first = parse(group.activation), group.incoming[0]
    shape = shapes[first.param]
    sizes = [shape[axis] for axis in _axes(first, NEURON, len(shape))] if pattern.neurons > 1 else []
    if sizes and len(sizes) != pattern.neurons:
        raise na.LayoutError(f"expected {len(sizes)} axes called 'neuron', as in {first.param!r}")
    arranged: Array = arrange_outputs(values, pattern, neurons=sizes)
    return arranged
