"""Networks of the TensorFlow agents, with PyTorch's default initialisation drawn from explicit seeds."""

from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import keras
from keras import layers

from reference_agents.config import EXPANSION, HEADS, Config
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
    """Build a dense layer with the initialisation of PyTorch's ``nn.Linear``.

    Args:
        name: Name of the layer; the initial weights depend on it, as equal seeds give equal weights in Keras.
        inputs: Size of an input.
        outputs: Size of an output.
        seed: Seed of the network.
    """
    kernel, bias = (uniform(inputs, derive(seed, name, parameter)) for parameter in ("kernel", "bias"))
    layer = layers.Dense(outputs, kernel_initializer=kernel, bias_initializer=bias, name=name)
    layer.build((None, inputs))
    return layer


def uniform(size: int, seed: int) -> keras.initializers.Initializer:
    """Draw uniformly from [-1, 1], divided by the square root of a size."""
    return keras.initializers.RandomUniform(-(size**-0.5), size**-0.5, seed)


def entry_embedding(name: str, inputs: int, width: int, seed: int) -> layers.Embedding:
    """Build a learned vector for each entry of the input, initialised as in FT-Transformer (Gorishniy et al. 2021)."""
    layer = layers.Embedding(inputs, width, embeddings_initializer=uniform(width, derive(seed, name)), name=name)
    layer.build()
    return layer


