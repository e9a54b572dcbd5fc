"""Which layer has which neuron groups: the parameters and axes of each layer type, without what the neurons feed."""

import warnings
from collections.abc import Iterator
from typing import Literal, TypeAlias

from torch import nn
from torch.nn.utils import parametrize

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from neuroactivity.discovery import Rule, groups_by_rule

AttentionNeurons: TypeAlias = Literal["channels", "heads"]
"""What a neuron of ``MultiheadAttention`` is."""

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
"""Normalisations with statistics of the batch in training mode."""

_CHANNEL_NORMS = (*BATCH_NORMS, nn.GroupNorm)
_CONVOLUTIONS = nn.modules.conv._ConvNd
_KERNELS = {1: "k", 2: "h w", 3: "d h w"}
_GATES = {nn.RNN: 1, nn.RNNCell: 1, nn.GRU: 3, nn.GRUCell: 3, nn.LSTM: 4, nn.LSTMCell: 4}


def list_groups(
    model: nn.Module, *, attention: AttentionNeurons = "channels", rule: Rule | None = None
) -> list[NeuronGroup]:
    """List the neuron groups of a model by the types of its layers, in the order of its parameters.

    Known are ``Linear``, ``Conv1d`` to ``Conv3d`` and their transposes, ``Embedding``, the normalisations,
    ``MultiheadAttention``, ``RNN``, ``GRU``, ``LSTM`` and their cells. A parameter that two modules share belongs to
    the first.

    Args:
        model: The model.
        attention: Whether a neuron of ``MultiheadAttention`` is a channel of a projection or a whole head.
        rule: Asked first for every parameter: from its name and value to its group, or None to leave it to what is
            known here.

    Raises:
        LayoutError: If a rule's group contradicts itself.
    """
    named = dict(model.named_parameters())
    groups = groups_by_rule(rule, named)
    taken = {param for group in groups for param in _params(group)}
    reparametrised: list[str] = []
    for path, module in model.named_modules():
        listed = list(_module_groups(path, module, attention))
        free = [group for group in listed if taken.isdisjoint(_params(group))]
        groups += [group for group in free if all(view.param in named for view in group.incoming)]
        if listed and (parametrize.is_parametrized(module) or hasattr(module, "weight_g")):
            reparametrised.append(path)
    if reparametrised:
        warnings.warn(
            f"the weights of {', '.join(reparametrised)} are computed from other parameters (weight_norm, "
            "spectral_norm, ...), which are in no neuron group unless a rule lists them; what feeds these layers is "
            "not found",
            na.ActivityWarning,
            stacklevel=3,
        )
    order = {name: position for position, name in enumerate(named)}
    return sorted(groups, key=lambda group: order.get(group.incoming[0].param, len(order)))


def _params(group: NeuronGroup) -> list[str]:
    """Name the parameters that belong to a group's neurons."""
    return [view.param for view in group.incoming + group.unscored]


def feature_axis(module: nn.Module, ndim: int) -> int | None:
    """Return the axis of a layer's inputs and outputs that counts features; ``None`` if the layer is not known."""
    if isinstance(module, _CONVOLUTIONS):
        return ndim - 1 - len(module.kernel_size)
    if isinstance(module, _CHANNEL_NORMS):
        return 1
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return ndim - len(module.normalized_shape)
    return ndim - 1 if isinstance(module, (nn.Linear, nn.Embedding, nn.EmbeddingBag, *_GATES)) else None


def _module_groups(path: str, module: nn.Module, attention: AttentionNeurons) -> Iterator[NeuronGroup]:
    """List the groups of one module, without its children's."""
    prefix = f"{path}." if path else ""
    weight = f"{prefix}weight"
    bias = f"{prefix}bias" if getattr(module, "bias", None) is not None else None
    name = path or type(module).__name__.lower()
    if isinstance(module, nn.Linear):
        yield na.dense(name, weight=(weight, "neuron in"), bias=bias)
    elif isinstance(module, _CONVOLUTIONS):
        yield from _convolution(name, module, weight, bias)
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        yield na.dense(name, weight=(weight, "vocabulary neuron"))
    elif isinstance(module, _CHANNEL_NORMS):
        yield na.norm(name, scale=weight, shift=bias, activation="batch neuron ...")
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        pattern = " ".join(["neuron", *[f"axis{i}" for i in range(1, len(module.normalized_shape))]])
        yield na.norm(name, scale=(weight, pattern), shift=(bias, pattern) if bias else None)
    elif isinstance(module, nn.MultiheadAttention):
        yield from _attention(prefix, name, module, attention)
    elif isinstance(module, tuple(_GATES)):
        yield from _recurrent(prefix, name, module)


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
    fused, width, heads = module.in_proj_weight is not None, module.embed_dim, {"neuron": module.num_heads}
    parts = {"query": "q_proj_weight", "key": "k_proj_weight", "value": "v_proj_weight"}
    bias = f"{prefix}in_proj_bias" if module.in_proj_bias is not None else None
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
    ends = sorted({key.partition("_")[2][2:] for key, _ in module.named_parameters(recurse=False)})  # "_l0", "_l1", ...
    for end in ends:
        label = f"{name}.{end[1:]}" if len(ends) > 1 else name
        weights = [f"{prefix}weight_{kind}{end}" for kind in ("ih", "hh")]
        biases = [f"{prefix}bias_{kind}{end}" for kind in ("ih", "hh") if module.bias]
        yield na.recurrent(label, input=weights[0], recurrent=weights[1], biases=biases, gates=gates)
