"""Networks of the JAX agents: pure functions of their parameters, with PyTorch's own initial distribution.

Parameters are a dictionary of layers by name, such as ``block1.layer1``, each with arrays named as Flax names them:
``kernel``, (in, out), ``scale`` and ``bias``.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

import neuroactivity as na
from neuroactivity_jax import layout_of
from reference_agents.config import Config

Layer: TypeAlias = dict[str, Array]
Params: TypeAlias = dict[str, Layer]

ACTIVATIONS: Final = MappingProxyType(
    {
        "relu": jax.nn.relu,
        "leaky_relu": jax.nn.leaky_relu,
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
        "swish": jax.nn.swish,
        "mish": jax.nn.mish,
    }
)


def linear(key: Array, inputs: int, outputs: int) -> Layer:
    """Draw a layer as ``torch.nn.Linear`` would."""
    bound = inputs**-0.5
    drawn = jax.random.uniform(key, (inputs + 1, outputs), minval=-bound, maxval=bound)
    return {"kernel": drawn[:-1], "bias": drawn[-1]}


def dense(layer: Layer, x: Array) -> Array:
    """Apply a dense layer, from (batch, in) to (batch, out)."""
    return x @ layer["kernel"] + layer["bias"]


def norm(layer: Layer, x: Array) -> Array:
    """Apply a layer normalisation, from (batch, width) to (batch, width)."""
    return jax.nn.standardize(x, epsilon=1e-5) * layer["scale"] + layer["bias"]


class Network(Protocol):
    """A network: where its parameters start, and what it computes with them."""

    def start(self, key: Array) -> Params:
        """Draw initial parameters."""

    def __call__(self, params: Params, inputs: Array, /) -> object:
        """Compute outputs, from (batch, inputs)."""


@dataclass(frozen=True)
class Trunk:
    """A network up to its output layer, of the architecture that the settings ask for.

    An MLP has ``layer1`` to ``layer{depth}``, each followed by the activation function; a BRO-net a normalised
    ``layer`` and then residual blocks, ``block1`` to ``block{depth}`` (Liu et al. 2025, A.1).

    Attributes:
        config: Architecture, activation function and width.
        inputs: Length of an input.
        depth: Hidden layers of an MLP; residual blocks of a BRO-net, after its first layer.
        prefix: What the names of all layers begin with.
    """

    config: Config
    inputs: int
    depth: int
    prefix: str = ""

    def start(self, key: Array) -> Params:
        """Draw initial parameters."""
        width, names = self.config.width, self._dense_layers()
        params: Params = {}
        for own, (name, inputs) in zip(jax.random.split(key, len(names)), names.items(), strict=True):
            params[self.prefix + name] = linear(own, inputs, width)
            if self.config.network == "bronet":
                normalisation = {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
                params[self.prefix + name.replace("layer", "norm")] = normalisation
        return params

    def _dense_layers(self) -> dict[str, int]:
        """Return the length of each dense layer's input, by name."""
        width, numbers = self.config.width, range(1, self.depth + 1)
        if self.config.network == "mlp":
            return {f"layer{number}": self.inputs if number == 1 else width for number in numbers}
        blocks = {f"block{number}.{layer}": width for number in numbers for layer in ("layer1", "layer2")}
        return {"layer": self.inputs, **blocks}

    def __call__(self, params: Params, inputs: Array, /) -> Array:
        """Compute features, from (batch, inputs) to (batch, width)."""
        compute = {"mlp": self._hidden_layers, "bronet": self._residual_stream}[self.config.network]
        own = {name.removeprefix(self.prefix): layer for name, layer in params.items()}
        return compute(own, inputs)

    def _hidden_layers(self, params: Params, x: Array) -> Array:
        activation = ACTIVATIONS[self.config.activation]
        for number in range(1, self.depth + 1):
            x = activation(dense(params[f"layer{number}"], x))  # (batch, width)
        return x

    def _residual_stream(self, params: Params, x: Array) -> Array:
        activation = ACTIVATIONS[self.config.activation]
        stream = activation(norm(params["norm"], dense(params["layer"], x)))  # (batch, width)
        for number in range(1, self.depth + 1):
            layer1, norm1, layer2, norm2 = (
                params[f"block{number}.{part}"] for part in ("layer1", "norm1", "layer2", "norm2")
            )
            hidden = activation(norm(norm1, dense(layer1, stream)))  # (batch, width)
            stream = stream + norm(norm2, dense(layer2, hidden))  # (batch, width)
        return stream


@dataclass(frozen=True)
class Headed:
    """A trunk and an output layer, ``head``: a network from (batch, inputs) to (batch, outputs)."""

    trunk: Trunk
    outputs: int

    def start(self, key: Array) -> Params:
        """Draw initial parameters."""
        trunk, head = jax.random.split(key)
        return {**self.trunk.start(trunk), "head": linear(head, self.trunk.config.width, self.outputs)}

    def __call__(self, params: Params, inputs: Array, /) -> Array:
        """Compute outputs, from (batch, inputs) to (batch, outputs)."""
        return dense(params["head"], self.trunk(params, inputs))


def network(config: Config, inputs: int, outputs: int, depth: int) -> Headed:
    """Describe a trunk and an output layer, from (batch, inputs) to (batch, outputs)."""
    return Headed(Trunk(config, inputs, depth), outputs)


def find_layout(network: Network, inputs: int) -> na.Layout:
    """Find a network's neuron groups, in the order of its layers, and what they feed, by inputs of a length."""
    samples, weights = jax.random.split(jax.random.key(0))
    some = jax.random.normal(samples, (8, inputs))
    params = network.start(weights)
    found = layout_of(params, lambda params: network(params, some))
    return na.Layout([found[name] for name in params])
