"""Neuron outputs, read where their consumers read them."""

import jax.numpy as jnp
import numpy as np
from jax import Array

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from neuroactivity.layout.patterns import ANY, NEURON, STACK, Pattern, parse
from neuroactivity_jax.layouts import Apply, layout_of
from neuroactivity_jax.tracing import Trace, Value, trace
from neuroactivity_jax.trees import PyTree, parameters, replace, shapes_of

__all__ = ["activations"]


def activations(params: PyTree, apply: Apply, *, layout: na.Layout | None = None) -> dict[str, Array | None]:
    """Run a model and return its neurons' outputs as the layers behind read them, after the activation function.

    The model runs operation by operation, and what its weights are multiplied with is noted; it needs no hooks and no
    names. Within ``jit`` it is compiled like any other function.

    Args:
        params: The parameters.
        apply: From parameters to what the model returns for the inputs to judge the neurons on.
        layout: The neuron groups, by default those that ``layout_of`` finds. A group is read where the first parameter
            that it feeds is multiplied with it. A head, or a writer of a residual stream, which no parameter reads
            alone, is seen where its bias is added, or without one where its weight is multiplied: in front of an
            activation function that may follow.

    Returns:
        Outputs by group name, for :func:`neuroactivity.tau_dormant`, with all samples (and places of an image) in one
        axis; ``None`` for a group that is not seen: one that is read or made only inside a loop, an embedding, a
        normalisation without shift or neurons made by several weights that no parameter reads alone.

    Example:
        >>> params = {"a": {"w": jnp.ones((3, 4)), "b": jnp.zeros(4)}, "out": {"w": jnp.ones((4, 2))}}
        >>> layout = na.Layout([na.dense("a", weight=("a/w", "in neuron"), outgoing=[("out/w", "neuron out")])])
        >>> apply = lambda params: jnp.tanh(jnp.ones((5, 3)) @ params["a"]["w"] + params["a"]["b"]) @ params["out"]["w"]
        >>> activations(params, apply, layout=layout)["a"].shape
        (5, 4)
    """
    layout = layout_of(params, apply) if layout is None else layout
    arrays = parameters(params)
    found = trace(arrays, lambda values: apply(replace(params, values)))
    shapes = shapes_of(arrays)
    return {name: _outputs(group, found, shapes) for name, group in layout.items()}


def _outputs(group: NeuronGroup, found: Trace, shapes: dict[str, tuple[int, ...]]) -> Array | None:
    """Return a group's outputs, in the form that its activation pattern names."""
    own, neurons = {view.param for view in group.incoming}, group.count(shapes)
    readers = [view for view in group.outgoing if view.param not in own]
    places = [(view, found.read.get(view.param, [])) for view in readers] if readers else _made(group, found)
    for view, values in places:
        lying = [_along_neurons(value, view, neurons) for value in values]
        outputs = [value for value in lying if value is not None]
        if outputs:
            joined, pattern = jnp.concatenate(outputs, axis=-2), parse(group.activation)
            if pattern.neurons > 1:
                first = group.incoming[0]
                sizes = [shapes[first.param][axis] for axis in _axes(first, NEURON, len(shapes[first.param]))]
                if len(sizes) != pattern.neurons:
                    expected = f"expected {len(sizes)} axes called 'neuron', as in {first.param!r}"
                    raise na.LayoutError(f"group {group.name!r}, activation {group.activation!r}: {expected}")
                joined = joined.reshape(*joined.shape[:-1], *sizes)
            return _arrange(joined, pattern)
    return None


def _made(group: NeuronGroup, found: Trace) -> list[tuple[ParamView, list[Value]]]:
    """Return where a group is seen that no parameter reads: at the sum with its bias, or at its weight's product."""
    if len(group.incoming) > 1 or len(group.unscored) > 1:
        return []
    (weight,) = group.incoming
    view = group.unscored[0] if group.unscored else weight
    if any(NEURON in names and len(names) > 1 for names in view.parsed.axes):  # gates, or heads as neurons
        return []
    bias = view.param if group.unscored else None
    return [(view, [made.value for made in found.made if (made.weight, made.bias) == (weight.param, bias)])]


def _axes(view: ParamView, name: str, ndim: int) -> list[int]:
    """Return the axes of a parameter that a name shares or stands for."""
    axes: list[tuple[str, ...]] = []
    for names in view.parsed.axes:
        axes += [names] * (ndim - len(view.parsed.axes) + 1 if names == (ANY,) else 1)
    return [axis for axis, names in enumerate(axes) if name in names]


def _along_neurons(found: Value, view: ParamView, neurons: int) -> Array | None:
    """Take a group's neurons out of a value that a parameter lies along: shape ``(*stack, samples, neurons)``."""
    ndim = len(found.axes)
    own, stacks = _axes(view, NEURON, ndim), _axes(view, STACK, ndim)
    axes = [place for place in (found.axes[axis] for axis in (*stacks, *own)) if place is not None]
    if len(set(axes)) < len(stacks) + len(own):
        return None
    values = jnp.moveaxis(found.value, axes, [*range(len(stacks)), *range(-len(own), 0)])
    values = values.reshape(*values.shape[: values.ndim - len(own)], -1)
    if view.owners is not None:
        owned = [positions for positions in view.owners.positions if positions]
        if len(owned) != neurons or len(set(map(len, owned))) > 1:
            return None
        values = jnp.moveaxis(values[..., np.array(owned)], -1, -2)
    else:
        names = next(names for names in view.parsed.axes if NEURON in names)
        sizes = [neurons if name == NEURON else view.sizes.get(name, -1) for name in names]
        values = jnp.moveaxis(values.reshape(*values.shape[:-1], *sizes), names.index(NEURON) - len(names), -1)
    return values.reshape(*values.shape[: len(stacks)], -1, neurons)


def _arrange(values: Array, pattern: Pattern) -> Array:
    """Bring outputs of shape ``(*stack, samples, *neurons)`` into the order of axes that a pattern names."""
    stacks, samples = iter(range(pattern.stacks)), pattern.stacks
    neurons = iter(range(samples + 1, values.ndim))
    order: list[int | None] = []
    for names in pattern.axes:
        if NEURON in names or STACK in names:
            order.append(next(neurons if NEURON in names else stacks))
        elif samples not in order:
            order.append(samples)
        elif names != ("...",):
            order.append(None)
    values = jnp.transpose(values, [axis for axis in order if axis is not None])
    return jnp.expand_dims(values, [place for place, axis in enumerate(order) if axis is None])
