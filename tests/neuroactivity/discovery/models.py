"""Every test model with its truth, and its layout as discovery finds it, found once for all tests."""

import functools
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import layout_of
from tests.neuroactivity.discovery import images as discovery_images
from tests.neuroactivity.discovery import layers as discovery_layers
from tests.neuroactivity.discovery import networks as discovery_networks
from tests.neuroactivity.discovery import sequences as discovery_sequences
from tests.neuroactivity.discovery import traps as discovery_traps
from tests.neuroactivity.discovery.truth import Example

_MODULES = (discovery_networks, discovery_sequences, discovery_layers, discovery_images, discovery_traps)
EXAMPLES: dict[str, Example] = {example.name: example for module in _MODULES for example in module.EXAMPLES}


@dataclass(frozen=True)
class Discovered:
    """A model's layout, and everything about the model before and after it was found."""

    example: Example
    model: nn.Module
    layout: na.Layout
    before: dict[str, Any]
    after: dict[str, Any]


@functools.cache
def discovered(name: str) -> Discovered:
    """Find an example's layout: with gradients on some parameters and some modules in evaluation mode."""
    example = EXAMPLES[name]
    model = example.model()
    for number, parameter in enumerate(model.parameters()):
        if number % 2:
            parameter.grad = torch.full_like(parameter, 0.5)
    for number, module in enumerate(model.modules()):
        module.training = number % 3 != 1
    before = state_of(model)
    layout = layout_of(model, *example.inputs, **example.options)
    return Discovered(example, model, layout, before, state_of(model))


def state_of(model: nn.Module) -> dict[str, Any]:
    """All that could have been disturbed, in values that compare by ``==``."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "values": {name: _bits(value) for name, value in model.state_dict().items()},
        "identities": [id(parameter) for parameter in model.parameters()],
        "gradients": {name: _bits(p.grad) for name, p in model.named_parameters() if p.grad is not None},
        "trained": {name: p.requires_grad for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: sum(len(getattr(m, kind)) for kind in hooks) for name, m in model.named_modules()},
        "random numbers": _bits(torch.get_rng_state()),
        "threads": torch.get_num_threads(),
        "attributes": json.dumps({name: sorted(vars(module)) for name, module in model.named_modules()}),
    }


def _bits(value: torch.Tensor) -> bytes:
    return value.detach().numpy().tobytes()
