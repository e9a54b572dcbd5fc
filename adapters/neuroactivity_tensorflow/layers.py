"""The neuron groups of Keras's layers: which parameters, which axis. What they feed is found elsewhere."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from keras import layers

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from neuroactivity_tensorflow.models import Model, layers_of, variables_of

__all__ = ["HEADS", "AttentionNeurons", "Rule", "einsum_letters", "groups_of"]

AttentionNeurons: TypeAlias = Literal["channels", "heads"]
"""What a neuron of ``MultiHeadAttention`` is."""

Rule: TypeAlias = Callable[[str, Any], NeuronGroup | None]
"""From the name and the variable of a parameter that no known layer holds to its group, or ``None``."""

HEADS = "head"
"""The axis of attention's heads, while its channels are looked for."""

_KERNELS = {1: "k", 2: "h w", 3: "d h w"}
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, *_TRANSPOSED, *_DEPTHWISE, *_SEPARABLE)
_NORMS = (layers.BatchNormalization, layers.GroupNormalization, layers.LayerNormalization)
_CELLS = {layers.SimpleRNNCell: 1, layers.GRUCell: 3, layers.LSTMCell: 4}
_LETTER = r"\.\.\.|\w"


def groups_of(model: Model, *, attention: AttentionNeurons = "channels", rule: Rule | None = None) -> list[NeuronGroup]:
    """List the neuron groups of a model by the types of its layers, in the order of its layers.

    Known are ``Dense``, ``EinsumDense`` with one new axis, ``Conv1D`` to ``Conv3D`` and their transposes, depthwise and
    separable convolutions, ``Embedding``, the normalisations, ``MultiHeadAttention``, ``SimpleRNN``, ``GRU``, ``LSTM``
    and their cells. A layer at two places in a model is listed at the first. Layers under ``SpectralNormalization`` are
    left out, since their weights are not what multiplies.

    Args:
        model: A Keras layer or model, or a mapping of names to ``tf.Variable``, of which only the rule knows anything.
        attention: Whether a neuron of ``MultiHeadAttention`` is a channel of a projection or a whole head.
        rule: Says for any other parameter what group it makes.

    Raises:
        LayoutError: If a rule's group contradicts itself.
        ValueError: If ``attention`` is neither of the two.
    """
    if attention not in ("channels", "heads"):
        raise ValueError(f"attention: expected 'channels' or 'heads', got {attention!r}")
    named = variables_of(model)
    groups: list[NeuronGroup] = []
    for path, layer in ({} if isinstance(model, Mapping) else _listed_layers(model)).items():
        groups += [
            group
            for group in _layer_groups(path, layer, attention)
            if all(view.param in named for view in group.incoming + group.unscored)
        ]
    if rule is not None:
        taken = {view.param for group in groups for view in group.incoming + group.unscored}
        for name, variable in named.items():
            group = rule(name, variable) if name not in taken else None
            if group is not None:
                groups.append(group)
                taken |= {view.param for view in group.incoming + group.unscored}
    return groups


def _listed_layers(model: Any) -> dict[str, Any]:
    """Return the layers of a model but for those that another layer describes or whose weights it changes."""
    found = layers_of(model)
    hidden = {id(layer.layer) for layer in found.values() if isinstance(layer, layers.SpectralNormalization)}
    for layer in found.values():
        if isinstance(layer, layers.MultiHeadAttention):
            hidden |= {id(part) for part in _projections(layer).values()}
    return {path: layer for path, layer in found.items() if id(layer) not in hidden}


def _layer_groups(path: str, layer: Any, attention: AttentionNeurons) -> Iterator[NeuronGroup]:
    """List the groups of one layer, without those of the layers below it."""
    prefix = f"{path}/" if path else ""
    name = path or layer.name
    bias = f"{prefix}bias" if getattr(layer, "bias", None) is not None else None
    if isinstance(layer, layers.Dense):
        yield na.dense(name, weight=(f"{prefix}kernel", "in neuron"), bias=bias)
    elif isinstance(layer, layers.EinsumDense):
        yield from _einsum(prefix, name, layer)
    elif isinstance(layer, _CONVOLUTIONS):
        yield from _convolution(prefix, name, layer, bias)
    elif isinstance(layer, layers.Embedding):
        yield na.dense(name, weight=(f"{prefix}embeddings", "vocabulary neuron"))
    elif isinstance(layer, layers.RMSNormalization):
        yield na.norm(name, scale=(f"{prefix}scale", _features(layer.scale)))
    elif isinstance(layer, _NORMS) and layer.gamma is not None:
        pattern = _features(layer.gamma)
        shift = (f"{prefix}beta", pattern) if layer.beta is not None else None
        yield na.norm(name, scale=(f"{prefix}gamma", pattern), shift=shift, activation=_channels(layer))
    elif isinstance(layer, layers.MultiHeadAttention):
        yield from _attention(prefix, name, layer, attention)
    elif isinstance(layer, tuple(_CELLS)):
        yield _recurrent(prefix, name.removesuffix("/cell"), layer)


def _features(scale: Any) -> str:
    """Name the axes of a scale; the last is that of the channels."""
    return " ".join([*(f"axis{i}" for i in range(1, len(scale.shape))), "neuron"])


