"""Networks of the JAX agents: pure functions of their parameters, with PyTorch's own initial distribution.

Parameters are a dictionary of layers by name, such as ``block1.layer1``, each with arrays named as Flax names them:
``kernel``, (in, out), ``scale``, ``bias`` and ``embedding``. Flax's names for the projections of attention, such as
``attention1/query``, tell the adapter what they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

import neuroactivity as na
from neuroactivity_jax import layout_of
from reference_agents.config import EXPANSION, HEADS, Config

Layer: TypeAlias = dict[str, Array]
Params: TypeAlias = dict[str, Layer]
Start: TypeAlias = Layer | Callable[[Array], Layer]
"""How a layer starts: always so, or as it is drawn by a key."""

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


def divided(key: Array, width: int) -> Layer:
    """Draw a layer as ``linear`` does, with one axis of its outputs for heads and one for the channels of a head."""
    layer = linear(key, width, width)
    return {"kernel": layer["kernel"].reshape(width, HEADS, -1), "bias": layer["bias"].reshape(HEADS, -1)}


def joined(key: Array, width: int) -> Layer:
    """Draw a layer as ``linear`` does, with one axis of its inputs for heads and one for the channels of a head."""
    layer = linear(key, width, width)
    return {"kernel": layer["kernel"].reshape(HEADS, -1, width), "bias": layer["bias"]}


def vectors(key: Array, inputs: int, width: int) -> Layer:
    """Draw a vector for each entry of an input as FT-Transformer does (Gorishniy et al. 2021)."""
    bound = width**-0.5
    return {"embedding": jax.random.uniform(key, (inputs, width), minval=-bound, maxval=bound)}


def unit(width: int) -> Layer:
    """Return a layer normalisation as it starts."""
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}


def dense(layer: Layer, x: Array) -> Array:
    """Apply a dense layer, from (..., in) to (..., out)."""
    return x @ layer["kernel"] + layer["bias"]


def norm(layer: Layer, x: Array) -> Array:
    """Apply a layer normalisation, from (..., width) to (..., width)."""
    return jax.nn.standardize(x, epsilon=1e-5) * layer["scale"] + layer["bias"]


def attend(x: Array, query: Layer, key: Layer, value: Layer, out: Layer) -> Array:
    """Let every token look at all others, from (batch, token, width) to (batch, token, width)."""
    heads = (jnp.einsum("btw,whd->bthd", x, layer["kernel"]) + layer["bias"] for layer in (query, key, value))
    mixed = jax.nn.dot_product_attention(*heads)  # (batch, token, head, dim)
    return jnp.einsum("bthd,hdw->btw", mixed, out["kernel"]) + out["bias"]


class Network(Protocol):
    """A network: where its parameters start, and what it computes with them."""

    def start(self, key: Array) -> Params:
        """Draw initial parameters."""

    def __call__(self, params: Params, inputs: Array, /) -> object:
        """Compute outputs, from (batch, inputs)."""


def _dense(inputs: int, outputs: int) -> Start:
    return partial(linear, inputs=inputs, outputs=outputs)


def _mlp_layers(inputs: int, width: int, depth: int) -> dict[str, Start]:
    return {f"layer{number}": _dense(inputs if number == 1 else width, width) for number in range(1, depth + 1)}


def _mlp_layernorm_layers(inputs: int, width: int, depth: int) -> dict[str, Start]:
    layers: dict[str, Start] = {}
    for number in range(1, depth + 1):
        layers[f"layer{number}"] = _dense(inputs if number == 1 else width, width)
        layers[f"norm{number}"] = unit(width)
    return layers


def _bronet_layers(inputs: int, width: int, depth: int) -> dict[str, Start]:
    layers: dict[str, Start] = {"layer": _dense(inputs, width), "norm": unit(width)}
    for number in range(1, depth + 1):
        for part in (1, 2):
            layers[f"block{number}.layer{part}"] = _dense(width, width)
            layers[f"block{number}.norm{part}"] = unit(width)
    return layers


def _simba_layers(inputs: int, width: int, depth: int) -> dict[str, Start]:
    layers: dict[str, Start] = {"layer": _dense(inputs, width)}
    for number in range(1, depth + 1):
        layers |= _block_layers(f"block{number}", width, EXPANSION["simba"] * width)
    return {**layers, "norm": unit(width)}


def _transformer_layers(inputs: int, width: int, depth: int) -> dict[str, Start]:
    layers: dict[str, Start] = dict.fromkeys(
        ("tokens.slope", "tokens.intercept"), partial(vectors, inputs=inputs, width=width)
    )
    for number in range(1, depth + 1):
        layers[f"attention{number}.norm"] = unit(width)
        for part in ("query", "key", "value"):
            layers[f"attention{number}/{part}"] = partial(divided, width=width)
        layers[f"attention{number}/out"] = partial(joined, width=width)
        layers |= _block_layers(f"block{number}", width, EXPANSION["attention"] * width)
    return {**layers, "norm": unit(width)}


def _block_layers(name: str, width: int, wide: int) -> dict[str, Start]:
    return {f"{name}.norm": unit(width), f"{name}.layer1": _dense(width, wide), f"{name}.layer2": _dense(wide, width)}


LAYERS: Final = MappingProxyType(
    {
        "mlp": _mlp_layers,
        "mlp_layernorm": _mlp_layernorm_layers,
        "bronet": _bronet_layers,
        "simba": _simba_layers,
        "attention": _transformer_layers,
    }
)
"""How the layers of each architecture start, by name and in their order."""


@dataclass(frozen=True)
class Trunk:
    """A network up to its output layer, of the architecture that the settings ask for.

    An MLP has ``layer1`` to ``layer{depth}``, each followed by the activation function, with ``norm1`` and so on in
    between if it is to have LayerNorm; a BRO-net a normalised ``layer`` and then residual blocks, ``block1`` to
    ``block{depth}`` (Liu et al. 2025, A.1). SimBa (Lee et al. 2025) has ``layer``, blocks and ``norm``; its running
    normalisation of observations and its initial distribution are left out. A transformer has ``tokens``,
    ``attention1`` and ``block1`` and so on, ``norm``, and a mean over the tokens.

    Attributes:
        config: Architecture, activation function and width.
        inputs: Length of an input.
        depth: Hidden layers of an MLP; residual blocks of the others, after the first layer.
        prefix: What the names of all layers begin with.
    """

    config: Config
    inputs: int
    depth: int
    prefix: str = ""

    def start(self, key: Array) -> Params:
        """Draw initial parameters."""
        layers = LAYERS[self.config.network](self.inputs, self.config.width, self.depth)
        drawn = [name for name, start in layers.items() if callable(start)]
        keys = dict(zip(drawn, jax.random.split(key, len(drawn)), strict=True))
        return {self.prefix + name: start(keys[name]) if callable(start) else start for name, start in layers.items()}

    def __call__(self, params: Params, inputs: Array, /) -> Array:
        """Compute features, from (batch, inputs) to (batch, width)."""
        computed = {
            "mlp": self._hidden_layers,
            "mlp_layernorm": self._hidden_layers,
            "bronet": self._residual_stream,
            "simba": self._simba,
            "attention": self._transformer,
        }
        own = {name.removeprefix(self.prefix): layer for name, layer in params.items()}
        return computed[self.config.network](own, inputs)

    def _hidden_layers(self, params: Params, x: Array) -> Array:
        activation = ACTIVATIONS[self.config.activation]
        for number in range(1, self.depth + 1):
            x = dense(params[f"layer{number}"], x)  # (batch, width)
            x = activation(norm(params[f"norm{number}"], x) if f"norm{number}" in params else x)
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

    def _simba(self, params: Params, x: Array) -> Array:
        stream = dense(params["layer"], x)  # (batch, width)
        for number in range(1, self.depth + 1):
            stream = stream + self._feedforward(params, number, stream)
        return norm(params["norm"], stream)

    def _transformer(self, params: Params, x: Array) -> Array:
        slope, intercept = (params[f"tokens.{part}"]["embedding"] for part in ("slope", "intercept"))
        stream = x[..., None] * slope + intercept  # (batch, token, width)
        for number in range(1, self.depth + 1):
            projections = (params[f"attention{number}/{part}"] for part in ("query", "key", "value", "out"))
            stream = stream + attend(norm(params[f"attention{number}.norm"], stream), *projections)
            stream = stream + self._feedforward(params, number, stream)
        return norm(params["norm"], stream).mean(1)

    def _feedforward(self, params: Params, number: int, stream: Array) -> Array:
        """Return what a block adds to the stream, (..., width)."""
        first, layer1, layer2 = (params[f"block{number}.{part}"] for part in ("norm", "layer1", "layer2"))
        hidden = ACTIVATIONS[self.config.activation](dense(layer1, norm(first, stream)))  # (..., wide)
        return dense(layer2, hidden)


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


def discover_layout(network: Network, inputs: int) -> na.Layout:
    """Find a network's neuron groups, in the order of its layers, and what they feed, by inputs of a length."""
    samples, weights = jax.random.split(jax.random.key(0))
    some = jax.random.normal(samples, (8, inputs))
    params = network.start(weights)
    found = layout_of(params, lambda params: network(params, some))
    return na.Layout([found[name] for name in params])
