"""The neuron groups of Keras's layers: which parameters, which axis. What they feed is found elsewhere."""

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from keras import layers

import neuroactivity as na
from neuroactivity import NeuronGroup
from neuroactivity.discovery import MergedAxes, Rule, groups_by_rule
from neuroactivity.discovery.names import (
    SCALES,
    SHIFTS,
    check_not_empty,
    is_norm,
    looks_like_a_layer,
    noisy_parts,
    say_computed,
    say_unlisted,
)
from neuroactivity.errors import check_choice
from neuroactivity_tensorflow.parameters import Model, layers_of, own_variables, variables_of

AttentionNeurons: TypeAlias = Literal["channels", "heads"]
"""What a neuron of ``MultiHeadAttention`` is."""

Listed: TypeAlias = tuple[NeuronGroup, Mapping[str, MergedAxes]]
"""A group as discovery is to see it, and the parameters that discovery sees in another shape."""

_KERNELS = {1: "k", 2: "h w", 3: "d h w"}
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, *_TRANSPOSED, *_DEPTHWISE, *_SEPARABLE)
_NORMS = (layers.BatchNormalization, layers.GroupNormalization, layers.LayerNormalization)
_CELLS = {layers.SimpleRNNCell: 1, layers.GRUCell: 3, layers.LSTMCell: 4}
_PARTS = ("query", "key", "value")
_LETTER = r"\.\.\.|\w"


def list_groups(model: Model, *, attention: AttentionNeurons = "channels", rule: Rule | None = None) -> list[Listed]:
    """List the neuron groups of a model: those of the user's rule, then those of its layers by type, in their order.

    Known are ``Dense``, ``EinsumDense`` with one new axis, ``Conv1D`` to ``Conv3D`` and their transposes, depthwise and
    separable convolutions, ``Embedding``, the normalisations, ``MultiHeadAttention``, ``SimpleRNN``, ``GRU``, ``LSTM``
    and their cells; by names and shapes the normalisations of other libraries, and dense layers with learned noise. A
    layer that a model uses twice is listed once. Layers under ``SpectralNormalization`` are left out, since their
    weights are not what multiplies; a warning names them, and layers with trained weights that are in no group.

    Args:
        model: A Keras layer or model, or a mapping of names to ``tf.Variable``, of which only the rule knows anything.
        attention: Whether a neuron of ``MultiHeadAttention`` is a channel of a projection or a whole head.
        rule: Asked first for every parameter.

    Raises:
        LayoutError: If a rule's group contradicts itself, or a group has no neurons.
        ValueError: If ``attention`` is neither of the two.
    """
    check_choice("attention", attention, ("channels", "heads"))
    named = variables_of(model)
    listed: list[Listed] = [(group, {}) for group in groups_by_rule(rule, named)]
    taken = {view.param for group, _ in listed for view in group.incoming + group.unscored}
    for path, layer in ({} if isinstance(model, Mapping) else _listed_layers(model)).items():
        merged = _merged_heads(f"{path}/" if path else "", layer) if attention == "channels" else {}
        kept = {param: axes for param, axes in merged.items() if param not in taken}
        for group in _layer_groups(path, layer, attention):
            if {view.param for view in group.incoming + group.unscored} <= named.keys() - taken:
                listed.append((group, kept))
    check_not_empty([group for group, _ in listed], {name: tuple(value.shape) for name, value in named.items()})
    if listed and not isinstance(model, Mapping):
        _warn_of_unlisted(model, {view.param for group, _ in listed for view in group.incoming + group.unscored})
    order = {name: position for position, name in enumerate(named)}
    return sorted(listed, key=lambda entry: order.get(entry[0].incoming[0].param, len(order)))


def _normalised(by_path: Mapping[str, Any]) -> set[int]:
    """Return the layers whose weights a layer around them changes."""
    return {id(layer.layer) for layer in by_path.values() if isinstance(layer, layers.SpectralNormalization)}


def _listed_layers(model: Any) -> dict[str, Any]:
    """Return the layers of a model without those that a layer around them describes, or whose weights it changes."""
    by_path = layers_of(model)
    hidden = _normalised(by_path)
    for layer in by_path.values():
        if isinstance(layer, layers.MultiHeadAttention):
            hidden |= {id(getattr(layer, f"_{part}_dense", None)) for part in (*_PARTS, "output")}
    return {path: layer for path, layer in by_path.items() if layer.built and id(layer) not in hidden}


def _layer_groups(path: str, layer: Any, attention: AttentionNeurons) -> Iterator[NeuronGroup]:
    """List the groups of one layer, without those of its sublayers."""
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
        activation = "batch neuron ..." if channels_first(layer) else None
        yield na.norm(name, scale=(f"{prefix}gamma", pattern), shift=shift, activation=activation)
    elif isinstance(layer, layers.MultiHeadAttention):
        yield from _attention(prefix, name, layer, attention)
    elif isinstance(layer, tuple(_CELLS)):
        yield _recurrent(prefix, name.removesuffix("/cell"), layer)
    else:
        yield from _alike(prefix, name, layer)


def _alike(prefix: str, name: str, layer: Any) -> Iterator[NeuronGroup]:
    """Describe a layer of any library by the names and shapes of its variables: learned noise, or a normalisation."""
    own = {label: tuple(variable.shape) for label, variable in own_variables(layer)}
    means, shifts = noisy_parts(own)
    scales = [label for label in SCALES if label in own]
    if means and len({own[label] for label in means}) == 1 and len(own[means[0]]) == 2:
        incoming = [(prefix + label, "in neuron") for label in means]
        yield NeuronGroup(name, incoming, [(prefix + label, "neuron") for label in shifts])
    elif is_norm(type(layer).__name__) and len(scales) == 1 and own.keys() <= {*scales, *SHIFTS} and len(own) <= 2:
        shift = next((prefix + label for label in SHIFTS if label in own), None)
        if all(len(shape) == 1 < shape[0] for shape in own.values()) and len(set(own.values())) == 1:
            yield na.norm(name, scale=prefix + scales[0], shift=shift)


