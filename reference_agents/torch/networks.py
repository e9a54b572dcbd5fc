"""Networks of the PyTorch agents, with PyTorch's own initial distribution drawn from an explicit generator."""

from types import MappingProxyType
from typing import Final

import torch
from torch import nn

from reference_agents.config import Config

ACTIVATIONS: Final = MappingProxyType(
    {
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "swish": nn.SiLU,
        "mish": nn.Mish,
    }
)


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Build a layer as ``nn.Linear`` would, drawing from ``generator`` and not from the global one."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    bound = inputs**-0.5
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def trunk(config: Config, inputs: int, generator: torch.Generator) -> nn.Sequential:
    """Build the hidden layers, ``layer1`` to ``layer{depth}``, each followed by the activation function."""
    layers = nn.Sequential()
    for number in range(1, config.depth + 1):
        layers.add_module(f"layer{number}", linear(inputs, config.width, generator))
        layers.add_module(f"activation{number}", ACTIVATIONS[config.activation]())
        inputs = config.width
    return layers


def mlp(config: Config, inputs: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Build the hidden layers and an output layer, ``head``."""
    layers = trunk(config, inputs, generator)
    layers.add_module("head", linear(config.width, outputs, generator))
    return layers
