"""ReBorn (Qin et al. 2024), restated: over-active neurons hand a part of what they do to dormant ones.

Every ``every`` updates each dormant neuron becomes a copy of an over-active one, chosen by lot, with incoming weights
and bias scaled by 0.3 to 0.8; the outgoing weights are divided among the original and its copies, five at most, so that
a plain ReLU network computes what it did but for the dormant neurons. Those for which none is left are drawn anew, with
outgoing weights of zero. The score is that of ReDo: dormant at up to ``tau``, over-active above 3. Adam's moments stay.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.continual_digits.continual import EPSILON, NEXT

__all__ = ["reborn"]

OVER_ACTIVE: Final = 3.0
COPIES: Final = 5
SCALES: Final = (0.3, 0.8)

Params = dict[str, dict[str, Array]]


class State(NamedTuple):
    """State of the optimizer."""

    inner: Any
    steps: Array
    replaced: dict[str, Array]
    """Neurons replaced at the last reset, by layer."""
    neurons_reset: Array
    measured_again: Array
    reset_again: Array


def reborn(
    inner: optax.GradientTransformation,
    *,
    initializer: Callable[[Array], Params],
    every: int,
    tau: float,
    shared: tuple[str, ...],
    key: Array,
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that neurons of scores up to ``tau`` are reborn every ``every`` updates.

    Weights of the layers in ``shared`` are left alone, since a skip leads to them, too.
    """

    def init(params: Params) -> State:
        replaced = {name: jnp.zeros(params[name]["bias"].shape, bool) for name in NEXT}
        return State(inner.init(params), jnp.int32(0), replaced, *(jnp.int32(0) for _ in range(3)))

    def update(
        grads: Params, state: State, params: Params, *, activations: dict[str, Array], **_: Any
    ) -> tuple[Any, State]:
        updates, moments = inner.update(grads, state.inner, params)
        steps = state.steps + 1
        due, draw = steps % every == 0, jax.random.fold_in(key, steps)
        before = optax.apply_updates(params, updates)
        scores = {name: _score(activations[name]) for name in NEXT}
        dormant = {name: score <= tau for name, score in scores.items()}
        new, fresh = before, initializer(draw)
        for number, (name, following) in enumerate(NEXT.items()):
            new = _reborn(new, fresh, name, following, scores[name], tau, jax.random.fold_in(draw, number))
        new = new | {name: before[name] for name in shared}
        new = jax.tree.map(lambda reset, old: jnp.where(due, reset, old), new, before)
        replaced = {name: jnp.where(due, dormant[name], state.replaced[name]) for name in NEXT}
        return jax.tree.map(jnp.subtract, new, params), State(moments, steps, replaced, *_counts(state, dormant, due))

    return optax.GradientTransformationExtraArgs(init, update)


def _counts(state: State, dormant: dict[str, Array], due: Array) -> Iterator[Array]:
    """Yield the neurons reset, measured again and found dormant again, in sum."""
    again = jax.tree.map(jnp.logical_and, state.replaced, dormant)
    counted = (state.neurons_reset, dormant), (state.measured_again, state.replaced), (state.reset_again, again)
    for total, masks in counted:
        yield total + due * sum(mask.sum() for mask in masks.values())


def _score(outputs: Array) -> Array:
    magnitude = jnp.abs(outputs).mean(0)
    return magnitude / jnp.maximum(magnitude.mean(), EPSILON)


def _reborn(params: Params, fresh: Params, name: str, following: str, score: Array, tau: float, key: Array) -> Params:
    """Write the neurons of a layer that are dormant, and the outgoing weights of those they are copied from."""
    lots, scales, noise = jax.random.split(key, 3)
    kernel, bias, outgoing = params[name]["kernel"], params[name]["bias"], params[following]["kernel"]
    dormant = score <= tau
    copied, original = _originals(dormant, score > OVER_ACTIVE, lots)
    scale = jax.random.uniform(scales, score.shape, minval=SCALES[0], maxval=SCALES[1])
    incoming = jnp.where(copied, scale * kernel[:, original], fresh[name]["kernel"])
    share = jnp.exp(jax.random.normal(noise, outgoing.shape))
    given = jax.ops.segment_sum(jnp.where(copied[:, None], share, 0.0), original, score.size)
    part = share / (share + given)[original]
    of_copies = jnp.where(copied[:, None], outgoing[original] * part / scale[:, None], 0.0)
    return params | {
        name: params[name]
        | {
            "kernel": jnp.where(dormant, incoming, kernel),
            "bias": jnp.where(dormant, jnp.where(copied, scale * bias[original], fresh[name]["bias"]), bias),
        },
        following: params[following]
        | {"kernel": jnp.where(dormant[:, None], of_copies, outgoing * share / (share + given))},
    }


def _originals(dormant: Array, over_active: Array, key: Array) -> tuple[Array, Array]:
    """Return which dormant neurons become copies, and each neuron's original, by lot; its own place for the others."""
    mine, theirs = jax.random.split(key)
    places = jnp.repeat(jnp.arange(dormant.size), COPIES)
    free = over_active[places]
    order = jnp.argsort(jnp.where(free, jax.random.uniform(theirs, places.shape), jnp.inf))
    rank = jnp.argsort(jnp.argsort(jnp.where(dormant, jax.random.uniform(mine, dormant.shape), jnp.inf)))
    copied = dormant & (rank < free.sum())
    return copied, jnp.where(copied, places[order][rank], jnp.arange(dormant.size))
