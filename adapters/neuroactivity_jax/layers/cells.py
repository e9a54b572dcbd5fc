"""The recurrent cells of Flax, Haiku and Equinox; a neuron is a hidden unit with all its gates."""

from collections.abc import Mapping, Sequence

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from neuroactivity_jax.layers.layer_arrays import LayerArrays, Listed

_SEPARATE = (
    {"hf", "hg", "hi", "ho", "if", "ig", "ii", "io"},  # Flax LSTMCell and OptimizedLSTMCell
    {"hn", "hr", "hz", "in", "ir", "iz"},  # Flax GRUCell
    {"hf", "hn", "if", "in"},  # Flax MGUCell
    {"h", "i"},  # Flax SimpleCell
)
_JOINT = {"dense_h", "dense_i"}  # Flax NNX: GRUCell, OptimizedLSTMCell, SimpleCell


def list_cells(layers: Sequence[LayerArrays]) -> list[Listed]:
    """List the groups of the recurrent cells among layers; the gates of a cell may be layers themselves."""
    cells: dict[str, dict[str, LayerArrays]] = {}
    for layer in layers:
        cells.setdefault(layer.parent, {})[layer.last.rstrip("_")] = layer
    groups = [_of_gates(parent, gates) for parent, gates in cells.items()] + [_of_arrays(layer) for layer in layers]
    return [Listed(group) for group in groups if group is not None]


def _of_gates(name: str, gates: Mapping[str, LayerArrays]) -> NeuronGroup | None:
    """Describe a cell whose gates are layers, or that has one layer for inputs and one for hidden units."""
    names = set(gates)
    if name.rpartition("/")[2].startswith("vanilla_rnn") and names == {"linear", "linear_1"}:  # Haiku
        return _gate_by_gate(name, [gates["linear"]], [gates["linear_1"]], leaves=("w", "b"))
    if any("kernel" not in layer.shapes for layer in gates.values()):
        return None
    if names in _SEPARATE:
        from_input = [layer for gate, layer in gates.items() if gate.startswith("i")]
        from_hidden = [layer for gate, layer in gates.items() if gate.startswith("h")]
        if all(len(set(layer.shapes["kernel"][-2:])) == 1 for layer in from_hidden):
            return _gate_by_gate(name, from_input, from_hidden, leaves=("kernel", "bias"))
    if names == _JOINT:
        inputs, hidden = gates["dense_i"], gates["dense_h"]
        biases = inputs.params("bias") + hidden.params("bias")
        return _all_gates(name, (inputs, "kernel"), (hidden, "kernel"), biases, neuron_last=True)
    return None


def _of_arrays(layer: LayerArrays) -> NeuronGroup | None:
    """Describe a cell that holds its arrays itself."""
    name, names = layer.name, set(layer.shapes)
    if {"w_i", "w_h"} <= names:  # Haiku GRU
        return _all_gates(name, (layer, "w_i"), (layer, "w_h"), layer.params("b"), neuron_last=True)
    if {"weight_ih", "weight_hh"} <= names:  # Equinox
        biases, extra = layer.params("bias"), layer.params("bias_n")
        return _all_gates(name, (layer, "weight_ih"), (layer, "weight_hh"), biases, extra, neuron_last=False)
    if layer.last == "linear" and layer.parent.rpartition("/")[2].startswith("lstm") and "w" in names:
        return _haiku_lstm(layer)
    return None


def _gate_by_gate(
    name: str, from_input: Sequence[LayerArrays], from_hidden: Sequence[LayerArrays], *, leaves: tuple[str, str]
) -> NeuronGroup:
    """Describe a cell with a layer for each gate."""
    weight, bias = leaves
    stack = "stack " * (len(from_hidden[0].shapes[weight]) - 2)
    incoming = [(layer.param(weight), f"{stack}in neuron") for layer in from_input]
    incoming += [(layer.param(weight), f"{stack}other neuron") for layer in from_hidden]
    unscored = [(shift, f"{stack}neuron") for layer in (*from_input, *from_hidden) for shift in layer.params(bias)]
    outgoing = [(layer.param(weight), f"{stack}neuron other") for layer in from_hidden]
    return NeuronGroup(name, incoming, unscored, outgoing, activation=f"{stack}... neuron")


def _all_gates(
    name: str,
    from_input: tuple[LayerArrays, str],
    from_hidden: tuple[LayerArrays, str],
    biases: Sequence[str],
    hidden_biases: Sequence[str] = (),
    *,
    neuron_last: bool,
) -> NeuronGroup:
    """Describe a cell whose gates share arrays: one weight for inputs, one for hidden units."""
    (first, weight), (second, recurrent) = from_input, from_hidden
    *copies, rows, columns = second.shapes[recurrent]
    units, gated = (rows, columns) if neuron_last else (columns, rows)
    stack, gates = "stack " * len(copies), {"gate": gated // units}
    order = ("{} (gate neuron)" if neuron_last else "(gate neuron) {}").format
    return na.recurrent(
        name,
        input=(first.param(weight), stack + order("in"), gates),
        recurrent=(second.param(recurrent), stack + order("other"), gates),
        biases=[(bias, f"{stack}(gate neuron)", gates) for bias in biases],
        gates=gates["gate"],
        unscored=[(bias, f"{stack}neuron") for bias in hidden_biases],
    )


def _haiku_lstm(layer: LayerArrays) -> NeuronGroup | None:
    """Describe a cell with one array for inputs and hidden units, in this order."""
    *copies, rows, columns = layer.shapes["w"]
    units, gates, stack = columns // 4, {"gate": 4}, "stack " * len(copies)
    if columns % 4 or rows <= units:
        return None
    hidden = (-1,) * (rows - units) + tuple(range(units))
    return NeuronGroup(
        layer.parent,
        [ParamView(layer.param("w"), f"{stack}in (gate neuron)", gates)],
        [ParamView(bias, f"{stack}(gate neuron)", gates) for bias in layer.params("b")],
        [ParamView(layer.param("w"), f"{stack}neuron (gate other)", gates, hidden)],
        activation=f"{stack}... neuron",
    )