def _warn_of_unlisted(model: Any, taken: set[str]) -> None:
    """Warn of layers whose weights are computed from others, and of those whose weights are in no group."""
    by_path, computed, unlisted = layers_of(model), [], []
    for path, layer in by_path.items():
        own = {f"{path}/{label}" if path else label: (label, variable) for label, variable in own_variables(layer)}
        weights = [
            f"{label} {tuple(variable.shape)}" for label, variable in own.values() if _is_weight(label, variable)
        ]
        if not weights or not taken.isdisjoint(own):
            continue
        if isinstance(layer, layers.SpectralNormalization):
            computed.append(path)
        elif id(layer) not in _normalised(by_path):
            unlisted.append(f"{path or 'the model'} ({type(layer).__name__}: {', '.join(weights)})")
    if computed:
        warnings.warn(say_computed(computed, "SpectralNormalization"), na.ActivityWarning, stacklevel=4)
    if unlisted:
        warnings.warn(say_unlisted(unlisted), na.ActivityWarning, stacklevel=4)


def _is_weight(label: str, variable: Any) -> bool:
    return getattr(variable, "trainable", True) and looks_like_a_layer(label, variable.shape)


def _features(scale: Any) -> str:
    """Name the axes of a scale; the last one counts channels."""
    return " ".join([*(f"axis{i}" for i in range(1, len(scale.shape))), "neuron"])


def channels_first(layer: Any) -> bool:
    """Whether the channels of a layer's output are the axis behind the samples, and not the last."""
    return getattr(layer, "data_format", None) == "channels_first" or getattr(layer, "axis", -1) == 1


def _convolution(prefix: str, name: str, layer: Any, bias: str | None) -> Iterator[NeuronGroup]:
    """Describe a convolution; the last axis of a depthwise kernel is ``one``, or ``copy`` with a depth multiplier."""
    kernel = _KERNELS[layer.rank]
    activation = "batch neuron ..." if channels_first(layer) else "... neuron"
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


def _einsum(prefix: str, name: str, layer: Any) -> Iterator[NeuronGroup]:
    """Describe an ``EinsumDense`` layer with one new axis in its output, and at most one that the kernel keeps."""
    inputs, kernel, outputs = einsum_letters(layer)
    new = [letter for letter in kernel if letter in outputs and letter not in inputs]
    kept = [letter for letter in kernel if letter in outputs and letter in inputs]
    if len(new) != 1 or len(kept) > 1 or not {*new, *kept} <= set(layer.bias_axes or kernel):
        return
    names = {letter: f"axis_{letter}" for letter in (*inputs, *outputs)}
    names |= {new[0]: "neuron", "...": "..."} | dict.fromkeys(kept, "stack")
    unscored = []
    if layer.bias is not None:
        unscored = [(f"{prefix}bias", " ".join(names[letter] for letter in outputs[-len(layer.bias.shape) :]))]
    weight = (f"{prefix}kernel", " ".join(names[letter] for letter in kernel))
    last = outputs[-1] == new[0] and not kept
    activation = "... neuron" if last else " ".join(names[letter] for letter in outputs)
    yield NeuronGroup(name, [weight], unscored, activation=activation)


def _attention(prefix: str, name: str, layer: Any, attention: AttentionNeurons) -> Iterator[NeuronGroup]:
    """Describe attention: its heads, or the channels of its projections as discovery sees them; and its output."""
    kernels = {part: f"{prefix}{part}_dense/kernel" for part in (*_PARTS, "output")}
    biases = {part: f"{prefix}{part}_dense/bias" if layer.use_bias else None for part in kernels}
    if attention == "heads":
        incoming = [(kernels[part], "in neuron dim") for part in _PARTS]
        unscored = [(f"{prefix}{part}_dense/bias", "neuron dim") for part in _PARTS] if layer.use_bias else []
        yield NeuronGroup(name, incoming, unscored, activation="... neuron dim", neurons=layer.num_heads)
    else:
        for part in _PARTS:
            yield na.dense(f"{prefix}{part}", weight=(kernels[part], "in neuron"), bias=biases[part])
    if len(layer._output_dense.kernel.shape) == 3:
        pattern = "head dim neuron" if attention == "heads" else "in neuron"
        yield na.dense(f"{prefix}output_dense", weight=(kernels["output"], pattern), bias=biases["output"])


def _merged_heads(prefix: str, layer: Any) -> dict[str, MergedAxes]:
    """Let discovery see the heads of attention and the channels of each as one axis."""
    merged: dict[str, MergedAxes] = {}
    if isinstance(layer, layers.MultiHeadAttention):
        output = layer._output_dense.kernel.shape
        names = {"in": "head dim", "neuron": "neuron neuron"}
        merged[f"{prefix}output_dense/kernel"] = MergedAxes.of(output, slice(0, 2), **names)
        for part in _PARTS:
            kernel = getattr(layer, f"_{part}_dense").kernel.shape
            names = {"neuron": "neuron neuron", "out": "head out"}
            merged[f"{prefix}{part}_dense/kernel"] = MergedAxes.of(kernel, slice(1, 3), **names)
            merged[f"{prefix}{part}_dense/bias"] = MergedAxes.of(kernel[1:], slice(0, 2), **names)
    return merged


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
