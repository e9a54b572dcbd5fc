"""Gradients whose measurement is timed: one matrix, or those of BRO's twin critics."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import neuroactivity as na


@dataclass(frozen=True)
class Workload:
    """Gradients to be measured, and where their neurons lie: along the rows as in PyTorch, or along the columns."""

    name: str
    neurons: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def megabytes(self) -> float:
        """Size of the gradients in float32."""
        return sum(4 * float(np.prod(shape)) for shape in self.shapes.values()) / 2**20

    @property
    def axis(self) -> int:
        """The axis of a matrix that is averaged away."""
        return 1 if self.neurons == "rows" else 0

    @property
    def layout(self) -> na.Layout:
        """Every gradient as a group of its own."""
        pattern = "neuron in" if self.neurons == "rows" else "in neuron"
        return na.Layout(
            na.dense(name, weight=(name, pattern)) if len(shape) == 2 else na.norm(name, scale=name)
            for name, shape in self.shapes.items()
        )

    def draw(self) -> dict[str, np.ndarray]:
        """Normal gradients in float32."""
        generator = np.random.default_rng(0)
        return {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in self.shapes.items()}


def single(size: int, neurons: str) -> Workload:
    """One square gradient."""
    return Workload(f"{size} x {size}", neurons, {"weight": (size, size)})


def bro(neurons: str, *, width: int = 512, blocks: int = 2, inputs: int = 88, outputs: int = 100) -> Workload:
    """A pair of BRO critics: residual blocks of two dense layers and two normalisations, 2.3 million parameters."""
    shapes: dict[str, tuple[int, ...]] = {}
    for critic in range(2):
        layers = [(width, inputs), *[(width, width)] * (2 * blocks), (outputs, width)]
        for i, shape in enumerate(layers):
            shapes[f"critic{critic}/dense{i}"] = shape if neurons == "rows" else shape[::-1]
            if i < len(layers) - 1:
                shapes[f"critic{critic}/norm{i}"] = (width,)
    return Workload("BRO critics", neurons, shapes)