def _channels(layer: Any) -> str | None:
    """Say where a layer's output has its channels, if not last."""
    first = getattr(layer, "data_format", None) == "channels_first" or getattr(layer, "axis", -1) == 1
    return "batch neuron ..." if first else None


def _convolution(prefix: str, name: str, layer: Any, bias: str | None) -> Iterator[NeuronGroup]:
    """Describe a convolution, a depthwise one with the axis ``one``, or ``copy`` where channels are multiplied."""
    kernel = _KERNELS[layer.rank]
    activation = _channels(layer) or "... neuron"
    if isinstance(layer, _DEPTHWISE + _SEPARABLE):
        copies = layer.depth_multiplier
        pattern = f"{kernel} neuron {'one' if copies == 1 else 'copy'}"
        if isinstance(layer, _DEPTHWISE):
            shifts = [(bias, "neuron") if copies == 1 else (bias, "(neuron copy)", {"copy": copies})] if bias else []
            yield na.conv(name, weight=(f"{prefix}kernel", pattern), unscored=shifts, activation=activation)
            return
        yield na.conv(f"{name}/depthwise", weight=(f"{prefix}depthwise_kernel", pattern), activation=activation)
    weight = f"{prefix}{'pointwise_kernel' if isinstance(layer, _SEPARABLE) else 'kernel'}"
    axes = "neuron in" if isinstance(layer, _TRANSPOSED) else "in neuron"
    yield na.conv(name, weight=(weight, f"{kernel} {axes}"), bias=bias, activation=activation)


def einsum_letters(layer: Any) -> tuple[list[str], list[str], list[str]]:
    """Return the axes of an ``EinsumDense`` layer's inputs, kernel and outputs: letters, and ``...``."""
    inputs, kernel, outputs = re.split(",|->", layer.equation)
    return re.findall(_LETTER, inputs), re.findall(_LETTER, kernel), re.findall(_LETTER, outputs)


def _einsum(prefix: str, name: str, layer: Any, known: Mapping[str, str] | None = None) -> Iterator[NeuronGroup]:
    """Describe an ``EinsumDense`` layer with one axis that only its output has, and at most one that it keeps."""
    inputs, kernel, outputs = einsum_letters(layer)
    new = [letter for letter in kernel if letter in outputs and letter not in inputs]
    kept = [letter for letter in kernel if letter in outputs and letter in inputs]
    if len(new) != 1 or len(kept) > 1 or not {*new, *kept} <= set(layer.bias_axes or kernel):
        return
    names = {letter: f"axis_{letter}" for letter in (*inputs, *outputs)} | dict(known or {})
    names |= {new[0]: "neuron", "...": "..."} | dict.fromkeys(kept, "stack")
    unscored = []
    if layer.bias is not None:
        unscored = [(f"{prefix}bias", " ".join(names[letter] for letter in outputs[-len(layer.bias.shape) :]))]
    weight = (f"{prefix}kernel", " ".join(names[letter] for letter in kernel))
    last = outputs[-1] == new[0] and not kept
    activation = "... neuron" if last else " ".join(names[letter] for letter in outputs)
    yield NeuronGroup(name, [weight], unscored, activation=activation)


def _projections(layer: Any) -> dict[str, Any]:
    """Return the four projections of attention."""
    return {part: getattr(layer, f"_{part}_dense") for part in ("query", "key", "value", "output")}


def _attention(prefix: str, name: str, layer: Any, attention: AttentionNeurons) -> Iterator[NeuronGroup]:
    """Describe attention: its heads or the channels of its projections, and the output projection."""
    projections = _projections(layer)
    output = projections.pop("output")
    if attention == "heads":
        views = [ParamView(f"{prefix}{part}_dense/kernel", "in neuron dim") for part in projections]
        biases = [ParamView(f"{prefix}{part}_dense/bias", "neuron dim") for part in projections]
        yield NeuronGroup(
            name, views, biases if layer.use_bias else [], activation="... neuron dim", neurons=layer.num_heads
        )
    else:
        for part in projections:
            views = [ParamView(f"{prefix}{part}_dense/kernel", f"in {HEADS} neuron")]
            biases = [ParamView(f"{prefix}{part}_dense/bias", f"{HEADS} neuron")]
            yield NeuronGroup(
                f"{prefix}{part}", views, biases if layer.use_bias else [], activation=f"... {HEADS} neuron"
            )
    axes = dict(zip(einsum_letters(output)[0][-2:], (HEADS, "dim"), strict=True))
    yield from _einsum(f"{prefix}output_dense/", f"{prefix}output_dense", output, axes)


def _recurrent(prefix: str, name: str, cell: Any) -> NeuronGroup:
    """Describe a recurrent cell; a neuron is a unit with all its gates."""
    gates = next(gates for kind, gates in _CELLS.items() if isinstance(cell, kind))
    gated = "(gate neuron)" if gates > 1 else "neuron"
    rows = "bias " if len(getattr(cell.bias, "shape", ())) > 1 else ""
    return na.recurrent(
        name,
        input=(f"{prefix}kernel", f"in {gated}"),
        recurrent=(f"{prefix}recurrent_kernel", f"other {gated}"),
        biases=[(f"{prefix}bias", f"{rows}{gated}")] if cell.bias is not None else [],
        gates=gates,
    )
