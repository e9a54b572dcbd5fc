"""Neuron outputs, as the parameters that read them see them."""

import warnings

import jax.numpy as jnp
from jax import Array

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from neuroactivity.layout.patterns import ANY, NEURON, STACK, parse
from neuroactivity.wrapping import arrange_outputs, read_by_norms, take_neurons
from neuroactivity_jax.layouts import Apply, layout_of
from neuroactivity_jax.parameters import PyTree, parameters, replace, shapes_of
from neuroactivity_jax.tracing import Trace, trace
from neuroactivity_jax.tracks import Value


def activations(params: PyTree, apply: Apply, *, layout: na.Layout | None = None) -> dict[str, Array | None]:
    """Run a model and return its neurons' outputs as the next layers read them, after the activation function.

    The model runs operation by operation, and what its weights are multiplied with is recorded; no hooks or names are
    needed. Inside ``jit`` it is compiled like any other function.

    Args:
        params: The parameters.
        apply: From parameters to what the model returns for the inputs that the neurons are judged on.
        layout: The neuron groups, by default those that ``layout_of`` discovers. A group is read where the first
            parameter that it feeds is multiplied with it. What no parameter reads alone, as a head or a layer that
            writes to a residual stream, is followed from where it is made (where its bias is added, or without a bias
            where its weight is multiplied) through its activation function to what reads it.

    Returns:
        Outputs by group name, in the form of the group's activation pattern, for :func:`neuroactivity.tau_dormant`,
        with all samples (steps of a loop, positions of an image) in one axis; ``None`` for a group that is not seen:
        one that is read or made only inside a branch or a loop of unknown length, an embedding, and, where no parameter
        reads it alone, a normalisation without shift, a group with several weights, or one of which it cannot be told
        what its activation function is, since something is added first or only parts are read. An
        :class:`neuroactivity.ActivityWarning` names them.

    Raises:
        LayoutError: If what was read does not have the group's neurons, or does not fit its activation pattern.

    Example:
        >>> params = {"a": {"w": jnp.ones((3, 4)), "b": jnp.zeros(4)}, "out": {"w": jnp.ones((4, 2))}}
        >>> layout = na.Layout([na.dense("a", weight=("a/w", "in neuron"), outgoing=[("out/w", "neuron out")])])
        >>> apply = lambda params: jnp.tanh(jnp.ones((5, 3)) @ params["a"]["w"] + params["a"]["b"]) @ params["out"]["w"]
        >>> activations(params, apply, layout=layout)["a"].shape
        (5, 4)
    """
    layout = layout_of(params, apply) if layout is None else layout
    arrays = parameters(params)
    record = trace(arrays, lambda values: apply(replace(params, values)))
    shapes = shapes_of(arrays)
    norms = read_by_norms(layout)
    outputs = {name: _outputs(group, record, shapes, by_norms=name in norms) for name, group in layout.items()}
    if unseen := [name for name, output in outputs.items() if output is None]:
        why = "what reads them, or their activation function, is not seen; they are not measured by activations"
        warnings.warn(f"no activations for {', '.join(unseen)}: {why}", na.ActivityWarning, stacklevel=2)
    return outputs


def _outputs(group: NeuronGroup, record: Trace, shapes: dict[str, tuple[int, ...]], *, by_norms: bool) -> Array | None:
    """Return a group's outputs, in the form that its activation pattern names.

    A group that a normalisation reads is followed, since what stands behind the normalisation is not its output; a
    recurrent layer reads it itself.
    """
    made_by, neurons = {view.param for view in group.incoming}, group.count(shapes)
    own = [view for view in group.outgoing if view.param in made_by]  # of a recurrent layer
    readers = [view for view in group.outgoing if view.param not in made_by]
    followed = by_norms or group.status == "through_norm" or not readers
    seen = [(view, record.read.get(view.param, [])) for view in (own if followed else readers)]
    if followed:
        seen = _made(group, record) or seen
    try:
        for view, values in seen:
            outputs = [output for value in values if (output := _neurons_last(value, view, neurons)) is not None]
            if outputs:
                return _arrange(jnp.concatenate(outputs, axis=-2), group, shapes)
    except na.LayoutError as error:
        raise na.LayoutError(f"group {group.name!r}, activation {group.activation!r}: {error}") from None
    return None


def _made(group: NeuronGroup, record: Trace) -> list[tuple[ParamView, list[Value]]]:
    """Return where a group is followed to: from the sum with its bias, or from its weight's product."""
    if len(group.incoming) > 1 or len(group.unscored) > 1:
        return []
    (weight,) = group.incoming
    view = group.unscored[0] if group.unscored else weight
    if any(NEURON in names and len(names) > 1 for names in view.parsed.axes):  # gates, or heads as neurons
        return []
    bias = view.param if group.unscored else None
    numbers = [n for n, made in enumerate(record.made) if (made.weight, made.bias) == (weight.param, bias)]
    outputs = [record.ends.output(number) for number in numbers]
    return [] if None in outputs else [(view, [output for output in outputs if output is not None])]


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


def _arrange(values: Array, group: NeuronGroup, shapes: dict[str, tuple[int, ...]]) -> Array:
    """Bring outputs of shape ``(*stack, samples, neurons)`` into the form that a group's activation pattern names."""
    pattern, first = parse(group.activation), group.incoming[0]
    shape = shapes[first.param]
    sizes = [shape[axis] for axis in _axes(first, NEURON, len(shape))] if pattern.neurons > 1 else []
    if sizes and len(sizes) != pattern.neurons:
        raise na.LayoutError(f"expected {len(sizes)} axes called 'neuron', as in {first.param!r}")
    arranged: Array = arrange_outputs(values, pattern, neurons=sizes)
    return arranged
