"""What a module reads and returns: which of its inputs one of its parameters multiplies, and where its neurons lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from neuroactivity import NeuronGroup
from neuroactivity.errors import LayoutError
from neuroactivity.layout.patterns import ANY, NEURON, STACK, bind, parse
from neuroactivity_torch.layers import feature_axis
from neuroactivity_torch.operations import tensors_in

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
"""Layers that read what they return themselves, which is behind their activation functions."""

_PROJECTIONS = {"q_proj_weight": 0, "k_proj_weight": 1, "v_proj_weight": 2}


def layer_of(model: nn.Module, param: str) -> nn.Module:
    """Return the module that holds a parameter, or whose weight is computed from it."""
    path = param.partition("parametrizations.")[0].removesuffix(".")
    return model.get_submodule(path if "parametrizations." in param else param.rpartition(".")[0])


def is_known(module: nn.Module) -> bool:
    """Whether a module is a layer of PyTorch's, and runs as PyTorch wrote it."""
    runs_as_written = type(module).forward.__module__.startswith("torch.nn.") and "forward" not in vars(module)
    return runs_as_written and (isinstance(module, nn.MultiheadAttention) or feature_axis(module, 4) is not None)


def makes_alone(model: nn.Module, group: NeuronGroup) -> bool:
    """Whether a group's neurons are all that its module returns."""
    maker = layer_of(model, group.incoming[0].param)
    if is_known(maker) and isinstance(maker, nn.RNNBase):
        return maker.num_layers == 1 and not maker.bidirectional and not maker.proj_size
    if is_known(maker) and not isinstance(maker, nn.MultiheadAttention):
        return True
    held = {view.param for view in group.incoming + group.unscored if view.index is None}
    trained = dict(model.named_parameters())
    own = {id(trained[name]) for name in held if name in trained}
    return all(id(parameter) in own for parameter in maker.parameters())


def input_of(module: nn.Module, param: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the input of a module that one of its parameters multiplies, as far as its kind or its call tell."""
    leaf = param.rpartition(".")[2]
    if not is_known(module):
        inputs = [tensor for tensor in tensors_in((list(args), dict(kwargs))) if tensor.is_floating_point()]
        return inputs[0] if len(inputs) == 1 else None
    if isinstance(module, nn.MultiheadAttention):
        inputs = [_argument(args, kwargs, place, name) for place, name in enumerate(("query", "key", "value"))]
        same = all(value is inputs[0] for value in inputs)
        return inputs[_PROJECTIONS[leaf]] if leaf in _PROJECTIONS else inputs[0] if same else None
    if isinstance(module, nn.RNNCellBase) and leaf.startswith("weight_hh"):
        state = _argument(args, kwargs, 1, "hx")
        return plain(state)
    if isinstance(module, nn.RNNBase) and not leaf.startswith("weight_ih_l0"):
        return None
    return plain(_argument(args, kwargs, 0, "input"))


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    """Return an argument, given by its place or its name."""
    return args[place] if len(args) > place else kwargs.get(name)


def plain(value: Any) -> Tensor | None:
    """Return what a module returned or is given as one tensor."""
    if isinstance(value, PackedSequence):
        return value.data
    if isinstance(value, tuple | list) and value:
        return plain(value[0])
    return value if isinstance(value, Tensor) else None


def axis_of(module: nn.Module, ndim: int) -> int | None:
    """Return the axis of a layer's inputs and outputs that counts features, also of those without a batch axis."""
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        places = next((int(digit) for digit in type(module).__name__ if digit.isdigit()), ndim - 2)
        return ndim - 1 - places
    return feature_axis(module, ndim)


def owners_of(module: nn.Module, group: NeuronGroup, output: Tensor, neurons: int) -> Tensor | None:
    """Say whose each entry of a layer's output is, copies counted apart; None if the layer does not return neurons."""
    axis, pattern = axis_of(module, output.ndim), parse(group.activation)
    names: list[str] = [ANY] * output.ndim
    if axis is not None and not pattern.stacks:
        names[axis] = NEURON
    else:
        try:
            names = list(bind(pattern, tuple(output.shape), {NEURON: neurons}).names)
        except LayoutError:
            return None
    sizes = {name: output.shape[place] for place, name in enumerate(names) if len(names) == output.ndim}
    if sizes.get(NEURON) != neurons or names.count(STACK) != pattern.stacks or pattern.stacks > 1:
        return None
    shape = [size if name == NEURON else 1 for name, size in zip(names, output.shape, strict=True)]
    owners = torch.arange(1, neurons + 1, device=output.device, dtype=torch.float32).reshape(shape)
    if pattern.stacks:
        shape = [size if name == STACK else 1 for name, size in zip(names, output.shape, strict=True)]
        copies = torch.arange(sizes[STACK], device=output.device, dtype=torch.float32).reshape(shape)
        owners = owners + neurons * copies
    return owners.expand(output.shape).contiguous()
