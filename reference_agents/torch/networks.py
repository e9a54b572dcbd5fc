"""Networks of the PyTorch agents, with PyTorch's own initial distribution drawn from an explicit generator."""

from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn

from reference_agents.config import EXPANSION, HEADS, Config

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
    _draw(layer, inputs, generator)
    return layer


def convolution(inputs: int, outputs: int, generator: torch.Generator, *, stride: int) -> nn.Conv2d:
    """Build a layer of 3 x 3 kernels as ``nn.Conv2d`` would, drawing from ``generator``."""
    layer: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, inputs, outputs, 3, stride)  # type: ignore[no-untyped-call]
    _draw(layer, 9 * inputs, generator)
    return layer


def _draw(layer: nn.Linear | nn.Conv2d, fan_in: int, generator: torch.Generator) -> None:
    for parameter in layer.parameters():  # the weight, then the bias
        nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5, generator=generator)


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


class Feedforward(nn.Module):
    """A residual block: a wide dense layer and one back, behind a normalisation, whose result is added."""

    def __init__(self, config: Config, generator: torch.Generator) -> None:
        super().__init__()
        wide = EXPANSION[config.network] * config.width
        self.norm = nn.LayerNorm(config.width)
        self.layer1 = linear(config.width, wide, generator)
        self.activation = ACTIVATIONS[config.activation]()
        self.layer2 = linear(wide, config.width, generator)

    def forward(self, stream: Tensor) -> Tensor:
        """Add to the residual stream, (batch, width), or that of each token, (batch, token, width)."""
        hidden = self.activation(self.layer1(self.norm(stream)))  # (..., wide)
        added: Tensor = self.layer2(hidden)
        return stream + added


class Vectors(nn.Embedding):
    """A learned vector for each entry of an input, which starts as FT-Transformer's (Gorishniy et al. 2021)."""

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw from -1 to 1, divided by the square root of the width."""
        bound = self.embedding_dim**-0.5
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)


class Tokenizer(nn.Module):
    """Makes a token of each entry of an input: its value times a learned vector, plus another one."""

    def __init__(self, inputs: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.slope: Vectors = nn.utils.skip_init(Vectors, inputs, width)  # type: ignore[no-untyped-call]
        self.intercept: Vectors = nn.utils.skip_init(Vectors, inputs, width)  # type: ignore[no-untyped-call]
        for vectors in (self.slope, self.intercept):
            vectors.reset_parameters(generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return tokens, (batch, token, width), of (batch, token)."""
        return inputs.unsqueeze(-1) * self.slope.weight + self.intercept.weight


class Attention(nn.Module):
    """A residual block: every token looks at all others, behind a normalisation, and the result is added."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = linear(width, width, generator)
        self.key = linear(width, width, generator)
        self.value = linear(width, width, generator)
        self.out = linear(width, width, generator)

    def forward(self, stream: Tensor) -> Tensor:
        """Add to the residual stream of each token, (batch, token, width)."""
        tokens = self.norm(stream)
        projections = (projection(tokens) for projection in (self.query, self.key, self.value))
        heads = (
            values.unflatten(-1, (HEADS, -1)).transpose(1, 2) for values in projections
        )  # (batch, head, token, dim)
        mixed = nn.functional.scaled_dot_product_attention(*heads)
        added: Tensor = self.out(mixed.transpose(1, 2).flatten(-2))  # (batch, token, width)
        return stream + added


class Mean(nn.Module):
    """Averages over tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features, (batch, width), of (batch, token, width)."""
        return tokens.mean(1)


def trunk(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build a network up to its output layer, of the architecture that the settings ask for.

    Args:
        config: Architecture, activation function and width.
        inputs: Length of an input.
        depth: Hidden layers of an MLP; residual blocks of the others, after the first layer.
        generator: Draws the initial weights.

    Returns:
        A network from (batch, inputs) to (batch, width).
    """
    build = {
        "mlp": _hidden_layers,
        "mlp_layernorm": _hidden_layers,
        "bronet": _residual_stream,
        "simba": _simba,
        "attention": _transformer,
    }
    return build[config.network](config, inputs, depth, generator)


def _hidden_layers(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build ``layer1`` to ``layer{depth}``, each with ``norm1`` and so on if asked for, and the activation function."""
    layers = nn.Sequential()
    for number in range(1, depth + 1):
        layers.add_module(f"layer{number}", linear(inputs, config.width, generator))
        if config.network == "mlp_layernorm":
            layers.add_module(f"norm{number}", nn.LayerNorm(config.width))
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


def _simba(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build ``layer``, ``block1`` to ``block{depth}`` and ``norm`` (SimBa, Lee et al. 2025).

    SimBa's running normalisation of observations and its initial distribution are left out.
    """
    layers = nn.Sequential()
    layers.add_module("layer", linear(inputs, config.width, generator))
    for number in range(1, depth + 1):
        layers.add_module(f"block{number}", Feedforward(config, generator))
    layers.add_module("norm", nn.LayerNorm(config.width))
    return layers


def _transformer(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build ``tokens``, ``attention1`` and ``block1`` to ``block{depth}``, ``norm``, and a mean over the tokens."""
    layers = nn.Sequential()
    layers.add_module("tokens", Tokenizer(inputs, config.width, generator))
    for number in range(1, depth + 1):
        layers.add_module(f"attention{number}", Attention(config.width, generator))
        layers.add_module(f"block{number}", Feedforward(config, generator))
    layers.add_module("norm", nn.LayerNorm(config.width))
    layers.add_module("mean", Mean())
    return layers


def network(config: Config, inputs: int, outputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build a trunk and an output layer, ``head``: a network from (batch, inputs) to (batch, outputs)."""
    layers = trunk(config, inputs, depth, generator)
    layers.add_module("head", linear(config.width, outputs, generator))
    return layers
