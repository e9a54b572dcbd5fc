"""Actor-critics written once, as programs that run on PyTorch, JAX and TensorFlow, and their weights in one convention.

A program is given an object with the layers by name (``dense``, ``conv``, ``norm``, ``twin``) and the few functions
that all frameworks have (``relu``, ``tanh``, ``softmax``, ``einsum``, ``reshape``, ``flatten``). Weights are kept in
the convention of Flax: a kernel is ``in neuron``, ``h w in neuron`` or ``stack in neuron``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LEARNING_RATE, BETAS = 2.0**-10, (0.875, 1 - 2.0**-10)
"""The same in float32, in which Keras keeps them, and in float64."""

Values = Mapping[str, Mapping[str, np.ndarray]]
"""Arrays by layer and by kind: ``kernel``, ``bias``, ``scale``."""


@dataclass(frozen=True)
class Layer:
    """A layer: its kind, the shape of its kernel or scale, the image (h, w, channels) that it reads flattened."""

    kind: str
    shape: tuple[int, ...]
    image: tuple[int, int, int] | None = None
    bias: bool = True

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if self.kind == "norm":
            return {"scale": rng.uniform(0.5, 1.5, self.shape), "bias": rng.normal(0, 0.1, self.shape)}
        fan_in = np.prod(self.shape[:-1]) / (self.shape[0] if self.kind == "twin" else 1)
        bias = (self.shape[0], self.shape[-1]) if self.kind == "twin" else self.shape[-1:]
        kernel = rng.normal(0, fan_in**-0.5, self.shape)
        return {"kernel": kernel, "bias": rng.normal(0, 0.1, bias)} if self.bias else {"kernel": kernel}


@dataclass(frozen=True)
class Network:
    """A program, its layers in alphabetical order, and the shape of one input (an image has its channels last)."""

    run: Callable[[Any, Any], Any]
    layers: Mapping[str, Layer]
    input_shape: tuple[int, ...]

    def draw(self, seed: int) -> Values:
        """Draw weights."""
        rng = np.random.default_rng(seed)
        return {name: layer.draw(rng) for name, layer in self.layers.items()}

    def batch(self, seed: int, size: int = 16) -> np.ndarray:
        """Draw inputs."""
        return np.random.default_rng([seed, 1]).normal(size=(size, *self.input_shape))


def _dense(net, x):
    x = net.relu(net.dense("a", x))
    x = net.tanh(net.dense("b", x))
    return net.dense("policy", x), net.dense("value", x)


def _conv(net, x):
    x = net.relu(net.conv("a", x))
    x = net.flatten(net.relu(net.conv("b", x)))
    x = net.relu(net.dense("c", x))
    return net.dense("policy", x), net.dense("value", x)


def _attention(net, x):
    x = net.dense("embed", x)
    query, key, value = (net.reshape(net.dense(name, x), (-1, 5, 4, 8)) for name in ("query", "key", "value"))
    shares = net.softmax(net.einsum("bqhd,bkhd->bhqk", query, key) / 8**0.5)
    mixed = net.reshape(net.einsum("bhqk,bkhd->bqhd", shares, value), (-1, 5, 32))
    x = net.relu(net.dense("mix", mixed))
    x = net.reshape(x, (-1, 5 * 16))
    return net.dense("policy", x), net.dense("worth", x)


def _residual(net, x):
    x = net.relu(net.norm("a_norm", net.dense("a", x)))
    for block in "bc":
        inner = net.relu(net.norm(f"{block}1_norm", net.dense(f"{block}1", x)))
        x = x + net.norm(f"{block}2_norm", net.dense(f"{block}2", inner))
    return net.dense("policy", x), net.dense("value", x)


def _twin(net, x):
    x = net.relu(net.twin("a", x))
    x = net.relu(net.twin("b", x))
    return (net.twin("value", x),)


_HEADS = {"policy": Layer("dense", (24, 4)), "value": Layer("dense", (24, 1))}

NETWORKS = {
    "dense": Network(_dense, {"a": Layer("dense", (6, 32)), "b": Layer("dense", (32, 24)), **_HEADS}, (6,)),
    "conv": Network(
        _conv,
        {
            "a": Layer("conv", (3, 3, 2, 6)),
            "b": Layer("conv", (3, 3, 6, 8)),
            "c": Layer("dense", (4 * 4 * 8, 24), image=(4, 4, 8)),
            **_HEADS,
        },
        (8, 8, 2),
    ),
    "attention": Network(
        _attention,
        {
            "embed": Layer("dense", (3, 16)),
            "key": Layer("dense", (16, 32), bias=False),  # its gradient would be zero but for rounding
            "mix": Layer("dense", (32, 16)),
            "policy": Layer("dense", (80, 4)),
            "query": Layer("dense", (16, 32)),
            "value": Layer("dense", (16, 32)),
            "worth": Layer("dense", (80, 1)),
        },
        (5, 3),
    ),
    "residual": Network(
        _residual,
        {
            **{name: Layer("dense", (6 if name == "a" else 24, 24)) for name in ("a", "b1", "b2", "c1", "c2")},
            **{f"{name}_norm": Layer("norm", (24,)) for name in ("a", "b1", "b2", "c1", "c2")},
            **_HEADS,
        },
        (6,),
    ),
    "twin": Network(
        _twin,
        {"a": Layer("twin", (2, 6, 32)), "b": Layer("twin", (2, 32, 24)), "value": Layer("twin", (2, 24, 1))},
        (6,),
    ),
}
