"""Neuron outputs, read where their consumers read them."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import keras
import tensorflow as tf

import neuroactivity as na
from neuroactivity.layout import NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON, STACK, bind, parse
from neuroactivity.wrapping import arrange_outputs, read_by_norms, take_neurons
from neuroactivity_tensorflow.following import Trace
from neuroactivity_tensorflow.layers import channels_first, einsum_letters
from neuroactivity_tensorflow.layouts import layout_of
from neuroactivity_tensorflow.parameters import layers_of, own_variables, variables_of
from neuroactivity_tensorflow.probing import Inputs, call, tensors_in

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
    plans = _plans(model, layout)
    seen = _run(model, inputs, plans)
    traced = _traced(model, inputs, plans)
    shapes = {name: tuple(variable.shape) for name, variable in variables_of(model).items()}
    outputs: dict[str, Any] = {}
    errors: dict[str, na.LayoutError] = {}
    for name, group in layout.items():
        outputs[name] = None
        for spot in plans[name]:
            if outputs[name] is None:
                try:
                    outputs[name] = _outputs(group, spot, seen[spot], traced.get(spot, []), shapes)
                except na.LayoutError as error:
                    errors.setdefault(name, error)
    return outputs, errors


class _Spot(NamedTuple):
    """Where neurons may be read.

    Attributes:
        layer: The layer.
        view: The group's view of a parameter of it, which is read at the layer's input; ``None`` for its output.
        certain: Whether its parameters multiply the input as it comes.
    """

    layer: Any
    view: ParamView | None
    certain: bool


def _plans(model: Any, layout: na.Layout) -> dict[str, list[_Spot]]:
    """Say where each group may be read: at the input of a layer behind it, else from the output of its own."""
    layers, holders = layers_of(model), {}
    around = {id(layer.cell): layer for layer in layers.values() if isinstance(layer, keras.layers.RNN)}
    for path, layer in layers.items():
        for label, _ in own_variables(layer):  # the layer whose inputs it multiplies: of a recurrent cell the layer
            holders[f"{path}/{label}" if path else label] = around.get(id(layer), layer)
    plans = {}
    for name, group in layout.items():
        own, spots = holders[group.incoming[0].param], []
        view = next((view for view in group.outgoing if holders[view.param] is not own), None)
        if view is not None:
            reader = holders[view.param]
            spots.append(_Spot(reader, view, type(reader).__module__.startswith("keras.")))
        held = {view.param for view in group.incoming + group.unscored if view.index is None}
        weights = [param for param, holder in holders.items() if holder is own and param.rpartition("/")[2] != "bias"]
        if held.issuperset(weights):  # it makes no other neurons
            spots.append(_Spot(own, None, False))
        plans[name] = spots
    return plans


def _run(model: Any, inputs: Inputs, plans: Mapping[str, list[_Spot]], trace: Trace | None = None) -> dict[_Spot, Any]:
    """Run a model, and return what each layer read or returned in each of its calls."""
    seen: dict[_Spot, list[Any]] = {spot: [] for spots in plans.values() for spot in spots}
    with ExitStack() as stack:
        for spot, calls in seen.items():
            stack.enter_context(_replaced_call(spot.layer, partial(_listen, spot, calls)))
        for layer in layers_of(model).values() if trace else ():
            stack.enter_context(_replaced_call(layer, partial(trace.watch, layer)))  # type: ignore[union-attr]
        with keras.StatelessScope():
            result = call(model, inputs if trace is None else trace.enter(inputs))
    if trace is not None:
        trace.end(tensors_in(result), [one for spot, calls in seen.items() if spot.view is None for one in calls])
    return seen


def _traced(model: Any, inputs: Inputs, plans: Mapping[str, list[_Spot]]) -> dict[_Spot, list[list[Any]]]:
    """Trace a model, and return for each call of a layer whose output or input must be followed where that is read."""
    needed = {name: [spot for spot in spots if not spot.certain] for name, spots in plans.items()}
    order = list(dict.fromkeys(spot for spots in needed.values() for spot in spots))

    def function() -> list[list[list[Any]]]:
        trace = Trace()
        seen = _run(model, inputs, needed, trace)
        return [[_followed(trace, spot, one) for one in seen[spot]] for spot in order]

    if not order:
        return {}
    try:
        with tf.init_scope():
            return dict(zip(order, tf.function(function, autograph=False)(), strict=True))
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError, NotImplementedError, tf.errors.OpError):
        return {}  # not every model can be traced


def _followed(trace: Trace, spot: _Spot, tensor: Any) -> list[Any]:
    """Return what is read of the neurons that a layer returned or was given, as :meth:`Trace.follow` does."""
    if not isinstance(tensor, tf.Tensor) or tensor.graph is not tf.compat.v1.get_default_graph():
        return []
    if spot.view is not None:
        found = trace.follow(tensor, None)
        return found if len(found) == 1 else []
    axis = None if isinstance(spot.layer, keras.layers.EinsumDense) else _axis(spot.layer, tensor)
    function = getattr(spot.layer, "activation", None)
    return trace.follow(tensor, axis, active=function not in (None, keras.activations.linear))


def _axis(layer: Any, output: Any) -> int:
    """Return the axis of a layer's output that counts neurons."""
    return 1 if channels_first(layer) else len(output.shape) - 1


