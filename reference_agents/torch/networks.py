"""Networks of the PyTorch agents, with PyTorch's own initial distribution drawn from an explicit generator."""

from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn

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


class Block(nn.Module):
    """A residual block: two dense layers, each normalised, whose result is added to what went in."""

    def __init__(self, config: Config, generator: torch.Generator) -> None:
        super().__init__()
        self.layer1 = linear(config.width, config.width, generator)
        self.norm1 = nn.LayerNorm(config.width)
        self.activation = ACTIVATIONS[config.activation]()
        self.layer2 = linear(config.width, config.width, generator)
        self.norm2 = nn.LayerNorm(config.width)

    def forward(self, stream: Tensor) -> Tensor:
        """Add to the residual stream, (batch, width)."""
        hidden = self.activation(self.norm1(self.layer1(stream)))  # (batch, width)
        added: Tensor = self.norm2(self.layer2(hidden))  # (batch, width)
        return stream + added


def trunk(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build a network up to its output layer, of the architecture that the settings ask for.

    Args:
        config: Architecture, activation function and width.
        inputs: Length of an input.
        depth: Hidden layers of an MLP; residual blocks of a BRO-net, after its first layer.
        generator: Draws the initial weights.

    Returns:
        A network from (batch, inputs) to (batch, width).
    """
    build = {"mlp": _hidden_layers, "bronet": _residual_stream}[config.network]
    return build(config, inputs, depth, generator)


def _hidden_layers(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build ``layer1`` to ``layer{depth}``, each followed by the activation function."""
    layers = nn.Sequential()
    for number in range(1, depth + 1):
        layers.add_module(f"layer{number}", linear(inputs, config.width, generator))
        layers.add_module(f"activation{number}", ACTIVATIONS[config.activation]())
        inputs = config.width
    return layers


def _residual_stream(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build a normalised ``layer`` and then ``block1`` to ``block{depth}`` (Liu et al. 2025, A.1)."""
    layers = nn.Sequential()
    layers.add_module("layer", linear(inputs, config.width, generator))
    layers.add_module("norm", nn.LayerNorm(config.width))
    layers.add_module("activation", ACTIVATIONS[config.activation]())
    for number in range(1, depth + 1):
        layers.add_module(f"block{number}", Block(config, generator))
    return layers


def network(config: Config, inputs: int, outputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build a trunk and an output layer, ``head``: a network from (batch, inputs) to (batch, outputs)."""
    layers = trunk(config, inputs, depth, generator)
    layers.add_module("head", linear(config.width, outputs, generator))
    return layers
