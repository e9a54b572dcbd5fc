"""Shared parts of the TensorFlow agents: twin critics, gradient steps, target networks, serialisation."""

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
from reference_agents.running.files import check_sizes
from reference_agents.seeding import derive
from reference_agents.tensorflow.networks import Tensor, network

Variables: TypeAlias = Sequence[Any]
"""Variables of Keras or TensorFlow."""


def limit_threads(threads: int) -> None:
    """Limit TensorFlow's CPU threads.

    TensorFlow fixes the number at its first computation; later calls in the same process have no effect. Two operations
    may run at once whatever the limit: ReDo calls Python, which holds one thread and needs another.
    """
    with suppress(RuntimeError):  # TensorFlow is initialised already
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(2, threads))


def twin_critics(config: Config, observation_size: int, action_size: int) -> list[keras.Sequential]:
    """Build two Q-networks, from (batch, observation + action) to (batch, 1), with different initial weights."""
    seeds = [derive(config.seed, "weights", name) for name in ("critic1", "critic2")]
    return [network(config, observation_size + action_size, 1, config.depth, seed) for seed in seeds]


def adam(rate: float) -> keras.optimizers.Adam:
    """Build an Adam optimizer with PyTorch's epsilon, which Keras adds before it corrects the bias."""
    return keras.optimizers.Adam(rate, epsilon=1e-8)


def weights(*networks: keras.Model) -> Variables:
    """Return the trainable variables of networks."""
    return [variable for network in networks for variable in network.trainable_variables]


def critic_inputs(observations: Tensor, actions: Tensor) -> Tensor:
    """Concatenate observations and actions, (batch, observation + action)."""
    return tf.concat([observations, actions], 1)


def min_q(critics: Sequence[keras.Model], observations: Tensor, actions: Tensor) -> Tensor:
    """Return the minimum of both critics' Q-values, (batch, 1)."""
    inputs = critic_inputs(observations, actions)
    return tf.minimum(critics[0](inputs), critics[1](inputs))


def gradient_step(tape: tf.GradientTape, loss: Tensor, optimizer: keras.Optimizer, variables: Variables) -> None:
    """Minimise a loss by one optimizer step."""
    optimizer.apply(tape.gradient(loss, variables), variables)


def polyak_update(targets: Variables, online: Variables, polyak: float) -> None:
    """Update the weights of target networks: target += polyak * (online - target)."""
    for target, variable in zip(targets, online, strict=True):
        target.assign_add(polyak * (variable - target))


def prune(model: keras.Model, masks: Masks, layout: na.Layout) -> None:
    """Prune masked neurons of a network in place."""
    tensors = {group: tf.constant(mask) for group, mask in masks.items()}
    write(model, analysis.prune(parameters(model), tensors, layout))


def pack(parts: Mapping[str, Variables], **values: Any) -> bytes:
    """Serialise the variables of an agent's parts as NumPy arrays, and further values as JSON."""
    arrays = {f"{name}/{i}": variable.numpy() for name, part in parts.items() for i, variable in enumerate(part)}
    file = io.BytesIO()
    np.savez(file, values=np.array(json.dumps(values)), **arrays)
    return file.getvalue()


def unpack(state: bytes, parts: Mapping[str, Variables]) -> dict[str, Any]:
    """Restore the variables of the parts from what ``pack`` wrote, and return the further values."""
    with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
        check_sizes(arrays.zip)
        for name, part in parts.items():
            for i, variable in enumerate(part):
                array, shape = arrays[f"{name}/{i}"], tuple(variable.shape)
                if array.shape != shape:
                    raise ValueError(f"{name}/{i}: expected {shape}, got {array.shape}")
                variable.assign(array)
        values: dict[str, Any] = json.loads(arrays["values"].item())
    return values
