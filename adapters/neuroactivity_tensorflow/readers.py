"""What a layer reads and returns: which of its inputs one of its parameters multiplies, and where its neurons lie."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import tensorflow as tf

import neuroactivity as na
from neuroactivity import NeuronGroup
from neuroactivity.layout import ParamView
from neuroactivity.layout.patterns import NEURON, STACK
from neuroactivity.wrapping import take_neurons
from neuroactivity_tensorflow.layers import channels_first, einsum_letters
from neuroactivity_tensorflow.parameters import layers_of, own_variables


class Spot(NamedTuple):
    """Where neurons may be read.

    Attributes:
        layer: The layer.
        view: The group's view of a parameter of it, which is read at the layer's input; ``None`` for its output.
        certain: Whether its parameters multiply the input as it comes.
    """

    layer: Any
    view: ParamView | None
    certain: bool


def plan(model: Any, layout: na.Layout) -> dict[str, list[Spot]]:
    """Say where each group may be read: at the input of a layer behind it, else from the output of its own."""
    holders, makers = _holders(model), makers_of(model, layout)
    plans = {}
    for name, group in layout.items():
        own, spots = holders[group.incoming[0].param], []
        view = next((view for view in group.outgoing if holders[view.param] is not own), None)
        if view is not None:
            reader = holders[view.param]
            spots.append(Spot(reader, view, type(reader).__module__.startswith("keras.")))
        if name in makers:
            spots.append(Spot(own, None, False))
        plans[name] = spots
    return plans


def makers_of(model: Any, layout: na.Layout) -> dict[str, Any]:
    """Return the layers of the groups whose neurons are all that their layer returns."""
    holders = _holders(model)
    return {name: holders[group.incoming[0].param] for name, group in layout.items() if _is_all(group, holders)}


def _is_all(group: NeuronGroup, holders: Mapping[str, Any]) -> bool:
    own, held = holders[group.incoming[0].param], {v.param for v in group.incoming + group.unscored if v.index is None}
    return held.issuperset([p for p, holder in holders.items() if holder is own and p.rpartition("/")[2] != "bias"])


def _holders(model: Any) -> dict[str, Any]:
    """Return the layer whose inputs a parameter multiplies, by the parameter: of a recurrent cell the layer."""
    layers, holders = layers_of(model), {}
    around = {id(layer.cell): layer for layer in layers.values() if isinstance(layer, keras.layers.RNN)}
    for path, layer in layers.items():
        for label, _ in own_variables(layer):
            holders[f"{path}/{label}" if path else label] = around.get(id(layer), layer)
    return holders


def reads_part(spot: Spot, neurons: int) -> bool:
    """Whether a layer reads some of a group's neurons only."""
    owners = None if spot.view is None else spot.view.owners
    return owners is not None and sum(map(bool, owners.positions)) < neurons


def axis_of(layer: Any, output: Any) -> int:
    """Return the axis of a layer's output that counts neurons."""
    return 1 if channels_first(layer) else len(output.shape) - 1


def input_of(param: str, given: Sequence[tuple[str, Any]]) -> Any:
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
def replaced_call(layer: Any, wrap: Any) -> Iterator[None]:
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


def read(values: Any, layer: Any, reader: ParamView, neurons: int) -> Any:
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
