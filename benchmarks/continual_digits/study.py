"""The continual-digits study: its settings, its tasks and its initial weights, the same in every framework.

A network is trained on a sequence of tasks, each with new random labels for the same images. There is no transfer and
nothing to forget between tasks, so falling accuracy means loss of plasticity.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_agents.errors import UsageError

__all__ = [
    "CLASSES",
    "DORMANT_TAU",
    "GRAMA_TAU",
    "HIDDEN",
    "Outcome",
    "Study",
    "Tasks",
    "draw_tasks",
    "initial_weights",
]

IMAGES, PIXELS, HIDDEN, CLASSES, BATCH = 512, 64, 128, 10, 64
GRAMA_TAU: Final = 0.01
DORMANT_TAU: Final = 0.025

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Settings of a study. The defaults are those of the first table in ``docs/results.md``, one row of it."""

    framework: Literal["torch", "jax", "tensorflow"] = "jax"
    """Deep learning framework."""
    activation: Literal["relu", "tanh", "sigmoid", "leaky_relu"] = "relu"
    """Activation function of the two hidden layers."""
    network: Literal["mlp", "layernorm", "residual"] = "mlp"
    """Plain, with layer norms before the activation functions, or with a skip around the second hidden layer."""
    reset: Literal["none", "redo", "regrama", "continual"] = "regrama"
    """Method that resets inactive neurons; with none they are only measured. continual is discrete continual backprop
    as in ccbp-pytorch, for comparison, in jax only."""
    clock: Literal["own", "run"] = "own"
    """The optimizer's step count at reset entries: their own, or the run's as in published codes."""
    batches: int = 1
    """Batches that a score is made of."""
    outgoing: Literal["zero", "small", "fresh", "keep"] = "zero"
    """What the outgoing weights of a reset neuron become."""
    replacement_rate: float = 0.01
    """Fraction of the neurons that continual replaces at each of its resets."""
    seeds: int = 10
    """Number of runs, each with different labels, batches and weights."""
    seed: int = 0
    """The first run's seed; the others follow."""
    tasks: int = 60
    """Number of tasks in the sequence."""
    steps_per_task: int = 400
    """Steps of Adam on a task."""
    reset_every: int = 100
    """Steps between two resets."""
    learning_rate: float = 3e-3
    """Learning rate of Adam, whose state is kept from task to task."""
    init: Literal["he", "lecun"] = "he"
    """Weights normal with a variance of 2 or 1 over the number of inputs; biases zero."""
    standardize: bool = False
    """Whether each pixel is brought to mean 0 and standard deviation 1 over the images, instead of X/16 - 0.3."""
    tau: float | None = None
    """Threshold of the reset; by default 0.01 for regrama and 0.025 for redo."""

    def __post_init__(self) -> None:
        for name in ("seeds", "tasks", "steps_per_task", "reset_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise UsageError(f"seed: expected at least 0, got {self.seed}")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate: expected a positive number, got {self.learning_rate}")
        if self.tau is not None and not 0 <= self.tau < math.inf:
            raise UsageError(f"tau: expected a number of 0 or more, got {self.tau}")
        if not 1 <= self.batches <= self.reset_every:
            raise UsageError(f"batches: expected 1 to reset_every={self.reset_every}, got {self.batches}")
        if not 0 <= self.replacement_rate <= 1:
            raise UsageError(f"replacement_rate: expected a number from 0 to 1, got {self.replacement_rate}")
        if self.reset == "continual" and self.framework != "jax":
            raise UsageError(f"reset: continual is there in jax only, got framework {self.framework!r}")

    @property
    def threshold(self) -> float:
        """The ``tau`` in force."""
        if self.tau is not None:
            return self.tau
        return DORMANT_TAU if self.reset == "redo" else GRAMA_TAU

    @property
    def wrapper_options(self) -> dict[str, Any]:
        """The options of ReDo's or ReGraMa's wrapper that are the same in every framework."""
        options = {name: getattr(self, name) for name in ("clock", "batches", "outgoing")}
        return options | {"tau": self.threshold, "every": self.reset_every}

    @property
    def gain(self) -> float:
        """The variance of a weight, times the number of its inputs."""
        return 2.0 if self.init == "he" else 1.0


class Tasks(NamedTuple):
    """Data of all runs: shared images, and labels and batches of each run."""

    images: NDArray[np.float32]  # (image, pixel)
    labels: NDArray[np.int32]  # (seed, task, image)
    batches: NDArray[np.int32]  # (seed, task, step, sample): indices of images


class Outcome(NamedTuple):
    """Results, each (seed, task)."""

    accuracy: NDArray[np.float64]
    inactive_grama: NDArray[np.float64]
    inactive_dormant: NDArray[np.float64]
    resets: NDArray[np.int64]
    measured_again: NDArray[np.int64]
    """Neurons that were measured once more since they were reset, at the next measurement."""
    reset_again: NDArray[np.int64]
    """Those of them that were inactive then."""


def load_images(study: Study) -> NDArray[np.float32]:
    """Load the first 512 of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    raw = load_digits().data[:IMAGES]
    if not study.standardize:
        return np.asarray(raw / 16 - 0.3, np.float32)
    spread = raw.std(axis=0)
    return np.asarray((raw - raw.mean(axis=0)) / np.where(spread > 0, spread, 1), np.float32)  # some are always 0


def draw_tasks(study: Study) -> Tasks:
    """Draw labels and batches of every run from its seed."""
    labels, batches = [], []
    for seed in range(study.seed, study.seed + study.seeds):
        generator = np.random.default_rng([seed, 0])
        labels.append(generator.integers(CLASSES, size=(study.tasks, IMAGES), dtype=np.int32))
        size = (study.tasks, study.steps_per_task, BATCH)
        batches.append(generator.integers(IMAGES, size=size, dtype=np.int32))
    return Tasks(load_images(study), np.stack(labels), np.stack(batches))


def initial_weights(study: Study, generator: np.random.Generator) -> Weights:
    """Draw a network's weights: kernels ``(inputs, outputs)``, biases, and scales and shifts of the norms."""
    sizes = {"hidden1": (PIXELS, HIDDEN), "hidden2": (HIDDEN, HIDDEN), "out": (HIDDEN, CLASSES)}
    weights: Weights = {}
    for name, (inputs, outputs) in sizes.items():
        spread = math.sqrt(study.gain / inputs)
        weights[f"{name}/kernel"] = generator.normal(0, spread, (inputs, outputs)).astype(np.float32)
        weights[f"{name}/bias"] = np.zeros(outputs, np.float32)
        if study.network == "layernorm" and name != "out":
            weights[f"norm{name[-1]}/scale"] = np.ones(outputs, np.float32)
            weights[f"norm{name[-1]}/bias"] = np.zeros(outputs, np.float32)
    return weights