def _listen(spot: _Spot, calls: list[Any], function: Any) -> Any:
    """Add what a layer reads or returns in each call to what was seen; ``None`` where it cannot be told apart."""
    signature = inspect.signature(function)

    def listening(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        if spot.view is None:
            calls.append(keras.tree.flatten(result)[0])
        else:
            calls.append(_input_of(spot.view.param, list(signature.bind(*args, **options).arguments.items())))
        return result

    return listening


def _input_of(param: str, given: Sequence[tuple[str, Any]]) -> Any:
    """Return which of a layer's inputs a parameter multiplies: the only one, the first, or a recurrent state."""
    named = dict(given)
    if param.endswith("recurrent_kernel"):
        state = keras.tree.flatten(named.get("initial_state"))
        return state[0] if state else None
    first = [value for value in keras.tree.flatten(given[0][1]) if tf.is_tensor(value)]
    if len(first) != 1 or not first[0].dtype.is_floating:
        return None
    mask = getattr(first[0], "_keras_mask", None)
    if mask is None or mask.shape.rank is None:
        return first[0]
    mask = tf.reshape(mask, (*mask.shape, *(1,) * (first[0].shape.rank - mask.shape.rank)))
    return tf.where(mask, first[0], tf.zeros((), first[0].dtype))  # padding counts for nothing


@contextmanager
def _replaced_call(layer: Any, wrap: Any) -> Iterator[None]:
    """Let a layer call another function instead of its own."""
    replaced, function = "call" in vars(layer), layer.call
    object.__setattr__(layer, "call", wrap(function))
    try:
        yield
    finally:
        if replaced:
            object.__setattr__(layer, "call", function)
        else:
            object.__delattr__(layer, "call")


def _outputs(group: NeuronGroup, spot: _Spot, calls: list[Any], ends: list[list[Any]], shapes: Shapes) -> Any:
    """Bring what was seen into the form that the group's activation pattern names."""
    if not spot.certain:
        if len(ends) != len(calls) or not all(ends):
            return None
        if spot.view is None and not isinstance(spot.layer, keras.layers.EinsumDense):
            calls = [tf.experimental.numpy.moveaxis(one, _axis(spot.layer, one), -1) for one in calls]
        calls = [made if end is None else end for made, each in zip(calls, ends, strict=True) for end in each]
    if not calls or any(one is None for one in calls):
        return None
    neurons, pattern, first, view = group.count(shapes), parse(group.activation), group.incoming[0], spot.view
    try:
        if view is not None:
            sizes = [n for n, names in zip(shapes[first.param], first.parsed.axes, strict=True) if names == (NEURON,)]
            values = _join([_read(one, spot.layer, view, neurons) for one in calls], pattern.stacks)
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


def _read(values: Any, layer: Any, reader: ParamView, neurons: int) -> Any:
    """Take a group's neurons out of a layer's inputs: independent copies first, the neurons last."""
    values = tf.convert_to_tensor(values)
    stacks, axes = _input_axes(layer, reader, len(values.shape))
    others = [axis for axis in range(len(values.shape)) if axis not in (*stacks, *axes)]
    values = tf.transpose(values, [*stacks, *others, *axes])
    values = tf.reshape(values, (*values.shape[: -len(axes)], -1))
    return take_neurons(values, reader, neurons, len(values.shape) - 1)


def _input_axes(layer: Any, reader: ParamView, rank: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return the axes of a layer's inputs that count copies, and those that run along the reader's neurons."""
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel, _ = einsum_letters(layer)
        pairs = list(zip(kernel, reader.parsed.axes, strict=True))
        places = {letter: i if "..." not in inputs[:i] else rank - len(inputs) + i for i, letter in enumerate(inputs)}
        stacks, axes = ([places[x] for x, names in pairs if name in names] for name in (STACK, NEURON))
        return stacks, axes
    return (), (1 if channels_first(layer) else rank - 1,)
