"""Discrete continual backprop as in ccbp-pytorch 0.0.3, restated for the networks of the study, in JAX.

Every ``every`` steps the neurons of lowest utility among those that are at least ``MATURITY`` steps old are replaced, a
fixed fraction of them: incoming weights drawn anew, bias and outgoing weights zero. The utility is a running average of
the gradient's mean magnitude over the layer's mean. Adam's first moments start at zero, its second ones at the mean of
the layer's others.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import neuroactivity as na
from benchmarks.continual_digits.study import GRAMA_TAU
from neuroactivity_jax import gradients

__all__ = ["continual"]

NEXT: Final = {"hidden1": "hidden2", "hidden2": "out"}
"""Hidden layers, and the layer after each."""
MATURITY: Final = 100
DECAY: Final = 0.99
EPSILON: Final = 1e-8

Params = dict[str, dict[str, Array]]


class Layer(NamedTuple):
    """What is known of the neurons of a layer."""

    utility: Array
    age: Array
    remainder: Array
    """Part of a neuron that is still to be replaced."""
    replaced: Array
    """Neurons replaced at the last reset."""


class State(NamedTuple):
    """State of the optimizer."""

    inner: Any
    steps: Array
    layers: dict[str, Layer]
    neurons_reset: Array
    measured_again: Array
    reset_again: Array


def continual(
    inner: optax.GradientTransformation,
    layout: na.Layout,
    *,
    initializer: Callable[[Array], Params],
    every: int,
    rate: float,
    shared: tuple[str, ...] = (),
    key: Array,
) -> optax.GradientTransformationExtraArgs:
    """Wrap Adam so that it replaces the fraction ``rate`` of each hidden layer every ``every`` steps.

    Weights of the layers in ``shared`` are left alone, since a skip leads to them, too.
    """

    def init(params: Params) -> State:
        sizes = {name: params[name]["bias"].size for name in NEXT}
        layers = {
            name: Layer(jnp.ones(size), jnp.zeros(size), jnp.float32(0), jnp.zeros(size, bool))
            for name, size in sizes.items()
        }
        return State(inner.init(params), jnp.int32(0), layers, *(jnp.int32(0) for _ in range(3)))

    def update(grads: Params, state: State, params: Params, **_: Any) -> tuple[Any, State]:
        updates, (adam, *rest) = inner.update(grads, state.inner, params)
        new = optax.apply_updates(params, updates)
        steps = state.steps + 1
        due, draw = steps % every == 0, jax.random.fold_in(key, steps)
        fresh, layers = initializer(draw), {}
        scores, measured, again = na.grama(gradients(grads), layout), state.measured_again, state.reset_again
        for number, (name, following) in enumerate(NEXT.items()):
            before = state.layers[name]
            layers[name] = layer = choose(before, grads[name], due, rate, jax.random.fold_in(draw, number))
            outgoing = None if following in shared else following
            new, adam = replace(new, adam, fresh, name, outgoing, layer.replaced & due)
            group = name if name in scores else name.replace("hidden", "norm")
            measured += jnp.where(due, before.replaced.sum(), 0)
            again += jnp.where(due, (before.replaced & (scores[group] <= GRAMA_TAU)).sum(), 0)
        count = sum((jnp.where(due, layer.replaced.sum(), 0) for layer in layers.values()), state.neurons_reset)
        moved = jax.tree.map(jnp.subtract, new, params)
        return moved, State((adam, *rest), steps, layers, count, measured, again)

    return optax.GradientTransformationExtraArgs(init, update)


def choose(layer: Layer, grads: dict[str, Array], due: Array, rate: float, key: Array) -> Layer:
    """Update the utilities of a layer, and choose the neurons to replace if that is due."""
    magnitude = jnp.abs(grads["kernel"]).mean(0) + jnp.abs(grads["bias"])
    utility = DECAY * layer.utility + (1 - DECAY) * magnitude / jnp.maximum(magnitude.mean(), EPSILON)
    mature = layer.age >= MATURITY
    ideal = mature.sum() * rate + layer.remainder
    number = jnp.floor(ideal)
    one_more = jax.random.uniform(key) < ideal - number
    remainder = jnp.where(one_more, 0, ideal - number)
    ranks = jnp.argsort(jnp.argsort(jnp.where(mature, utility, jnp.inf)))
    chosen = (ranks < number + one_more) & mature & due
    return Layer(
        jnp.where(chosen, 1.0, utility),
        jnp.where(chosen, 0.0, layer.age) + 1,
        jnp.where(due, remainder, layer.remainder),
        jnp.where(due, chosen, layer.replaced),
    )


def replace(
    params: Params, adam: Any, fresh: Params, name: str, following: str | None, chosen: Array
) -> tuple[Params, optax.ScaleByAdamState]:
    """Write new neurons, and Adam's moments of all that is written."""
    zero = jnp.zeros(())
    places = [(name, "kernel", chosen[None, :], fresh[name]["kernel"]), (name, "bias", chosen, zero)]
    if following is not None:
        places.append((following, "kernel", chosen[:, None], zero))
    params, mu, nu = (jax.tree.map(lambda leaf: leaf, tree) for tree in (params, adam.mu, adam.nu))  # copies
    for layer, kind, mask, values in places:
        params[layer][kind] = jnp.where(mask, values, params[layer][kind])
        mu[layer][kind] = jnp.where(mask, 0, mu[layer][kind])
        others = jnp.broadcast_to(~mask, nu[layer][kind].shape)
        nu[layer][kind] = jnp.where(mask, jnp.mean(nu[layer][kind], where=others), nu[layer][kind])
    return params, adam._replace(mu=mu, nu=nu)
