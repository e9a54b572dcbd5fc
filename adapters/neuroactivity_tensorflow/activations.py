"""Neuron outputs, read where their consumers read them."""

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import keras
import tensorflow as tf

import neuroactivity as na
from neuroactivity.layout import NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON, bind, parse
from neuroactivity.wrapping import arrange_outputs, read_by_norms, take_neurons
from neuroactivity_tensorflow.following import Trace
from neuroactivity_tensorflow.graphs import run_plainly
from neuroactivity_tensorflow.layouts import layout_of
from neuroactivity_tensorflow.parameters import layers_of, variables_of
from neuroactivity_tensorflow.probing import Inputs, call, tensors_in
from neuroactivity_tensorflow.readers import Spot, axis_of, input_of, plan, read, reads_part, replaced_call

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


def activations(model: Any, *inputs: Any, layout: na.Layout | None = None) -> dict[str, Any]:
    """Run a model and return its neurons' outputs as the next layers read them, after the activation function.

    The model runs in inference mode. Its variables and seed generators are left as they were.

    Args:
        model: A Keras layer or model.
        inputs: Inputs of the model.
        layout: The neuron groups, by default those that ``layout_of`` finds. A group is read at the input of the layer
            that holds its first outgoing parameter. Without one it is followed from its own layer to where it is read:
            behind the activation function, if one follows; where it is added to a stream, what it adds.

    Returns:
        Outputs by group name, for :func:`neuroactivity.tau_dormant`; ``None`` for a group whose outputs cannot be told:
        the inside of a separable convolution, or what is done to them cannot be followed. What a layer returns before
        its activation function is never returned for what the function returns. Padding that a mask marks is zero.

    Raises:
        LayoutError: If the layer where a group is read has other inputs than the group's neurons.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        >>> {name: tuple(value.shape) for name, value in activations(model, tf.ones((5, 3))).items()}
        {'0': (5, 4), '1': (5, 2)}
    """
    if isinstance(model, Mapping):
        raise na.LayoutError("activations are read at the layers of a Keras model, got a mapping of variables")
    layout = layout_of(model, *inputs) if layout is None else layout
    outputs, errors = read_activations(model, inputs, layout)
    for error in errors.values():
        raise error
    return outputs


def read_activations(model: Any, inputs: Inputs, layout: na.Layout) -> tuple[dict[str, Any], dict[str, na.LayoutError]]:
    """Do what :func:`activations` does, but return errors by group name."""
    norms = read_by_norms(layout)
    layout = na.Layout([replace(g, outgoing=()) if name in norms else g for name, g in layout.items()])
    plans = plan(model, layout)
    seen = _run(model, inputs, plans)
    traced = _traced(model, inputs, plans)
    shapes = {name: tuple(variable.shape) for name, variable in variables_of(model).items()}
    outputs: dict[str, Any] = {}
    errors: dict[str, na.LayoutError] = {}
    named = Counter(spot for spots in plans.values() for spot in spots if spot.view is not None)
    for name, group in layout.items():
        outputs[name] = None
        for spot in plans[name]:
            tells = named[spot] < 2 or len(seen[spot]) < 2  # of several calls it is not known whose neurons each reads
            if outputs[name] is None and tells and not reads_part(spot, group.count(shapes)):
                try:
                    outputs[name] = _outputs(group, spot, seen[spot], traced.get(spot, []), shapes)
                except na.LayoutError as error:
                    errors.setdefault(name, error)
    return outputs, errors


def _run(model: Any, inputs: Inputs, plans: Mapping[str, list[Spot]], trace: Trace | None = None) -> dict[Spot, Any]:
    """Run a model, and return what each layer read or returned in each of its calls."""
    seen: dict[Spot, list[Any]] = {spot: [] for spots in plans.values() for spot in spots}
    with ExitStack() as stack:
        for spot, calls in seen.items():
            stack.enter_context(replaced_call(spot.layer, partial(_listen, spot, calls)))
        for layer in layers_of(model).values() if trace else ():
            stack.enter_context(replaced_call(layer, partial(trace.watch, layer)))  # type: ignore[union-attr]
        with keras.StatelessScope(), run_plainly():
            result = call(model, inputs if trace is None else trace.enter(inputs))
    if trace is not None:
        trace.end(tensors_in(result), [one for spot, calls in seen.items() if spot.view is None for one in calls])
    return seen


