"""Layers of any library, known by their names and the shapes of their parameters."""

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity import NeuronGroup
from neuroactivity.discovery.names import SCALES, SHIFTS, is_norm, noisy_parts
from neuroactivity_torch.layers.builtin import is_builtin

_KERNELS = {2: "", 3: " k", 4: " h w", 5: " d h w"}
_CHANNELS_FIRST = re.compile("batch|instance|group|[123]d", re.IGNORECASE)


def is_alike(module: nn.Module) -> bool:
    """Whether a module is one of these layers."""
    return _is_noisy(module) or (not is_builtin(module) and (_is_conv1d(module) or _is_norm(module)))


def groups_alike(prefix: str, name: str, module: nn.Module) -> Iterator[NeuronGroup]:
    """List the groups of one such layer."""
    own = _own(module)
    if _is_noisy(module):
        weights, biases = noisy_parts(own)
        shape = own[weights[0]].shape
        reads_rows = bool(biases) and own[biases[0]].shape != shape[:1]
        pattern = "in neuron" if reads_rows else f"neuron in{_KERNELS[len(shape)]}"
        activation = "batch neuron ..." if len(shape) > 2 else "... neuron"
        incoming = [(prefix + weight, pattern) for weight in weights]
        unscored = [(prefix + bias, "neuron") for bias in biases]
        yield NeuronGroup(name, incoming, unscored, activation=activation)
    elif _is_conv1d(module):
        yield na.dense(name, weight=(f"{prefix}weight", "in neuron"), bias=f"{prefix}bias")
    else:
        scale, shift = (next((prefix + leaf for leaf in leaves if leaf in own), None) for leaves in (SCALES, SHIFTS))
        yield na.norm(name, scale=str(scale), shift=shift, activation=_activation(module))


def norm_axis(module: nn.Module, ndim: int) -> int:
    """Return the axis of such a layer's outputs that counts features."""
    return 1 if _is_norm(module) and _activation(module) else ndim - 1


def resting_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Return running means of zero and variances of one for the normalisations of other libraries, by buffer name.

    With these a silent neuron is silent behind its normalisation, as it is with the statistics of the batch.
    """
    resting: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if is_alike(module) and _is_norm(module):
            for name, buffer in module.named_buffers(prefix=path, recurse=False):
                leaf = name.rpartition(".")[2]
                if buffer.is_floating_point() and re.search("mean|var|std", leaf):
                    resting[name] = torch.zeros_like(buffer) if "mean" in leaf else torch.ones_like(buffer)
    return resting


def _own(module: nn.Module) -> dict[str, nn.Parameter]:
    return dict(module.named_parameters(recurse=False))


def _is_noisy(module: nn.Module) -> bool:
    """Whether a layer's weight is a mean and a deviation of learned noise, as in NoisyNet."""
    own = _own(module)
    weights, biases = noisy_parts(own)
    return (
        bool(weights)
        and len({own[name].shape for name in weights}) == 1
        and len({own[name].shape for name in biases}) <= 1
        and own[weights[0]].ndim in _KERNELS
        and all(own[bias].shape in (own[weights[0]].shape[:1], own[weights[0]].shape[1:]) for bias in biases)
    )


def _is_conv1d(module: nn.Module) -> bool:
    """Whether it is the dense layer of GPT-2, whose weight lies the other way round."""
    own = _own(module)
    if type(module).__name__ != "Conv1D" or own.keys() != {"weight", "bias"}:
        return False
    return own["weight"].ndim == 2 and own["bias"].shape == own["weight"].shape[1:]


def _is_norm(module: nn.Module) -> bool:
    """Whether it is called a normalisation and has a scale for each feature, and nothing but a shift beside."""
    own = _own(module)
    scales, shifts = [name for name in SCALES if name in own], [name for name in SHIFTS if name in own]
    return (
        any(is_norm(kind.__name__) for kind in type(module).__mro__)
        and len(scales) == 1
        and len(shifts) == len(own) - 1 <= 1
        and {value.ndim for value in own.values()} == {1}
        and len({value.shape for value in own.values()}) == 1
        and own[scales[0]].numel() > 1
    )


def _activation(module: nn.Module) -> str | None:
    """Return the pattern of a normalisation's outputs, if its name says that channels are the second axis."""
    return "batch neuron ..." if _CHANNELS_FIRST.search(type(module).__name__) else None
