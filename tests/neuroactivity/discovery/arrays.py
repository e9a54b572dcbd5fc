"""Small networks whose gradients are written out by hand, for the arrays of any library."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import torch

import neuroactivity as na

LIBRARIES = {"numpy": np, "torch": torch, "jax": jnp}
BATCH, INPUTS, OUTPUTS = 12, 4, 3


def dense(name: str) -> na.NeuronGroup:
    """A layer whose rows are neurons."""
    return na.dense(name, weight=(f"{name}.weight", "neuron in"), bias=f"{name}.bias")


def without_bias(name: str) -> na.NeuronGroup:
    return na.dense(name, weight=(f"{name}.weight", "neuron in"))


def draws(sizes: Mapping[str, tuple[int, int]], *, count: int = 16, library: str = "numpy") -> list[dict[str, Any]]:
    """Draw parameters as an adapter does: weights of the size of an initialiser, biases 1 plus noise, in float32."""
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(count):
        values = {}
        for name, (neurons, inputs) in sizes.items():
            values[f"{name}.weight"] = generator.standard_normal((neurons, inputs)) / np.sqrt(inputs)
            values[f"{name}.bias"] = 1 + 0.1 * generator.standard_normal(neurons)
        drawn.append({name: LIBRARIES[library].asarray(value.astype("float32")) for name, value in values.items()})
    return drawn


def constants(library: str, *shapes: tuple[int, ...]) -> list[Any]:
    """Fixed noise: inputs and the projection of the outputs."""
    generator = np.random.default_rng(1)
    return [LIBRARIES[library].asarray(generator.standard_normal(shape).astype("float32")) for shape in shapes]


class Chain:
    """Two hidden layers: ``tanh`` and a choice of ``tanh`` and ``sigmoid``, then a head."""

    sizes: ClassVar = {"a": (6, INPUTS), "b": (5, 6), "head": (OUTPUTS, 5)}

    def __init__(self, library: str = "numpy", *, sigmoid: bool = False) -> None:
        self.xp, self.sigmoid = LIBRARIES[library], sigmoid
        self.x, self.projection = constants(library, (BATCH, INPUTS), (BATCH, OUTPUTS))

    def __call__(self, p: Mapping[str, Any]) -> dict[str, Any]:
        a = self.xp.tanh(self.x @ p["a.weight"].T + p["a.bias"])
        before = a @ p["b.weight"].T + p["b.bias"]
        b, slope = self._activate(before)
        db = (self.projection @ p["head.weight"]) * slope
        da = (db @ p["b.weight"]) * (1 - a**2)
        return {
            "head.weight": self.projection.T @ b,
            "head.bias": self.projection.sum(0),
            "b.weight": db.T @ a,
            "b.bias": db.sum(0),
            "a.weight": da.T @ self.x,
            "a.bias": da.sum(0),
        }

    def _activate(self, x: Any) -> tuple[Any, Any]:
        if self.sigmoid:
            y = (1 + self.xp.tanh(x / 2)) / 2
            return y, y * (1 - y)
        y = self.xp.tanh(x)
        return y, 1 - y**2


class Skip(Chain):
    """The first layer is read by the second and by the head as well, beside it."""

    sizes: ClassVar = {"a": (6, INPUTS), "b": (5, 6), "head": (OUTPUTS, 11)}

    def __call__(self, p: Mapping[str, Any]) -> dict[str, Any]:
        a = self.xp.tanh(self.x @ p["a.weight"].T + p["a.bias"])
        b, slope = self._activate(a @ p["b.weight"].T + p["b.bias"])
        both = self.xp.concatenate((b, a), 1)
        d = self.projection @ p["head.weight"]
        db = d[:, :5] * slope
        da = (d[:, 5:] + db @ p["b.weight"]) * (1 - a**2)
        return {
            "head.weight": self.projection.T @ both,
            "head.bias": self.projection.sum(0),
            "b.weight": db.T @ a,
            "b.bias": db.sum(0),
            "a.weight": da.T @ self.x,
            "a.bias": da.sum(0),
        }


class Gate(Chain):
    """A layer times a gate, and a head."""

    sizes: ClassVar = {"a": (6, INPUTS), "gate": (6, INPUTS), "head": (OUTPUTS, 6)}

    def __call__(self, p: Mapping[str, Any]) -> dict[str, Any]:
        a = self.x @ p["a.weight"].T + p["a.bias"]
        gate, slope = self._activate(self.x @ p["gate.weight"].T + p["gate.bias"])
        d = self.projection @ p["head.weight"]
        da, dgate = d * gate, d * a * slope
        return {
            "head.weight": self.projection.T @ (a * gate),
            "head.bias": self.projection.sum(0),
            "gate.weight": dgate.T @ self.x,
            "gate.bias": dgate.sum(0),
            "a.weight": da.T @ self.x,
            "a.bias": da.sum(0),
        }


class Bottleneck(Chain):
    """A layer without bias that reads one neuron alone, so that all of it is silent whenever that one is cut off."""

    sizes: ClassVar = {"a": (2, INPUTS), "b": (4, 1), "head": (OUTPUTS, 5)}

    def __call__(self, p: Mapping[str, Any]) -> dict[str, Any]:
        a = self.xp.tanh(self.x @ p["a.weight"].T + p["a.bias"])
        b = self.xp.maximum(a[:, :1] @ p["b.weight"].T, self.xp.zeros_like(a[:, :1]))
        d = self.projection @ p["head.weight"]
        db = d[:, :4] * (b > 0)
        da = self.xp.concatenate((db @ p["b.weight"], d[:, 4:]), 1) * (1 - a**2)
        return {
            "head.weight": self.projection.T @ self.xp.concatenate((b, a[:, 1:]), 1),
            "head.bias": self.projection.sum(0),
            "b.weight": db.T @ a[:, :1],
            "a.weight": da.T @ self.x,
            "a.bias": da.sum(0),
        }
