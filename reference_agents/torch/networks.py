"""Networks of the PyTorch agents, with PyTorch's default initialisation drawn from an explicit generator."""

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
    """Build an ``nn.Linear`` initialised from ``generator`` instead of the global one."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    _draw(layer, inputs, generator)
    return layer


def convolution(inputs: int, outputs: int, generator: torch.Generator, *, stride: int) -> nn.Conv2d:
    """Build a 3 x 3 ``nn.Conv2d`` initialised from ``generator``."""
    layer: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, inputs, outputs, 3, stride)  # type: ignore[no-untyped-call]
    _draw(layer, 9 * inputs, generator)
    return layer


def _draw(layer: nn.Linear | nn.Conv2d, fan_in: int, generator: torch.Generator) -> None:
    for parameter in layer.parameters():  # the weight, then the bias
        nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5, generator=generator)


class BroBlock(nn.Module):
    """BRO's residual block: two linear layers, each followed by LayerNorm."""

    def __init__(self, config: Config, generator: torch.Generator) -> None:
        super().__init__()
        self.layer1 = linear(config.width, config.width, generator)
        self.norm1 = nn.LayerNorm(config.width)
        self.activation = ACTIVATIONS[config.activation]()
        self.layer2 = linear(config.width, config.width, generator)
        self.norm2 = nn.LayerNorm(config.width)

    def forward(self, stream: Tensor) -> Tensor:
        """Apply the block to the residual stream, (batch, width)."""
        hidden = self.activation(self.norm1(self.layer1(stream)))  # (batch, width)
        added: Tensor = self.norm2(self.layer2(hidden))  # (batch, width)
        return stream + added


class FeedforwardBlock(nn.Module):
    """A pre-norm residual feedforward block: LayerNorm, a wide linear layer, and a linear layer back."""

    def __init__(self, config: Config, generator: torch.Generator) -> None:
        super().__init__()
        wide = EXPANSION[config.network] * config.width
        self.norm = nn.LayerNorm(config.width)
        self.layer1 = linear(config.width, wide, generator)
        self.activation = ACTIVATIONS[config.activation]()
        self.layer2 = linear(wide, config.width, generator)

    def forward(self, stream: Tensor) -> Tensor:
        """Apply the block to the residual stream, (batch, width) or (batch, token, width)."""
        hidden = self.activation(self.layer1(self.norm(stream)))  # (..., wide)
        added: Tensor = self.layer2(hidden)
        return stream + added


class EntryEmbedding(nn.Embedding):
    """A learned vector for each entry of the input, initialised as in FT-Transformer (Gorishniy et al. 2021)."""

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw uniformly from [-1, 1], divided by the square root of the width."""
        bound = self.embedding_dim**-0.5
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)


class Tokenizer(nn.Module):
    """Turns each entry of the input into a token: its value times a learned vector, plus a learned bias."""

    def __init__(self, inputs: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.slope: EntryEmbedding = nn.utils.skip_init(EntryEmbedding, inputs, width)  # type: ignore[no-untyped-call]
        self.intercept: EntryEmbedding = nn.utils.skip_init(EntryEmbedding, inputs, width)  # type: ignore[no-untyped-call]
        for vectors in (self.slope, self.intercept):
            vectors.reset_parameters(generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return tokens, from (batch, token) to (batch, token, width)."""
        return inputs.unsqueeze(-1) * self.slope.weight + self.intercept.weight


class AttentionBlock(nn.Module):
    """A pre-norm residual block of multi-head self-attention."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = linear(width, width, generator)
        self.key = linear(width, width, generator)
        self.value = linear(width, width, generator)
        self.out = linear(width, width, generator)

    def forward(self, stream: Tensor) -> Tensor:
        """Apply the block to the residual stream, (batch, token, width)."""
        tokens = self.norm(stream)
        projections = (projection(tokens) for projection in (self.query, self.key, self.value))
        heads = (
            values.unflatten(-1, (HEADS, -1)).transpose(1, 2) for values in projections
        )  # (batch, head, token, dim)
        mixed = nn.functional.scaled_dot_product_attention(*heads)  # (batch, head, token, dim)
        added: Tensor = self.out(mixed.transpose(1, 2).flatten(-2))  # (batch, token, width)
        return stream + added


class Mean(nn.Module):
    """Mean over the tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features, from (batch, token, width) to (batch, width)."""
        return tokens.mean(1)


def trunk(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build a network without its output layer.

    Args:
        config: Architecture, activation function and width.
        inputs: Size of an input.
        depth: Number of hidden layers (MLP), or of residual blocks after the first layer.
        generator: Random generator for the initial weights.

    Returns:
        A network from (batch, inputs) to (batch, width).
    """
    build = {
        "mlp": _mlp,
        "mlp_layernorm": _mlp,
        "bronet": _bronet,
        "simba": _simba,
        "attention": _transformer,
    }
    return build[config.network](config, inputs, depth, generator)


def _mlp(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build ``layer1`` to ``layer{depth}``, each with an activation and, if configured, a LayerNorm ``norm1`` ..."""
    layers = nn.Sequential()
    for number in range(1, depth + 1):
        layers.add_module(f"layer{number}", linear(inputs, config.width, generator))
        if config.network == "mlp_layernorm":
            layers.add_module(f"norm{number}", nn.LayerNorm(config.width))
        layers.add_module(f"activation{number}", ACTIVATIONS[config.activation]())
        inputs = config.width
    return layers


def _bronet(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build ``layer`` with ``norm``, then ``block1`` to ``block{depth}`` (BRO-net; Liu et al. 2025, A.1)."""
    layers = nn.Sequential()
    layers.add_module("layer", linear(inputs, config.width, generator))
    layers.add_module("norm", nn.LayerNorm(config.width))
    layers.add_module("activation", ACTIVATIONS[config.activation]())
    for number in range(1, depth + 1):
        layers.add_module(f"block{number}", BroBlock(config, generator))
    return layers


def _simba(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build ``layer``, ``block1`` to ``block{depth}`` and ``norm`` (SimBa, Lee et al. 2025).

    SimBa's running observation normalisation and its initialisation are left out.
    """
    layers = nn.Sequential()
    layers.add_module("layer", linear(inputs, config.width, generator))
    for number in range(1, depth + 1):
        layers.add_module(f"block{number}", FeedforwardBlock(config, generator))
    layers.add_module("norm", nn.LayerNorm(config.width))
    return layers


def _transformer(config: Config, inputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build ``tokens``, ``attention1`` and ``block1`` to ``block{depth}``, ``norm``, and a mean over the tokens."""
    layers = nn.Sequential()
    layers.add_module("tokens", Tokenizer(inputs, config.width, generator))
    for number in range(1, depth + 1):
        layers.add_module(f"attention{number}", AttentionBlock(config.width, generator))
        layers.add_module(f"block{number}", FeedforwardBlock(config, generator))
    layers.add_module("norm", nn.LayerNorm(config.width))
    layers.add_module("mean", Mean())
    return layers


def network(config: Config, inputs: int, outputs: int, depth: int, generator: torch.Generator) -> nn.Sequential:
    """Build a trunk with an output layer, ``head``: a network from (batch, inputs) to (batch, outputs)."""
    layers = trunk(config, inputs, depth, generator)
    layers.add_module("head", linear(config.width, outputs, generator))
    return layers
