"""Partial resets as in CCBP: every neuron moves towards a new one, the further the less it learns.

The utility of a neuron is a running average of its gradient's mean magnitude over the layer's mean. At a reset a neuron
of utility ``u`` moves the part ``rate * sigmoid(-16 (u - 1))`` of the way: incoming weights towards new ones, bias and
outgoing weights towards zero. Adam's moments stay, and so do the output layer's neurons.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.continual_digits.continual import DECAY, EPSILON, NEXT

__all__ = ["part", "partial_resets"]

STEEPNESS: Final = 16.0

Params = dict[str, dict[str, Array]]


class State(NamedTuple):
    """State of the optimizer."""

    inner: Any
    steps: Array
    utility: dict[str, Array]


def part(utility: Array, rate: float) -> Array:
    """Return how far a neuron moves towards a new one, from 0 to ``rate``; half of ``rate`` at the layer's mean."""
    return rate * jax.nn.sigmoid(-STEEPNESS * (utility - 1))


def partial_resets(
    inner: optax.GradientTransformation,
    *,
    initializer: Callable[[Array], Params],
    every: int,
    rate: float,
    shared: tuple[str, ...] = (),
    key: Array,
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that it resets all hidden neurons in part every ``every`` steps.

    Weights of the layers in ``shared`` are left alone, since a skip leads to them, too.
    """

    def init(params: Params) -> State:
        utility = {name: jnp.ones_like(params[name]["bias"]) for name in NEXT}
        return State(inner.init(params), jnp.int32(0), utility)

    def update(grads: Params, state: State, params: Params, **_: Any) -> tuple[Any, State]:
        updates, moments = inner.update(grads, state.inner, params)
        steps = state.steps + 1
        new = {name: dict(layer) for name, layer in optax.apply_updates(params, updates).items()}
        fresh, utility = initializer(jax.random.fold_in(key, steps)), {}
        for name, following in NEXT.items():
            average = _averaged(state.utility[name], grads[name])
            moved = jnp.where(steps % every == 0, part(average, rate), 0.0)
            utility[name] = average + moved * (1 - average)
            kernel = new[name]["kernel"]
            new[name]["kernel"] = kernel + moved * (fresh[name]["kernel"] - kernel)
            new[name]["bias"] = (1 - moved) * new[name]["bias"]
            if following not in shared:
                new[following]["kernel"] = (1 - moved)[:, None] * new[following]["kernel"]
        return jax.tree.map(jnp.subtract, new, params), State(moments, steps, utility)

    return optax.GradientTransformationExtraArgs(init, update)


def _averaged(utility: Array, grads: dict[str, Array]) -> Array:
    magnitude = jnp.abs(grads["kernel"]).mean(0) + jnp.abs(grads["bias"])
    return DECAY * utility + (1 - DECAY) * magnitude / jnp.maximum(magnitude.mean(), EPSILON)
