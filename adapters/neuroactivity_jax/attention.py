"""Attention layers: a neuron is a channel of a projection, or a whole head."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import neuroactivity as na
from neuroactivity import NeuronGroup
from neuroactivity_jax.listing import Fold, Listed, Module

__all__ = ["AttentionNeurons", "list_attention"]

AttentionNeurons: TypeAlias = Literal["channels", "heads"]
"""What a neuron of an attention layer is."""

_PARTS = ("query", "key", "value")


def list_attention(
    modules: Mapping[str, Module], attention: AttentionNeurons, heads: Mapping[str, int]
) -> dict[str, list[Listed]]:
    """List the attention layers among modules, each group under the name of the first module that it is made of.

    In Flax the projections have an axis for heads and one for the channels of a head, which count neurons together.

    Args:
        modules: Modules by name.
        attention: What a neuron is. The heads of a stack of attention layers are the neurons anyway.
        heads: Numbers of heads of Equinox's attention layers by path, which their arrays do not tell.
    """
    found: dict[str, list[Listed]] = {}
    for parent in dict.fromkeys(module.parent for module in modules.values()):
        prefix = f"{parent}/" if parent else ""
        parts = [modules.get(f"{prefix}{part}") for part in _PARTS]
        projections = [part for part in parts if part is not None and _has_heads(part)]
        if len(projections) == len(_PARTS):
            output = modules.get(f"{prefix}out")
            several = attention == "heads" or len(projections[0].shapes["kernel"]) > 3
            describe = _whole_heads if several else _channels
            found |= describe(parent or "attention", projections, output)
        elif parent in heads and attention == "heads":
            found |= _equinox_heads(parent, [modules[f"{prefix}{part}_proj"] for part in _PARTS], heads[parent])
    return found


def _has_heads(module: Module) -> bool:
    kernel, bias = module.shapes.get("kernel", ()), module.shapes.get("bias")
    return len(kernel) >= 3 and (bias is None or bias == (*kernel[:-3], *kernel[-2:]))


def _channels(name: str, projections: list[Module], output: Module | None) -> dict[str, list[Listed]]:
    """Describe each projection as a dense layer; for discovery heads and channels are one axis."""
    found = {}
    for part in projections:
        folds = {
            part.param("kernel"): Fold.of(part.shapes["kernel"], slice(1, 3), neuron="neuron neuron", out="out dim")
        }
        if "bias" in part.shapes:
            folds[part.param("bias")] = Fold.of(part.shapes["bias"], slice(0, 2), neuron="neuron neuron")
        found[part.name] = [Listed(_dense(part, "in neuron"), folds)]
    if output is not None and len(output.shapes.get("kernel", ())) == 3:
        fold = Fold.of(output.shapes["kernel"], slice(0, 2), **{"in": "head in", "neuron": "neuron neuron"})
        found[output.name] = [Listed(_dense(output, "in neuron"), {output.param("kernel"): fold})]
    return found


def _whole_heads(name: str, projections: list[Module], output: Module | None) -> dict[str, list[Listed]]:
    """Describe all projections as one group of heads."""
    stack = "stack " * (len(projections[0].shapes["kernel"]) - 3)
    incoming = [(part.param("kernel"), f"{stack}in neuron dim") for part in projections]
    unscored = [(part.param("bias"), f"{stack}neuron dim") for part in projections if "bias" in part.shapes]
    group = NeuronGroup(name, incoming, unscored, activation=f"{stack}... neuron dim")
    found: dict[str, list[Listed]] = {part.name: [] for part in projections}
    found[projections[0].name] = [Listed(group)]
    if output is not None and len(output.shapes.get("kernel", ())) == 3 + len(stack.split()):
        found[output.name] = [Listed(_dense(output, f"{stack}head in neuron"))]
    return found


def _equinox_heads(name: str, projections: list[Module], heads: int) -> dict[str, list[Listed]]:
    """Describe the projections of one attention layer of Equinox as one group of heads."""
    stack, sizes = "stack " * (len(projections[0].shapes["weight"]) - 2), {"neuron": heads}
    incoming = [(part.param("weight"), f"{stack}(neuron dim) in", sizes) for part in projections]
    unscored = [(part.param("bias"), f"{stack}(neuron dim)", sizes) for part in projections if "bias" in part.shapes]
    group = NeuronGroup(name, incoming, unscored, activation=f"{stack}... (neuron dim)", neurons=heads)
    return {part.name: [] for part in projections} | {projections[0].name: [Listed(group)]}


def _dense(module: Module, pattern: str) -> NeuronGroup:
    bias = module.param("bias") if "bias" in module.shapes else None
    return na.dense(module.name, weight=(module.param("kernel"), pattern), bias=bias)
