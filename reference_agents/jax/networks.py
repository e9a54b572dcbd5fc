"""Networks of the JAX agents: pure functions of their parameters, with PyTorch's default initialisation.

Parameters are a dictionary of layers by name, such as ``block1.layer1``, with Flax's array names: ``kernel``, (in,
out), ``scale``, ``bias`` and ``embedding``. The projections of attention also have Flax's names, such as
``attention1/query``, by which the adapter recognises them.
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
Initializer: TypeAlias = Layer | Callable[[Array], Layer]
"""Initial arrays of a layer: constants, or a function of a key."""

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
    """Initialise a dense layer as ``torch.nn.Linear`` does."""
    bound = inputs**-0.5
    drawn = jax.random.uniform(key, (inputs + 1, outputs), minval=-bound, maxval=bound)
    return {"kernel": drawn[:-1], "bias": drawn[-1]}


def split_heads(key: Array, width: int) -> Layer:
    """Initialise a dense layer with outputs of shape (heads, channels)."""
    layer = linear(key, width, width)
    return {"kernel": layer["kernel"].reshape(width, HEADS, -1), "bias": layer["bias"].reshape(HEADS, -1)}


def merge_heads(key: Array, width: int) -> Layer:
    """Initialise a dense layer with inputs of shape (heads, channels)."""
    layer = linear(key, width, width)
    return {"kernel": layer["kernel"].reshape(HEADS, -1, width), "bias": layer["bias"]}


def entry_embedding(key: Array, inputs: int, width: int) -> Layer:
    """Initialise a vector for each entry of the input as in FT-Transformer (Gorishniy et al. 2021)."""
    bound = width**-0.5
    return {"embedding": jax.random.uniform(key, (inputs, width), minval=-bound, maxval=bound)}


def layer_norm_init(width: int) -> Layer:
    """Initialise a LayerNorm."""
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}


def dense(layer: Layer, x: Array) -> Array:
    """Apply a dense layer, from (..., in) to (..., out)."""
    return x @ layer["kernel"] + layer["bias"]


def norm(layer: Layer, x: Array) -> Array:
    """Apply a LayerNorm, (..., width)."""
    return jax.nn.standardize(x, epsilon=1e-5) * layer["scale"] + layer["bias"]


def attention(x: Array, query: Layer, key: Layer, value: Layer, out: Layer) -> Array:
    """Apply multi-head self-attention, (batch, token, width)."""
    heads = (
        jnp.einsum("btw,whd->bthd", x, layer["kernel"]) + layer["bias"]  # (batch, token, head, dim)
        for layer in (query, key, value)
    )
    mixed = jax.nn.dot_product_attention(*heads)  # (batch, token, head, dim)
    return jnp.einsum("bthd,hdw->btw", mixed, out["kernel"]) + out["bias"]


class Network(Protocol):
    """A network as a pair of pure functions: ``init`` and the forward pass."""

    def init(self, key: Array) -> Params:
        """Draw initial parameters."""

    def __call__(self, params: Params, inputs: Array, /) -> object:
        """Compute the outputs of inputs, (batch, inputs)."""


def _dense(inputs: int, outputs: int) -> Initializer:
    return partial(linear, inputs=inputs, outputs=outputs)


def _mlp_layers(inputs: int, width: int, depth: int) -> dict[str, Initializer]:
    return {f"layer{number}": _dense(inputs if number == 1 else width, width) for number in range(1, depth + 1)}


def _mlp_layernorm_layers(inputs: int, width: int, depth: int) -> dict[str, Initializer]:
    layers: dict[str, Initializer] = {}
    for number in range(1, depth + 1):
        layers[f"layer{number}"] = _dense(inputs if number == 1 else width, width)
        layers[f"norm{number}"] = layer_norm_init(width)
    return layers


def _bronet_layers(inputs: int, width: int, depth: int) -> dict[str, Initializer]:
    layers: dict[str, Initializer] = {"layer": _dense(inputs, width), "norm": layer_norm_init(width)}
    for number in range(1, depth + 1):
        for part in (1, 2):
            layers[f"block{number}.layer{part}"] = _dense(width, width)
            layers[f"block{number}.norm{part}"] = layer_norm_init(width)
    return layers


def _simba_layers(inputs: int, width: int, depth: int) -> dict[str, Initializer]:
    layers: dict[str, Initializer] = {"layer": _dense(inputs, width)}
    for number in range(1, depth + 1):
        layers |= _feedforward_layers(f"block{number}", width, EXPANSION["simba"] * width)
    return {**layers, "norm": layer_norm_init(width)}


def _transformer_layers(inputs: int, width: int, depth: int) -> dict[str, Initializer]:
    layers: dict[str, Initializer] = dict.fromkeys(
        ("tokens.slope", "tokens.intercept"), partial(entry_embedding, inputs=inputs, width=width)
    )
    for number in range(1, depth + 1):
        layers[f"attention{number}.norm"] = layer_norm_init(width)
        for part in ("query", "key", "value"):
            layers[f"attention{number}/{part}"] = partial(split_heads, width=width)
        layers[f"attention{number}/out"] = partial(merge_heads, width=width)
        layers |= _feedforward_layers(f"block{number}", width, EXPANSION["attention"] * width)
    return {**layers, "norm": layer_norm_init(width)}


def _feedforward_layers(name: str, width: int, wide: int) -> dict[str, Initializer]:
    return {
        f"{name}.norm": layer_norm_init(width),
        f"{name}.layer1": _dense(width, wide),
        f"{name}.layer2": _dense(wide, width),
    }


LAYERS: Final = MappingProxyType(
    {
        "mlp": _mlp_layers,
        "mlp_layernorm": _mlp_layernorm_layers,
        "bronet": _bronet_layers,
        "simba": _simba_layers,
        "attention": _transformer_layers,
    }
)
"""Initial layers of each architecture, by name and in their order."""


@dataclass(frozen=True)
class Trunk:
    """A network without its output layer.

    An MLP has ``layer1`` to ``layer{depth}``, each followed by the activation function, and LayerNorms ``norm1`` ...
    in between if configured. BRO-net has ``layer`` with ``norm`` and residual blocks ``block1`` to ``block{depth}``
    (Liu et al. 2025, A.1). SimBa (Lee et al. 2025) has ``layer``, blocks and ``norm``; its running observation
    normalisation and its initialisation are left out. A transformer has ``tokens``, ``attention1`` and ``block1`` ...,
    ``norm``, and a mean over the tokens.

    Attributes:
        config: Architecture, activation function and width.
        inputs: Size of an input.
        depth: Number of hidden layers (MLP), or of residual blocks after the first layer.
        prefix: Prefix of all layer names.
    """

    config: Config
    inputs: int
    depth: int
    prefix: str = ""

    def init(self, key: Array) -> Params:
        """Draw initial parameters."""
        layers = LAYERS[self.config.network](self.inputs, self.config.width, self.depth)
        random = [name for name, init in layers.items() if callable(init)]
        keys = dict(zip(random, jax.random.split(key, len(random)), strict=True))
        return {self.prefix + name: init(keys[name]) if callable(init) else init for name, init in layers.items()}

    def __call__(self, params: Params, inputs: Array, /) -> Array:
        """Compute features, from (batch, inputs) to (batch, width)."""
        forward = {
            "mlp": self._mlp,
            "mlp_layernorm": self._mlp,
            "bronet": self._bronet,
            "simba": self._simba,
            "attention": self._transformer,
        }
        layers = {name.removeprefix(self.prefix): layer for name, layer in params.items()}
        return forward[self.config.network](layers, inputs)

    def _mlp(self, params: Params, x: Array) -> Array:
        activation = ACTIVATIONS[self.config.activation]
        for number in range(1, self.depth + 1):
            x = dense(params[f"layer{number}"], x)  # (batch, width)
            x = activation(norm(params[f"norm{number}"], x) if f"norm{number}" in params else x)
        return x

    def _bronet(self, params: Params, x: Array) -> Array:
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
            stream = stream + attention(norm(params[f"attention{number}.norm"], stream), *projections)
            stream = stream + self._feedforward(params, number, stream)
        return norm(params["norm"], stream).mean(1)

    def _feedforward(self, params: Params, number: int, stream: Array) -> Array:
        """Compute the residual of a feedforward block, (..., width)."""
        first, layer1, layer2 = (params[f"block{number}.{part}"] for part in ("norm", "layer1", "layer2"))
        hidden = ACTIVATIONS[self.config.activation](dense(layer1, norm(first, stream)))  # (..., wide)
        return dense(layer2, hidden)


@dataclass(frozen=True)
class NetworkWithHead:
    """A trunk with an output layer, ``head``: a network from (batch, inputs) to (batch, outputs)."""

    trunk: Trunk
    outputs: int

    def init(self, key: Array) -> Params:
        """Draw initial parameters."""
        trunk, head = jax.random.split(key)
        return {**self.trunk.init(trunk), "head": linear(head, self.trunk.config.width, self.outputs)}

    def __call__(self, params: Params, inputs: Array, /) -> Array:
        """Compute outputs, from (batch, inputs) to (batch, outputs)."""
        return dense(params["head"], self.trunk(params, inputs))


def network(config: Config, inputs: int, outputs: int, depth: int) -> NetworkWithHead:
    """Build a trunk with an output layer, from (batch, inputs) to (batch, outputs)."""
    return NetworkWithHead(Trunk(config, inputs, depth), outputs)


def discover_layout(network: Network, inputs: int) -> na.Layout:
    """Discover a network's layout, with the groups in the order of its layers, on random inputs of a size."""
    samples, weights = jax.random.split(jax.random.key(0))
    batch = jax.random.normal(samples, (8, inputs))
    params = network.init(weights)
    layout = layout_of(params, lambda params: network(params, batch))
    return na.Layout([layout[name] for name in params])