def attention(name: str, width: int, seed: int) -> layers.MultiHeadAttention:
    """Build multi-head self-attention, with projections initialised as in ``linear``."""
    initializer = uniform(width, seed)
    layer = layers.MultiHeadAttention(
        HEADS, width // HEADS, kernel_initializer=initializer, bias_initializer=initializer, name=name
    )
    layer.build((None, None, width), (None, None, width))
    projections = (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    for number, variable in enumerate(variable for part in projections for variable in (part.kernel, part.bias)):
        variable.assign(
            uniform(width, derive(seed, name, number))(variable.shape)
        )  # Keras would use the same seed for all
    return layer


def norm(name: str, width: int) -> layers.LayerNormalization:
    """Build a LayerNorm with PyTorch's epsilon."""
    layer = layers.LayerNormalization(epsilon=1e-5, name=name)
    layer.build((None, width))
    return layer


class BroBlock(layers.Layer):  # type: ignore[misc]
    """BRO's residual block: two dense layers, each followed by LayerNorm."""

    def __init__(self, name: str, config: Config, seed: int) -> None:
        super().__init__(name=name)
        self.layer1 = linear("layer1", config.width, config.width, derive(seed, name))
        self.norm1 = norm("norm1", config.width)
        self.activation = ACTIVATIONS[config.activation]()
        self.layer2 = linear("layer2", config.width, config.width, derive(seed, name))
        self.norm2 = norm("norm2", config.width)

    def call(self, stream: Tensor) -> Tensor:
        """Apply the block to the residual stream, (batch, width)."""
        hidden = self.activation(self.norm1(self.layer1(stream)))  # (batch, width)
        return stream + self.norm2(self.layer2(hidden))


class FeedforwardBlock(layers.Layer):  # type: ignore[misc]
    """A pre-norm residual feedforward block: LayerNorm, a wide dense layer, and a dense layer back."""

    def __init__(self, name: str, config: Config, seed: int) -> None:
        super().__init__(name=name)
        wide = EXPANSION[config.network] * config.width
        self.norm = norm("norm", config.width)
        self.layer1 = linear("layer1", config.width, wide, derive(seed, name))
        self.activation = ACTIVATIONS[config.activation]()
        self.layer2 = linear("layer2", wide, config.width, derive(seed, name))

    def call(self, stream: Tensor) -> Tensor:
        """Apply the block to the residual stream, (batch, width) or (batch, token, width)."""
        hidden = self.activation(self.layer1(self.norm(stream)))  # (..., wide)
        return stream + self.layer2(hidden)


class Tokenizer(layers.Layer):  # type: ignore[misc]
    """Turns each entry of the input into a token: its value times a learned vector, plus a learned bias."""

    def __init__(self, name: str, inputs: int, width: int, seed: int) -> None:
        super().__init__(name=name)
        self.slope = entry_embedding("slope", inputs, width, derive(seed, name))
        self.intercept = entry_embedding("intercept", inputs, width, derive(seed, name))

    def call(self, inputs: Tensor) -> Tensor:
        """Return tokens, from (batch, token) to (batch, token, width)."""
        return inputs[..., None] * self.slope.embeddings + self.intercept.embeddings


class AttentionBlock(layers.Layer):  # type: ignore[misc]
    """A pre-norm residual block of multi-head self-attention."""

    def __init__(self, name: str, width: int, seed: int) -> None:
        super().__init__(name=name)
        self.norm = norm("norm", width)
        self.attention = attention("attention", width, derive(seed, name))

    def call(self, stream: Tensor) -> Tensor:
        """Apply the block to the residual stream, (batch, token, width)."""
        tokens = self.norm(stream)
        return stream + self.attention(tokens, tokens)


def trunk(config: Config, inputs: int, depth: int, seed: int) -> keras.Sequential:
    """Build a network without its output layer.

    Args:
        config: Architecture, activation function and width.
        inputs: Size of an input.
        depth: Number of hidden layers (MLP), or of residual blocks after the first layer.
        seed: Seed of the initial weights.

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
    return keras.Sequential([keras.Input((inputs,)), *build[config.network](config, inputs, depth, seed)])


def _mlp(config: Config, inputs: int, depth: int, seed: int) -> list[layers.Layer]:
    """Build ``layer1`` to ``layer{depth}``, each with an activation and, if configured, a LayerNorm ``norm1`` ..."""
    stack = []
    for number in range(1, depth + 1):
        stack.append(linear(f"layer{number}", inputs, config.width, seed))
        if config.network == "mlp_layernorm":
            stack.append(norm(f"norm{number}", config.width))
        stack.append(ACTIVATIONS[config.activation](name=f"activation{number}"))
        inputs = config.width
    return stack


def _bronet(config: Config, inputs: int, depth: int, seed: int) -> list[layers.Layer]:
    """Build ``layer`` with ``norm``, then ``block1`` to ``block{depth}`` (BRO-net; Liu et al. 2025, A.1)."""
    first = linear("layer", inputs, config.width, seed), norm("norm", config.width)
    blocks = [BroBlock(f"block{number}", config, seed) for number in range(1, depth + 1)]
    return [*first, ACTIVATIONS[config.activation](name="activation"), *blocks]


def _simba(config: Config, inputs: int, depth: int, seed: int) -> list[layers.Layer]:
    """Build ``layer``, ``block1`` to ``block{depth}`` and ``norm`` (SimBa, Lee et al. 2025).

    SimBa's running observation normalisation and its initialisation are left out.
    """
    blocks = [FeedforwardBlock(f"block{number}", config, seed) for number in range(1, depth + 1)]
    return [linear("layer", inputs, config.width, seed), *blocks, norm("norm", config.width)]


def _transformer(config: Config, inputs: int, depth: int, seed: int) -> list[layers.Layer]:
    """Build ``tokens``, ``attention1`` and ``block1`` to ``block{depth}``, ``norm``, and a mean over the tokens."""
    stack = [Tokenizer("tokens", inputs, config.width, seed)]
    for number in range(1, depth + 1):
        stack.append(AttentionBlock(f"attention{number}", config.width, seed))
        stack.append(FeedforwardBlock(f"block{number}", config, seed))
    return [*stack, norm("norm", config.width), layers.GlobalAveragePooling1D(name="mean")]


def network(config: Config, inputs: int, outputs: int, depth: int, seed: int) -> keras.Sequential:
    """Build a trunk with an output layer, ``head``: a network from (batch, inputs) to (batch, outputs)."""
    layers = trunk(config, inputs, depth, seed)
    layers.add(linear("head", config.width, outputs, seed))
    return layers
