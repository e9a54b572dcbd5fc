"""Attention layers: a neuron is a channel of a projection, or a whole head."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import neuroactivity as na
from neuroactivity import NeuronGroup
from neuroactivity.discovery import MergedAxes
from neuroactivity_jax.layers.layer_arrays import LayerArrays, Listed

AttentionNeurons: TypeAlias = Literal["channels", "heads"]
"""What a neuron of an attention layer is."""

_PARTS = ("query", "key", "value")


def list_attention(
    layers: Sequence[LayerArrays], attention: AttentionNeurons, heads: Mapping[str, int]
) -> list[Listed]:
    """List the groups of the attention layers among others.

    In Flax the projections have an axis for heads and one for the channels of a head, which count neurons together.

    Args:
        layers: The layers; a projection is one.
        attention: What a neuron is. In a stack of attention layers it is always a head.
        heads: Number of heads by path of Equinox's attention layers, whose arrays do not tell it.
    """
    named = {layer.name: layer for layer in layers}
    listed: list[Listed] = []
    for parent in dict.fromkeys(layer.parent for layer in layers):
        prefix = f"{parent}/" if parent else ""
        parts = [named[prefix + part] for part in _PARTS if prefix + part in named]
        projections = [part for part in parts if _has_heads(part)]
        if len(projections) == len(_PARTS):
            several = attention == "heads" or len(projections[0].shapes["kernel"]) > 3
            describe = _whole_heads if several else _channels
            listed += describe(parent or "attention", projections, named.get(f"{prefix}out"))
        elif parent in heads and attention == "heads":
            listed.append(_equinox_heads(parent, [named[f"{prefix}{part}_proj"] for part in _PARTS], heads[parent]))
    return listed


def _has_heads(layer: LayerArrays) -> bool:
    kernel, bias = layer.shapes.get("kernel", ()), layer.shapes.get("bias")
    return len(kernel) >= 3 and (bias is None or bias == (*kernel[:-3], *kernel[-2:]))


def _channels(name: str, projections: Sequence[LayerArrays], output: LayerArrays | None) -> list[Listed]:
    """Describe each projection as a dense layer, with heads and channels as one axis for discovery."""
    channels, listed = {"neuron": "neuron neuron", "out": "out dim"}, []
    for layer in projections:
        merged = {layer.param("kernel"): MergedAxes.of(layer.shapes["kernel"], slice(1, 3), **channels)}
        merged |= {bias: MergedAxes.of(layer.shapes["bias"], slice(0, 2), **channels) for bias in layer.params("bias")}
        listed.append(Listed(_dense(layer, "in neuron"), merged))
    if output is not None and len(output.shapes.get("kernel", ())) == 3:
        channels = {"neuron": "neuron neuron", "in": "head in"}
        merged = {output.param("kernel"): MergedAxes.of(output.shapes["kernel"], slice(0, 2), **channels)}
        listed.append(Listed(_dense(output, "in neuron"), merged))
    return listed


def _whole_heads(name: str, projections: Sequence[LayerArrays], output: LayerArrays | None) -> list[Listed]:
    """Describe all projections as one group of heads."""
    copies = len(projections[0].shapes["kernel"]) - 3
    stack = "stack " * copies
    incoming = [(layer.param("kernel"), f"{stack}in neuron dim") for layer in projections]
    unscored = [(bias, f"{stack}neuron dim") for layer in projections for bias in layer.params("bias")]
    listed = [Listed(NeuronGroup(name, incoming, unscored, activation=f"{stack}... neuron dim"))]
    if output is not None and len(output.shapes.get("kernel", ())) == 3 + copies:
        listed.append(Listed(_dense(output, f"{stack}head in neuron")))
    return listed


def _equinox_heads(name: str, projections: Sequence[LayerArrays], heads: int) -> Listed:
    """Describe the projections of one attention layer of Equinox as one group of heads."""
    stack, sizes = "stack " * (len(projections[0].shapes["weight"]) - 2), {"neuron": heads}
    incoming = [(layer.param("weight"), f"{stack}(neuron dim) in", sizes) for layer in projections]
    unscored = [(bias, f"{stack}(neuron dim)", sizes) for layer in projections for bias in layer.params("bias")]
    return Listed(NeuronGroup(name, incoming, unscored, activation=f"{stack}... (neuron dim)", neurons=heads))


def _dense(layer: LayerArrays, pattern: str) -> NeuronGroup:
    bias = next(iter(layer.params("bias")), None)
    return na.dense(layer.name, weight=(layer.param("kernel"), pattern), bias=bias)
