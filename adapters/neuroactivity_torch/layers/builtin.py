"""PyTorch's own layers, known by their types."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from torch import nn
from torch.nn.utils import parametrize

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView

AttentionNeurons: TypeAlias = Literal["channels", "heads"]
"""What a neuron of ``MultiheadAttention`` is."""

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
"""Normalisations with statistics of the batch in training mode."""

_CHANNEL_NORMS = (*BATCH_NORMS, nn.GroupNorm)
_CONVOLUTIONS = nn.modules.conv._ConvNd
_KERNELS = {1: "k", 2: "h w", 3: "d h w"}
_GATES = {nn.RNN: 1, nn.RNNCell: 1, nn.GRU: 3, nn.GRUCell: 3, nn.LSTM: 4, nn.LSTMCell: 4}
_NORMS = (*_CHANNEL_NORMS, nn.LayerNorm, nn.RMSNorm)
_BUILTIN = (nn.Linear, _CONVOLUTIONS, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention, *_NORMS, *_GATES)


def builtin_axis(module: nn.Module, ndim: int) -> int | None:
    """Return the axis of a layer's inputs and outputs that counts features; ``None`` if the layer is not known."""
    if isinstance(module, _CONVOLUTIONS):
        return ndim - 1 - len(module.kernel_size)
    if isinstance(module, _CHANNEL_NORMS):
        return 1
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return ndim - len(module.normalized_shape)
    return ndim - 1 if isinstance(module, (nn.Linear, nn.Embedding, nn.EmbeddingBag, *_GATES)) else None


def is_builtin(module: nn.Module) -> bool:
    """Whether a module is one of PyTorch's layers, or of a class made from one."""
    return isinstance(module, _BUILTIN)


def builtin_groups(prefix: str, name: str, module: nn.Module, attention: AttentionNeurons) -> Iterator[NeuronGroup]:
    """List the groups of one such layer, without its children's."""
    weight = f"{prefix}weight"
    bias = f"{prefix}bias" if _has(module, "bias") else None
    if isinstance(module, nn.Linear):
        yield na.dense(name, weight=(weight, "neuron in"), bias=bias)
    elif isinstance(module, _CONVOLUTIONS):
        yield from _convolution(name, module, weight, bias)
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        yield na.dense(name, weight=(weight, "vocabulary neuron"))
    elif isinstance(module, _NORMS) and not _has(module, "weight"):
        return
    elif isinstance(module, _CHANNEL_NORMS):
        yield na.norm(name, scale=weight, shift=bias, activation="batch neuron ...")
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        pattern = " ".join(["neuron", *[f"axis{i}" for i in range(1, len(module.normalized_shape))]])
        yield na.norm(name, scale=(weight, pattern), shift=(bias, pattern) if bias else None)
    elif isinstance(module, nn.MultiheadAttention):
        yield from _attention(prefix, name, module, attention)
    elif isinstance(module, tuple(_GATES)):
        yield from _recurrent(prefix, name, module)


def _has(module: nn.Module, leaf: str) -> bool:
    """Whether a layer has a parameter or what is computed in its place; nothing is computed to find out."""
    if leaf in module._parameters:
        return module._parameters[leaf] is not None
    return parametrize.is_parametrized(module, leaf) or getattr(module, leaf, None) is not None


def _convolution(name: str, module: nn.modules.conv._ConvNd, weight: str, bias: str | None) -> Iterator[NeuronGroup]:
    """Describe a convolution, a depthwise one with the axis ``one``; not a transposed one with groups of channels."""
    kernel = _KERNELS[len(module.kernel_size)]
    if not module.transposed:
        depthwise = module.groups == module.in_channels and module.in_channels != 1
        yield na.conv(name, weight=(weight, f"neuron {'one' if depthwise else 'in'} {kernel}"), bias=bias)
    elif module.groups == 1:
        yield na.conv(name, weight=(weight, f"in neuron {kernel}"), bias=bias)
    elif module.groups == module.out_channels:
        pattern = f"neuron one {kernel}" if module.in_channels == module.groups else f"(neuron in) one {kernel}"
        yield na.conv(name, weight=(weight, pattern), bias=bias)


def _attention(
    prefix: str, name: str, module: nn.MultiheadAttention, attention: AttentionNeurons
) -> Iterator[NeuronGroup]:
    """Describe attention, without its output projection, which is a layer of its own."""
    fused, width, heads = _has(module, "in_proj_weight"), module.embed_dim, {"neuron": module.num_heads}
    parts = {"query": "q_proj_weight", "key": "k_proj_weight", "value": "v_proj_weight"}
    bias = f"{prefix}in_proj_bias" if _has(module, "in_proj_bias") else None
    if attention == "heads":
        qkv = {"qkv": 3, **heads}
        weights = [ParamView(f"{prefix}{weight}", "(neuron dim) in", heads) for weight in parts.values()]
        views = [ParamView(f"{prefix}in_proj_weight", "(qkv neuron dim) in", qkv)] if fused else weights
        unscored = [ParamView(bias, "(qkv neuron dim)", qkv)] if bias else []
        yield NeuronGroup(name, views, unscored, activation="... (neuron dim)", neurons=module.num_heads)
        return
    for position, (part, weight) in enumerate(parts.items()):
        index = (*(-1,) * (position * width), *range(width), *(-1,) * ((2 - position) * width))
        view = ParamView(f"{prefix}in_proj_weight", "neuron in", index=index)
        view = view if fused else ParamView(f"{prefix}{weight}", "neuron in")
        yield NeuronGroup(f"{prefix}{part}", [view], [ParamView(bias, "neuron", index=index)] if bias else [])


def _recurrent(prefix: str, name: str, module: nn.Module) -> Iterator[NeuronGroup]:
    """Describe a recurrent layer: one group for each layer and direction."""
    gates = next(gates for kind, gates in _GATES.items() if isinstance(module, kind))
    if getattr(module, "proj_size", 0):
        return  # the hidden state is a projection of the cell: no neuron owns a row of every weight
    ways = ("", "_reverse") if getattr(module, "bidirectional", False) else ("",)
    ends = (
        [f"_l{layer}{way}" for layer in range(module.num_layers) for way in ways]
        if isinstance(module, nn.RNNBase)
        else [""]
    )
    for end in ends:
        label = f"{name}.{end[1:]}" if len(ends) > 1 else name
        weights = [f"{prefix}weight_{kind}{end}" for kind in ("ih", "hh")]
        biases = [f"{prefix}bias_{kind}{end}" for kind in ("ih", "hh") if module.bias]
        yield na.recurrent(label, input=weights[0], recurrent=weights[1], biases=biases, gates=gates)
