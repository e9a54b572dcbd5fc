"""Neuron outputs, read where their consumers read them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

import neuroactivity as na
from neuroactivity.layout import NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON, STACK, bind, parse
from neuroactivity.wrapping import arrange_outputs, take_neurons
from neuroactivity_tensorflow.layers import channels_first, einsum_letters
from neuroactivity_tensorflow.layouts import layout_of
from neuroactivity_tensorflow.parameters import layers_of, own_variables, variables_of
from neuroactivity_tensorflow.probing import call


def activations(model: Any, *inputs: Any, layout: na.Layout | None = None) -> dict[str, Any]:
    """Run a model and return its neurons' outputs as the next layers read them, after the activation function.

    The model runs in inference mode. Its variables and seed generators are left as they were.

    Args:
        model: A Keras layer or model.
        inputs: Inputs of the model.
        layout: The neuron groups, by default those that ``layout_of`` finds. A group is read at the input of the layer
            that holds its first outgoing parameter, or, without one, at the output of a layer that holds no other
            group.

    Returns:
        Outputs by group name, for :func:`neuroactivity.tau_dormant`; ``None`` for a group that cannot be read at any
        layer: queries and keys, the inside of a separable convolution.

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
    holders = _holders(model)
    readers = {name: _reader(group, holders) for name, group in layout.items()}
    seen: dict[str, list[Any]] = {name: [] for name in layout}
    with ExitStack() as stack:
        for name, (layer, view) in readers.items():
            if layer is not None:
                stack.enter_context(_listening(layer, seen[name], output=view is None))
        with keras.StatelessScope():
            call(model, inputs)
    shapes = {name: tuple(variable.shape) for name, variable in variables_of(model).items()}
    return {name: _outputs(group, seen[name], shapes, *readers[name]) for name, group in layout.items()}


def _holders(model: Any) -> dict[str, Any]:
    """Return the layer whose inputs each parameter multiplies: for a recurrent cell, the layer around it."""
    layers = layers_of(model)
    around = {id(layer.cell): layer for layer in layers.values() if isinstance(layer, keras.layers.RNN)}
    holders = {}
    for path, layer in layers.items():
        for label, _ in own_variables(layer):
            holders[f"{path}/{label}" if path else label] = around.get(id(layer), layer)
    return holders


def _reader(group: NeuronGroup, holders: Mapping[str, Any]) -> tuple[Any, ParamView | None]:
    """Return where a group is read: another layer and its view of the neurons, or its own layer, or ``None``."""
    layer = holders[group.incoming[0].param]
    view = next((view for view in group.outgoing if holders[view.param] is not layer), None)
    if view is not None:
        return holders[view.param], view
    held = {view.param for view in group.incoming + group.unscored if view.index is None}
    alone = all(param in held for param, holder in holders.items() if holder is layer)
    return layer if alone else None, None


@contextmanager
def _listening(layer: Any, seen: list[Any], *, output: bool) -> Iterator[None]:
    """Add the first argument of each call of a layer to what was seen, or its output."""
    replaced, function = "call" in vars(layer), layer.call

    def listening(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        inputs = args[0] if args else next(iter(options.values()))
        seen.append(keras.tree.flatten(result)[0] if output else inputs)
        return result

    object.__setattr__(layer, "call", listening)
    try:
        yield
    finally:
        if replaced:
            object.__setattr__(layer, "call", function)
        else:
            object.__delattr__(layer, "call")


def _outputs(
    group: NeuronGroup, seen: list[Any], shapes: Mapping[str, tuple[int, ...]], layer: Any, view: ParamView | None
) -> Any:
    """Bring what was seen into the form that the group's activation pattern names."""
    if not seen:
        return None
    neurons, pattern, first = group.count(shapes), parse(group.activation), group.incoming[0]
    try:
        values = tf.convert_to_tensor(seen[0]) if len(seen) == 1 else tf.concat(seen, axis=0)
        if view is not None:
            values = _read(values, layer, view, neurons)
            sizes = [n for n, names in zip(shapes[first.param], first.parsed.axes, strict=True) if names == (NEURON,)]
            values = arrange_outputs(values, pattern, neurons=sizes if pattern.neurons > 1 else ())
        elif not isinstance(layer, keras.layers.EinsumDense):
            axis = 1 if channels_first(layer) else len(values.shape) - 1
            values = arrange_outputs(take_neurons(values, ParamView(first.param, NEURON), neurons, axis), pattern)
        bind(pattern, tuple(values.shape), {NEURON: neurons})
    except (na.LayoutError, ValueError, tf.errors.InvalidArgumentError) as error:
        where = f", read at the input of {view.param!r}" if view is not None else ""
        raise na.LayoutError(f"group {group.name!r}, activation {group.activation!r}{where}: {error}") from None
    return values


def _read(values: Any, layer: Any, reader: ParamView, neurons: int) -> Any:
    """Take a group's neurons out of a layer's inputs: independent copies first, the neurons last."""
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
