"""One small network in NumPy: its weights, its layout, its gradients, and what a reset makes of them.

``first`` feeds a gated unit, ``relu(value) * relu(gate)``, which feeds ``out``. Kernels are ``(in, out)`` and
parameters are called ``first/kernel``, as in Flax and Keras; a driver brings both into its framework's form.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

import neuroactivity as na

Values: TypeAlias = dict[str, np.ndarray]
"""Arrays by parameter name."""

SHAPES = {"first": (5, 7), "value": (7, 6), "gate": (7, 6), "out": (6, 2)}
LAYERS = tuple(SHAPES)
READERS = {"first": ("value", "gate"), "value": ("out",), "gate": ("out",), "out": ()}
PARTNERS = {"value": ("gate",), "gate": ("value",)}
DEAD = {"first": [1, 4], "value": [2], "gate": [2]}
"""Neurons that never fire and get no gradient; of a gated unit both factors."""


class Counts(NamedTuple):
    """What a wrapper counts."""

    steps: int
    measurements: int
    resets: int
    neurons_reset: int


def draw(seed: int) -> Values:
    """Draw an array for every parameter."""
    rng = np.random.default_rng(seed)
    shapes = {f"{layer}/kernel": shape for layer, shape in SHAPES.items()}
    shapes |= {f"{layer}/bias": shape[1:] for layer, shape in SHAPES.items()}
    return {name: rng.normal(0, 0.5, shape).astype("float32") for name, shape in shapes.items()}


def weights(dead: Mapping[str, list[int]] = DEAD, seed: int = 0) -> Values:
    """Draw weights with which these neurons are dead and all others alive."""
    values = draw(seed)
    for layer in LAYERS:
        values[f"{layer}/bias"] = np.abs(values[f"{layer}/bias"]) + np.float32(0.5)
        if layer in PARTNERS:  # a product of positive numbers
            values[f"{layer}/kernel"] = np.abs(values[f"{layer}/kernel"])
        values[f"{layer}/kernel"][:, dead.get(layer, [])] = 0.0
        values[f"{layer}/bias"][dead.get(layer, [])] = -1.0
    return values


def gradients(dead: Mapping[str, list[int]] = DEAD, seed: int = 0) -> Values:
    """Draw gradients that are zero for the incoming parameters of these neurons, and for nothing else."""
    grads = draw(100 + seed)
    for layer, neurons in dead.items():
        grads[f"{layer}/kernel"][:, neurons] = 0.0
        grads[f"{layer}/bias"][neurons] = 0.0
    return grads


X = np.random.default_rng(7).normal(size=(32, 5)).astype("float32")
FRESH = weights({}, seed=50)


def forward(params: Mapping[str, Any], x: Any, relu: Any) -> Any:
    """Compute the network on arrays of any library."""

    def dense(layer: str, x: Any) -> Any:
        return x @ params[f"{layer}/kernel"] + params[f"{layer}/bias"]

    hidden = relu(dense("first", x))
    return dense("out", relu(dense("value", hidden)) * relu(dense("gate", hidden)))


def layout(**changes: Any) -> na.Layout:
    """Describe the network; ``changes`` are fields of all groups, or of one: ``first={"activation": ...}``."""
    common = {field: value for field, value in changes.items() if field not in LAYERS}
    groups = []
    for layer, readers in READERS.items():
        group = na.dense(
            layer,
            weight=(f"{layer}/kernel", "in neuron"),
            bias=f"{layer}/bias",
            outgoing=[(f"{reader}/kernel", "neuron out") for reader in readers],
            resettable=layer != "out",
        )
        groups.append(replace(group, partners=PARTNERS.get(layer, ()), **{**common, **changes.get(layer, {})}))
    return na.Layout(groups)


FIRST_ALONE = layout(value={"resettable": False}, gate={"resettable": False})
"""Only neurons of the first layer are reset."""


def reset(values: Values, dead: Mapping[str, list[int]], fresh: Values | None) -> Values:
    """Write fresh incoming values (zeros without any) and zero outgoing ones, neuron by neuron."""
    new = {name: value.copy() for name, value in values.items()}
    for layer, neurons in dead.items():
        for name in (f"{layer}/kernel", f"{layer}/bias"):
            new[name][..., neurons] = 0.0 if fresh is None else fresh[name][..., neurons]
    for layer, neurons in dead.items():
        for reader in READERS[layer]:
            new[f"{reader}/kernel"][neurons] = 0.0
    return new
