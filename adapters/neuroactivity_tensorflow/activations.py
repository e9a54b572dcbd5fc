"""Neuron outputs, read where their consumers read them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

import neuroactivity as na
from neuroactivity.layout.groups import NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON, Pattern, bind, parse
from neuroactivity_tensorflow.layers import einsum_letters
from neuroactivity_tensorflow.layouts import call, layout_of
from neuroactivity_tensorflow.models import layers_of, own_variables, variables_of

__all__ = ["activations"]


def activations(model: Any, *inputs: Any, layout: na.Layout | None = None) -> dict[str, Any]:
    """Run a model and return its neurons' outputs as the layers behind read them, after the activation function.

    The model runs in inference mode. Its variables and seed generators are left as they were.

    Args:
        model: A Keras layer or model.
        inputs: What the model is called with.
        layout: The neuron groups, by default those that ``layout_of`` finds. A group is read at the input of the layer
            that holds its first outgoing parameter, or, without one, at the output of a layer that holds this group
            alone.

    Returns:
        Outputs by group name, for :func:`neuroactivity.tau_dormant`; ``None`` for a group that no layer shows: queries
        and keys, the inside of a separable convolution.

    Raises:
        LayoutError: If a group's reader was given something else than the group's neurons.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        >>> {name: tuple(value.shape) for name, value in activations(model, tf.ones((5, 3))).items()}
        {'0': (5, 4), '1': (5, 2)}
    """
    if isinstance(model, Mapping):
        raise na.LayoutError("activations are read at the layers of a Keras model, got a mapping of variables")
    layout = layout_of(model, *inputs) if layout is None else layout
    places = _places(model)
    seen: dict[str, list[Any]] = {name: [] for name in layout}
    with ExitStack() as stack:
        for name, group in layout.items():
            _listen(stack, places, group, seen[name])
        with keras.StatelessScope():
            call(model, inputs)
    shapes = {name: tuple(variable.shape) for name, variable in variables_of(model).items()}
    return {name: _outputs(layout[name], values, shapes, places) for name, values in seen.items()}


def _places(model: Any) -> dict[str, Any]:
    """Return the layer that takes the inputs which a parameter multiplies: of a recurrent cell, the layer around it."""
    found = layers_of(model)
    around = {id(layer.cell): layer for layer in found.values() if isinstance(layer, keras.layers.RNN)}
    places = {}
    for path, layer in found.items():
        for label, _ in own_variables(layer):
            places[f"{path}/{label}" if path else label] = around.get(id(layer), layer)
    return places


def _reader(group: NeuronGroup, places: Mapping[str, Any]) -> ParamView | None:
    """Return the first outgoing view that another layer holds."""
    own = places[group.incoming[0].param]
    return next((view for view in group.outgoing if places[view.param] is not own), None)


def _listen(stack: ExitStack, places: Mapping[str, Any], group: NeuronGroup, seen: list[Any]) -> None:
    """Listen at the layer where a group is read."""
    reader = _reader(group, places)
    if reader is not None:
        stack.enter_context(_called(places[reader.param], lambda given, output: seen.append(given)))
        return
    layer = places[group.incoming[0].param]
    held = {view.param for view in group.incoming + group.unscored if view.index is None}
    alone = all(param in held for param, place in places.items() if place is layer)
    if alone:
        stack.enter_context(_called(layer, lambda given, output: seen.append(keras.tree.flatten(output)[0])))


@contextmanager
def _called(layer: Any, listener: Callable[[Any, Any], None]) -> Iterator[None]:
    """Tell a listener the first argument and the output of each call of a layer."""
    own, function = "call" in vars(layer), layer.call

    def listening(*args: Any, **options: Any) -> Any:
        output = function(*args, **options)
        listener(args[0] if args else next(iter(options.values())), output)
        return output

    object.__setattr__(layer, "call", listening)
    try:
        yield
    finally:
        if own:
            object.__setattr__(layer, "call", function)
        else:
            object.__delattr__(layer, "call")


def _outputs(
    group: NeuronGroup, seen: list[Any], shapes: Mapping[str, tuple[int, ...]], places: Mapping[str, Any]
) -> Any:
    """Bring what was seen into the form that the group's activation pattern names."""
    if not seen:
        return None
    reader, neurons = _reader(group, places), group.count(shapes)
    try:
        values = tf.convert_to_tensor(seen[0]) if len(seen) == 1 else tf.concat(seen, axis=0)
        if reader is not None:
            axes, pattern = _axes(places[reader.param], reader, len(values.shape)), parse(group.activation)
            values = _along_neurons(_joined(values, axes), reader, neurons, min(axes))
            values = _divided(values, group, shapes) if pattern.neurons > 1 else _arrange(values, pattern)
        bind(parse(group.activation), tuple(values.shape), {NEURON: neurons})
    except (na.LayoutError, ValueError, tf.errors.InvalidArgumentError) as error:
        place = f", read at the input of {reader.param!r}" if reader is not None else ""
        raise na.LayoutError(f"group {group.name!r}, activation {group.activation!r}{place}: {error}") from None
    return values


