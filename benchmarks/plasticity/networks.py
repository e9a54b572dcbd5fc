"""Q networks as pure functions of nested dictionaries."""

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.plasticity.experiment import Experiment

__all__ = ["Params", "apply", "draw"]

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "leaky_relu": jax.nn.leaky_relu}
CHANNELS = 16

Params = dict[str, dict[str, Array]]


def draw(experiment: Experiment, key: Array, inputs: int, outputs: int) -> Params:
    """Draw the initial weights: He-normal (LeCun-normal for tanh), biases zero."""
    width = experiment.width
    shapes: dict[str, tuple[int, ...]] = {"hidden1": (inputs, width), "hidden2": (width, width)}
    if experiment.network == "conv":
        shapes = {"hidden1": (3, 3, 1, CHANNELS), "hidden2": (inputs * CHANNELS, width)}
    shapes["out"] = (width, outputs)
    gain = 1.0 if experiment.activation == "tanh" else 2.0
    initializer = jax.nn.initializers.variance_scaling(gain, "fan_in", "normal")
    params: Params = {}
    for (name, shape), layer_key in zip(shapes.items(), jax.random.split(key, len(shapes)), strict=True):
        params[name] = {"kernel": initializer(layer_key, shape), "bias": jnp.zeros(shape[-1])}
        if experiment.network == "layernorm" and name != "out":
            params[f"norm{name[-1]}"] = {"scale": jnp.ones(shape[-1]), "bias": jnp.zeros(shape[-1])}
    return params


def apply(experiment: Experiment, params: Params, observations: Array) -> tuple[Array, dict[str, Array]]:
    """Return the values of all actions, (sample, action), and the outputs of the layers by name."""

    def hidden(number: int, x: Array) -> Array:
        x = x @ params[f"hidden{number}"]["kernel"] + params[f"hidden{number}"]["bias"]
        if experiment.network == "layernorm":
            norm = params[f"norm{number}"]
            x = jax.nn.standardize(x, epsilon=1e-5) * norm["scale"] + norm["bias"]
        return ACTIVATIONS[experiment.activation](x)

    if experiment.network == "conv":
        images = observations.reshape(-1, experiment.rows, experiment.columns, 1)
        dimensions = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            images, params["hidden1"]["kernel"], (1, 1), "SAME", dimension_numbers=dimensions
        )
        x = ACTIVATIONS[experiment.activation](x + params["hidden1"]["bias"])
        flat = x.reshape(x.shape[0], -1)
    else:
        x = flat = hidden(1, observations)
    y = hidden(2, flat)
    outputs = {"hidden1": x, "norm1": x, "hidden2": y, "norm2": y}
    y = x + y if experiment.network == "residual" else y
    values = y @ params["out"]["kernel"] + params["out"]["bias"]
    return values, outputs | {"out": values}
