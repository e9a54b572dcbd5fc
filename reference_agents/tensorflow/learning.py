"""What the updates of the TensorFlow agents have in common: twin critics, steps, target networks, a state to keep."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity import analysis
from neuroactivity_tensorflow import parameters, write
from reference_agents.agent import Masks
from reference_agents.config import Config
from reference_agents.seeding import derive
from reference_agents.tensorflow.networks import Tensor, network

Variables: TypeAlias = Sequence[Any]
"""Variables of Keras or TensorFlow."""


def limit_threads(threads: int) -> None:
    """Let TensorFlow compute with so many threads.

    It asks for the number once, when it first computes: in a process where it has done so before, that number stays.
    """
    with suppress(RuntimeError):  # it has computed before
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def twin_critics(config: Config, observation_size: int, action_size: int) -> list[keras.Sequential]:
    """Build two critics, from (batch, observation + action) to (batch, 1), alike but for their weights."""
    seeds = [derive(config.seed, "weights", name) for name in ("critic1", "critic2")]
    return [network(config, observation_size + action_size, 1, config.depth, seed) for seed in seeds]


def adam(rate: float) -> keras.optimizers.Adam:
    """Make an optimizer with PyTorch's epsilon."""
    return keras.optimizers.Adam(rate, epsilon=1e-8)


def weights(*networks: keras.Model) -> Variables:
    """Return what is trained in networks."""
    return [variable for network in networks for variable in network.trainable_variables]


def pairs(observations: Tensor, actions: Tensor) -> Tensor:
    """Return what a critic judges, (batch, observation + action)."""
    return tf.concat([observations, actions], 1)


def lowest(critics: Sequence[keras.Model], observations: Tensor, actions: Tensor) -> Tensor:
    """Return the lower of two critics' values, (batch, 1)."""
    inputs = pairs(observations, actions)
    return tf.minimum(critics[0](inputs), critics[1](inputs))


def descend(tape: tf.GradientTape, loss: Tensor, optimizer: keras.Optimizer, variables: Variables) -> None:
    """Take one step down a loss."""
    optimizer.apply(tape.gradient(loss, variables), variables)


def follow(targets: Variables, sources: Variables, rate: float) -> None:
    """Move the weights of target networks a fraction of the way towards the trained ones."""
    for slow, fast in zip(targets, sources, strict=True):
        slow.assign_add(rate * (fast - slow))


def prune(model: keras.Model, masks: Masks, layout: na.Layout) -> None:
    """Remove masked neurons of a network from what it computes."""
    marked = {group: tf.constant(mask) for group, mask in masks.items()}
    write(model, analysis.prune(parameters(model), marked, layout))


def pack(parts: Mapping[str, Variables], **values: Any) -> bytes:
    """Write the variables of an agent's parts, and its further values, as bytes: arrays of NumPy, and JSON."""
    arrays = {f"{name}/{i}": variable.numpy() for name, part in parts.items() for i, variable in enumerate(part)}
    file = io.BytesIO()
    np.savez(file, values=np.array(json.dumps(values)), **arrays)
    return file.getvalue()


def unpack(state: bytes, parts: Mapping[str, Variables]) -> dict[str, Any]:
    """Let the parts take over the variables that ``pack`` wrote, and return the further values."""
    with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
        for name, part in parts.items():
            for i, variable in enumerate(part):
                variable.assign(arrays[f"{name}/{i}"])
        values: dict[str, Any] = json.loads(arrays["values"].item())
    return values