def _axes(layer: Any, reader: ParamView, rank: int) -> list[int]:
    """Return the axes of a layer's inputs that those axes of its parameter multiply which count neurons."""
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel, _ = einsum_letters(layer)
        own = [letter for letter, names in zip(kernel, reader.parsed.axes, strict=True) if NEURON in names]
        places = [inputs.index(letter) for letter in own]
        return [place if "..." not in inputs[:place] else rank - len(inputs) + place for place in places]
    return [1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1]


def _joined(values: Any, axes: list[int]) -> Any:
    """Make one axis of several, in the place of the first of them."""
    if len(axes) == 1:
        return values
    first = min(axes)
    others = [axis for axis in range(len(values.shape)) if axis not in axes]
    order = [*others[:first], *axes, *others[first:]]
    shape = tuple(values.shape)
    sizes = [*[shape[axis] for axis in others[:first]], -1, *[shape[axis] for axis in others[first:]]]
    return tf.reshape(tf.transpose(values, order), sizes)


def _divided(values: Any, group: NeuronGroup, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Divide the last axis into those that count neurons in the group's first parameter."""
    first = group.incoming[0]
    sizes = [n for n, names in zip(shapes[first.param], first.parsed.axes, strict=True) if names == (NEURON,)]
    return tf.reshape(values, (*values.shape[:-1], *sizes))


def _along_neurons(values: Any, reader: ParamView, neurons: int, axis: int) -> Any:
    """Take a group's neurons out of the axis that its reader reads, and make them the last axis."""
    names = next(names for names in reader.parsed.axes if NEURON in names)
    sizes = [neurons if name == NEURON else reader.sizes.get(name, -1) for name in names]
    place = names.index(NEURON)
    if reader.owners is not None:
        positions = [position for owned in reader.owners.positions for position in owned]
        values = tf.gather(values, positions, axis=axis)
        sizes, place = [neurons] if len(positions) == neurons else [neurons, -1], 0
    shape = tuple(values.shape)
    values = tf.reshape(values, (*shape[:axis], *sizes, *shape[axis + 1 :]))
    order = [i for i in range(len(values.shape)) if i != axis + place]
    return tf.transpose(values, [*order, axis + place])


def _arrange(values: Any, pattern: Pattern) -> Any:
    """Move the neurons from the last axis to where the pattern of the group's outputs has them."""
    rank = len(values.shape)
    place = next(i for i, names in enumerate(pattern.axes) if NEURON in names)
    to = place if ("...",) not in pattern.axes[:place] else rank - len(pattern.axes) + place
    order = list(range(rank - 1))
    return tf.transpose(values, [*order[:to], rank - 1, *order[to:]])
