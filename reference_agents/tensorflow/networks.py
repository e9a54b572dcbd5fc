"""Networks of the TensorFlow agents, with PyTorch's own initial distribution drawn from explicit seeds."""

from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import keras
from keras import layers

from reference_agents.config import Config
from reference_agents.seeding import derive

Tensor: TypeAlias = Any
"""A ``tf.Tensor``; TensorFlow has no types of its own to check."""

ACTIVATIONS: Final = MappingProxyType(
    {
        "relu": layers.ReLU,
        "leaky_relu": partial(layers.LeakyReLU, negative_slope=0.01),
        "tanh": partial(layers.Activation, "tanh"),
        "sigmoid": partial(layers.Activation, "sigmoid"),
        "swish": partial(layers.Activation, "silu"),
        "mish": partial(layers.Activation, "mish"),
    }
)


def linear(name: str, inputs: int, outputs: int, seed: int) -> layers.Dense:
    """Build a dense layer that starts as PyTorch's ``nn.Linear`` does.

    Args:
        name: Its name, which decides with ``seed`` what is drawn: equal seeds repeat themselves in Keras.
        inputs: Length of an input.
        outputs: Length of an output.
        seed: Seed of the network.
    """

    def uniform(parameter: str) -> keras.initializers.Initializer:
        return keras.initializers.RandomUniform(-(inputs**-0.5), inputs**-0.5, derive(seed, name, parameter))

    layer = layers.Dense(outputs, kernel_initializer=uniform("kernel"), bias_initializer=uniform("bias"), name=name)
    layer.build((None, inputs))
    return layer


def norm(name: str, width: int) -> layers.LayerNormalization:
    """Build a layer normalisation with PyTorch's epsilon."""
    layer = layers.LayerNormalization(epsilon=1e-5, name=name)
    layer.build((None, width))
    return layer


class Block(layers.Layer):  # type: ignore[misc]
    """A residual block: two dense layers, each normalised, whose result is added to what went in."""

    def __init__(self, name: str, config: Config, seed: int) -> None:
        super().__init__(name=name)
        self.layer1 = linear("layer1", config.width, config.width, derive(seed, name))
        self.norm1 = norm("norm1", config.width)
        self.activation = ACTIVATIONS[config.activation]()
        self.layer2 = linear("layer2", config.width, config.width, derive(seed, name))
        self.norm2 = norm("norm2", config.width)

    def call(self, stream: Tensor) -> Tensor:
        """Add to the residual stream, (batch, width)."""
        hidden = self.activation(self.norm1(self.layer1(stream)))  # (batch, width)
        return stream + self.norm2(self.layer2(hidden))


def trunk(config: Config, inputs: int, depth: int, seed: int) -> keras.Sequential:
    """Build a network up to its output layer, of the architecture that the settings ask for.

    Args:
        config: Architecture, activation function and width.
        inputs: Length of an input.
        depth: Hidden layers of an MLP; residual blocks of a BRO-net, after its first layer.
        seed: Decides the initial weights.

    Returns:
        A network from (batch, inputs) to (batch, width).
    """
    build = {"mlp": _hidden_layers, "bronet": _residual_stream}[config.network]
    return keras.Sequential([keras.Input((inputs,)), *build(config, inputs, depth, seed)])


def _hidden_layers(config: Config, inputs: int, depth: int, seed: int) -> list[layers.Layer]:
    """Build ``layer1`` to ``layer{depth}``, each followed by the activation function."""
    found = []
    for number in range(1, depth + 1):
        found.append(linear(f"layer{number}", inputs, config.width, seed))
        found.append(ACTIVATIONS[config.activation](name=f"activation{number}"))
        inputs = config.width
    return found


def _residual_stream(config: Config, inputs: int, depth: int, seed: int) -> list[layers.Layer]:
    """Build a normalised ``layer`` and then ``block1`` to ``block{depth}`` (Liu et al. 2025, A.1)."""
    first = linear("layer", inputs, config.width, seed), norm("norm", config.width)
    blocks = [Block(f"block{number}", config, seed) for number in range(1, depth + 1)]
    return [*first, ACTIVATIONS[config.activation](name="activation"), *blocks]


def network(config: Config, inputs: int, outputs: int, depth: int, seed: int) -> keras.Sequential:
    """Build a trunk and an output layer, ``head``: a network from (batch, inputs) to (batch, outputs)."""
    layers = trunk(config, inputs, depth, seed)
    layers.add(linear("head", config.width, outputs, seed))
    return layers