def _traced(model: Any, inputs: Inputs, plans: Mapping[str, list[Spot]]) -> dict[Spot, list[list[Any]]]:
    """Trace a model, and return for each call of a layer whose output or input must be followed where that is read."""
    needed = {name: [spot for spot in spots if not spot.certain] for name, spots in plans.items()}
    order = list(dict.fromkeys(spot for spots in needed.values() for spot in spots))

    def function() -> list[list[list[Any]]]:
        trace = Trace()
        try:
            seen = _run(model, inputs, needed, trace)
        except (ValueError, TypeError, RuntimeError, LookupError, AttributeError, NotImplementedError):
            return []  # it has run, so this comes of tracing: no numbers, no truth values, shapes that are unknown
        return [[_followed(trace, spot, one) for one in seen[spot]] for spot in order]

    if not order:
        return {}
    with tf.init_scope():
        found = tf.function(function, autograph=False).get_concrete_function()()
    return dict(zip(order, found, strict=True)) if found else {}


def _followed(trace: Trace, spot: Spot, tensor: Any) -> list[Any]:
    """Return what is read of the neurons that a layer returned or was given, as :meth:`Trace.follow` does."""
    if not isinstance(tensor, tf.Tensor) or tensor.graph is not tf.compat.v1.get_default_graph():
        return []
    if spot.view is not None:
        found = trace.follow(tensor, None)
        return found if len(found) == 1 else []
    axis = None if isinstance(spot.layer, keras.layers.EinsumDense) else axis_of(spot.layer, tensor)
    function = getattr(spot.layer, "activation", None)
    return trace.follow(tensor, axis, active=function not in (None, keras.activations.linear))


def _listen(spot: Spot, calls: list[Any], function: Any) -> Any:
    """Add what a layer reads or returns in each call to what was seen; ``None`` where it cannot be told apart."""
    signature = inspect.signature(function)

    def listening(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        if spot.view is None:
            calls.append(keras.tree.flatten(result)[0])
        else:
            calls.append(input_of(spot.view.param, list(signature.bind(*args, **options).arguments.items())))
        return result

    return listening


def _outputs(group: NeuronGroup, spot: Spot, calls: list[Any], ends: list[list[Any]], shapes: Shapes) -> Any:
    """Bring what was seen into the form that the group's activation pattern names."""
    calls = calls if spot.view is not None else [neurons_last(spot.layer, one) for one in calls]
    if not spot.certain:
        if len(ends) != len(calls) or not all(ends):
            return None
        calls = [made if end is None else end for made, each in zip(calls, ends, strict=True) for end in each]
    return arranged(group, spot, calls, shapes) if calls and not any(one is None for one in calls) else None


def neurons_last(layer: Any, output: Any) -> Any:
    """Move the neurons of what a layer returned to the last axis, but for ``EinsumDense``."""
    if isinstance(layer, keras.layers.EinsumDense):
        return output
    return tf.experimental.numpy.moveaxis(output, axis_of(layer, output), -1)


def arranged(group: NeuronGroup, spot: Spot, calls: Sequence[Any], shapes: Shapes) -> Any:
    """Bring what a layer read or returned in each call into the form that the group's activation pattern names.

    Raises:
        LayoutError: If the pattern has no place for it.
    """
    neurons, pattern, first, view = group.count(shapes), parse(group.activation), group.incoming[0], spot.view
    try:
        if view is not None:
            sizes = [n for n, names in zip(shapes[first.param], first.parsed.axes, strict=True) if names == (NEURON,)]
            values = _join([read(one, spot.layer, view, neurons) for one in calls], pattern.stacks)
            values = arrange_outputs(values, pattern, neurons=sizes if pattern.neurons > 1 else ())
        elif isinstance(spot.layer, keras.layers.EinsumDense):
            values = tf.concat(calls, axis=0) if len(calls) > 1 else tf.convert_to_tensor(calls[0])
        else:
            own = ParamView(first.param, NEURON)
            parts = [take_neurons(tf.convert_to_tensor(one), own, neurons, len(one.shape) - 1) for one in calls]
            values = arrange_outputs(_join(parts, 0), pattern)
        bind(pattern, tuple(values.shape), {NEURON: neurons})
    except (na.LayoutError, ValueError, tf.errors.InvalidArgumentError) as error:
        where = f", read at the input of {view.param!r}" if view is not None else ""
        raise na.LayoutError(f"group {group.name!r}, activation {group.activation!r}{where}: {error}") from None
    return values


def _join(parts: Sequence[Any], stacks: int) -> Any:
    """Join what several calls of a layer read along the samples."""
    if len(parts) > 1 and len({tuple(part.shape[stacks + 1 :]) for part in parts}) > 1:
        parts = [tf.reshape(part, (*part.shape[:stacks], -1, part.shape[-1])) for part in parts]
    return tf.concat(parts, axis=stacks) if len(parts) > 1 else parts[0]
