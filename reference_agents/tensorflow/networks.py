"""Networks of the TensorFlow agents, with PyTorch's own initial distribution drawn from explicit seeds."""

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
    """Build a dense layer that starts as PyTorch's ``nn.Linear`` does.

    Args:
        name: Its name, which decides with ``seed`` what is drawn: equal seeds repeat themselves in Keras.
        inputs: Length of an input.
        outputs: Length of an output.
        seed: Seed of the network.
    """
    kernel, bias = (uniform(inputs, derive(seed, name, parameter)) for parameter in ("kernel", "bias"))
    layer = layers.Dense(outputs, kernel_initializer=kernel, bias_initializer=bias, name=name)
    layer.build((None, inputs))
    return layer


def uniform(size: int, seed: int) -> keras.initializers.Initializer:
    """Draw from -1 to 1, divided by the square root of a size."""
    return keras.initializers.RandomUniform(-(size**-0.5), size**-0.5, seed)


def vectors(name: str, inputs: int, width: int, seed: int) -> layers.Embedding:
    """Build a learned vector for each entry of an input, which starts as FT-Transformer's (Gorishniy et al. 2021)."""
    layer = layers.Embedding(inputs, width, embeddings_initializer=uniform(width, derive(seed, name)), name=name)
    layer.build()
    return layer


def attention(name: str, width: int, seed: int) -> layers.MultiHeadAttention:
    """Build attention among tokens, whose projections start as ``linear`` does."""
    initializer = uniform(width, seed)
    layer = layers.MultiHeadAttention(
        HEADS, width // HEADS, kernel_initializer=initializer, bias_initializer=initializer, name=name
    )
    layer.build((None, None, width), (None, None, width))
    projections = (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    for number, variable in enumerate(variable for part in projections for variable in (part.kernel, part.bias)):
        variable.assign(uniform(width, derive(seed, name, number))(variable.shape))  # Keras gives all the same seed
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


class Feedforward(layers.Layer):  # type: ignore[misc]
    """A residual block: a wide dense layer and one back, behind a normalisation, whose result is added."""

    def __init__(self, name: str, config: Config, seed: int) -> None:
        super().__init__(name=name)
        wide = EXPANSION[config.network] * config.width
        self.norm = norm("norm", config.width)
        self.layer1 = linear("layer1", config.width, wide, derive(seed, name))
        self.activation = ACTIVATIONS[config.activation]()
        self.layer2 = linear("layer2", wide, config.width, derive(seed, name))

    def call(self, stream: Tensor) -> Tensor:
        """Add to the residual stream, (batch, width), or that of each token, (batch, token, width)."""
        hidden = self.activation(self.layer1(self.norm(stream)))  # (..., wide)
        return stream + self.layer2(hidden)


class Tokenizer(layers.Layer):  # type: ignore[misc]
    """Makes a token of each entry of an input: its value times a learned vector, plus another one."""

    def __init__(self, name: str, inputs: int, width: int, seed: int) -> None:
        super().__init__(name=name)
        self.slope = vectors("slope", inputs, width, derive(seed, name))
        self.intercept = vectors("intercept", inputs, width, derive(seed, name))

    def call(self, inputs: Tensor) -> Tensor:
        """Return tokens, (batch, token, width), of (batch, token)."""
        return inputs[..., None] * self.slope.embeddings + self.intercept.embeddings


class Attention(layers.Layer):  # type: ignore[misc]
    """A residual block: every token looks at all others, behind a normalisation, and the result is added."""

    def __init__(self, name: str, width: int, seed: int) -> None:
        super().__init__(name=name)
        self.norm = norm("norm", width)
        self.attention = attention("attention", width, derive(seed, name))

    def call(self, stream: Tensor) -> Tensor:
        """Add to the residual stream of each token, (batch, token, width)."""
        tokens = self.norm(stream)
        return stream + self.attention(tokens, tokens)


def trunk(config: Config, inputs: int, depth: int, seed: int) -> keras.Sequential:
    """Build a network up to its output layer, of the architecture that the settings ask for.

    Args:
        config: Architecture, activation function and width.
        inputs: Length of an input.
        depth: Hidden layers of an MLP; residual blocks of the others, after the first layer.
        seed: Decides the initial weights.

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
    return keras.Sequential([keras.Input((inputs,)), *build[config.network](config, inputs, depth, seed)])


def _hidden_layers(config: Config, inputs: int, depth: int, seed: int) -> list[layers.Layer]:
    """Build ``layer1`` to ``layer{depth}``, each with ``norm1`` and so on if asked for, and the activation function."""
    found = []
    for number in range(1, depth + 1):
        found.append(linear(f"layer{number}", inputs, config.width, seed))
        if config.network == "mlp_layernorm":
            found.append(norm(f"norm{number}", config.width))
        found.append(ACTIVATIONS[config.activation](name=f"activation{number}"))
        inputs = config.width
    return found


def _residual_stream(config: Config, inputs: int, depth: int, seed: int) -> list[layers.Layer]:
    """Build a normalised ``layer`` and then ``block1`` to ``block{depth}`` (Liu et al. 2025, A.1)."""
    first = linear("layer", inputs, config.width, seed), norm("norm", config.width)
    blocks = [Block(f"block{number}", config, seed) for number in range(1, depth + 1)]
    return [*first, ACTIVATIONS[config.activation](name="activation"), *blocks]


def _simba(config: Config, inputs: int, depth: int, seed: int) -> list[layers.Layer]:
    """Build ``layer``, ``block1`` to ``block{depth}`` and ``norm`` (SimBa, Lee et al. 2025).

    SimBa's running normalisation of observations and its initial distribution are left out.
    """
    blocks = [Feedforward(f"block{number}", config, seed) for number in range(1, depth + 1)]
    return [linear("layer", inputs, config.width, seed), *blocks, norm("norm", config.width)]


def _transformer(config: Config, inputs: int, depth: int, seed: int) -> list[layers.Layer]:
    """Build ``tokens``, ``attention1`` and ``block1`` to ``block{depth}``, ``norm``, and a mean over the tokens."""
    found = [Tokenizer("tokens", inputs, config.width, seed)]
    for number in range(1, depth + 1):
        found.append(Attention(f"attention{number}", config.width, seed))
        found.append(Feedforward(f"block{number}", config, seed))
    return [*found, norm("norm", config.width), layers.GlobalAveragePooling1D(name="mean")]


def network(config: Config, inputs: int, outputs: int, depth: int, seed: int) -> keras.Sequential:
    """Build a trunk and an output layer, ``head``: a network from (batch, inputs) to (batch, outputs)."""
    layers = trunk(config, inputs, depth, seed)
    layers.add(linear("head", config.width, outputs, seed))
    return layers
