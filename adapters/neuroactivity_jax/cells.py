"""The recurrent cells of Flax, Haiku and Equinox; a neuron is a hidden unit with all its gates."""

from collections.abc import Mapping, Sequence

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from neuroactivity_jax.listing import Listed, Module

__all__ = ["list_cells"]

_SEPARATE = (
    {"hf", "hg", "hi", "ho", "if", "ig", "ii", "io"},  # Flax LSTMCell and OptimizedLSTMCell
    {"hn", "hr", "hz", "in", "ir", "iz"},  # Flax GRUCell
    {"hf", "hn", "if", "in"},  # Flax MGUCell
    {"h", "i"},  # Flax SimpleCell
)
_JOINT = {"dense_h", "dense_i"}  # Flax NNX: GRUCell, OptimizedLSTMCell, SimpleCell


def list_cells(modules: Sequence[Module]) -> dict[str, list[Listed]]:
    """List the recurrent cells among modules, each under the name of the first module that it is made of."""
    children: dict[str, dict[str, Module]] = {}
    for module in modules:
        children.setdefault(module.parent, {})[module.last.rstrip("_")] = module
    made_of = [(list(inside.values()), _of_children(parent, inside)) for parent, inside in children.items()]
    made_of += [([module], _of_arrays(module)) for module in modules]
    found: dict[str, list[Listed]] = {}
    for parts, group in made_of:
        if group is not None:
            found |= {part.name: [] for part in parts} | {parts[0].name: [Listed(group)]}
    return found


def _of_children(parent: str, inside: Mapping[str, Module]) -> NeuronGroup | None:
    """Describe a cell whose gates are layers of their own, or that has one for inputs and one for hidden units."""
    names, last = set(inside), parent.rpartition("/")[2]
    if last.startswith("vanilla_rnn") and names == {"linear", "linear_1"}:  # Haiku
        return _gate_by_gate(parent, [inside["linear"]], [inside["linear_1"]], leaves=("w", "b"))
    if any("kernel" not in module.shapes for module in inside.values()):
        return None
    if names in _SEPARATE:
        from_input = [module for name, module in inside.items() if name.startswith("i")]
        from_hidden = [module for name, module in inside.items() if name.startswith("h")]
        if all(len(set(module.shapes["kernel"][-2:])) == 1 for module in from_hidden):
            return _gate_by_gate(parent, from_input, from_hidden, leaves=("kernel", "bias"))
    if names == _JOINT:
        first, second = inside["dense_i"], inside["dense_h"]
        biases = [module.param("bias") for module in (first, second) if "bias" in module.shapes]
        return _all_gates(parent, first, "kernel", second, "kernel", biases, neuron_last=True)
    return None


def _of_arrays(module: Module) -> NeuronGroup | None:
    """Describe a cell that holds its arrays itself."""
    shapes = module.shapes
    if {"w_i", "w_h"} <= set(shapes):  # Haiku GRU
        biases = [module.param("b")] if "b" in shapes else []
        return _all_gates(module.name, module, "w_i", module, "w_h", biases, neuron_last=True)
    if {"weight_ih", "weight_hh"} <= set(shapes):  # Equinox
        biases = [module.param("bias")] if "bias" in shapes else []
        own = [module.param("bias_n")] if "bias_n" in shapes else []
        return _all_gates(module.name, module, "weight_ih", module, "weight_hh", biases, own, neuron_last=False)
    if module.last == "linear" and module.parent.rpartition("/")[2].startswith("lstm") and "w" in shapes:
        return _haiku_lstm(module)
    return None


def _gate_by_gate(
    name: str, from_input: Sequence[Module], from_hidden: Sequence[Module], *, leaves: tuple[str, str]
) -> NeuronGroup:
    """Describe a cell with a layer for each gate."""
    weight, bias = leaves
    stack = "stack " * (len(from_hidden[0].shapes[weight]) - 2)
    incoming = [(module.param(weight), f"{stack}in neuron") for module in from_input]
    incoming += [(module.param(weight), f"{stack}other neuron") for module in from_hidden]
    unscored = [
        (module.param(bias), f"{stack}neuron") for module in (*from_input, *from_hidden) if bias in module.shapes
    ]
    outgoing = [(module.param(weight), f"{stack}neuron other") for module in from_hidden]
    return NeuronGroup(name, incoming, unscored, outgoing, activation=f"{stack}... neuron")


def _all_gates(
    name: str,
    first: Module,
    weight: str,
    second: Module,
    recurrent: str,
    biases: Sequence[str],
    own: Sequence[str] = (),
    *,
    neuron_last: bool,
) -> NeuronGroup:
    """Describe a cell whose gates share arrays."""
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
        unscored=[(bias, f"{stack}neuron") for bias in own],
    )


def _haiku_lstm(module: Module) -> NeuronGroup | None:
    """Describe a cell with one array for inputs and hidden units, in this order."""
    *copies, rows, columns = module.shapes["w"]
    units, gates, stack = columns // 4, {"gate": 4}, "stack " * len(copies)
    if columns % 4 or rows <= units:
        return None
    hidden = (-1,) * (rows - units) + tuple(range(units))
    return NeuronGroup(
        module.parent,
        [ParamView(module.param("w"), f"{stack}in (gate neuron)", gates)],
        [ParamView(module.param("b"), f"{stack}(gate neuron)", gates)] if "b" in module.shapes else [],
        [ParamView(module.param("w"), f"{stack}neuron (gate other)", gates, hidden)],
        activation=f"{stack}... neuron",
    )
