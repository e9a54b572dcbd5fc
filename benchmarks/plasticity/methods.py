"""Ways to keep plasticity, each as an optax transformation.

ReGraMa and ReDo are used as anyone would use them. The others are restated from their papers, in their plainest form,
to compare with.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import neuroactivity as na
from benchmarks.continual_digits.continual import continual
from benchmarks.plasticity.experiment import Experiment
from benchmarks.plasticity.partial import partial_resets
from benchmarks.plasticity.reborn import reborn
from neuroactivity_jax import redo, regrama, summary

__all__ = ["counts", "optimizer"]

LAYERS_ANEW: Final = {
    "last_layer": (("out",),),  # Nikishin et al. 2022
    "layer_in_turn": (("hidden1", "norm1"), ("hidden2", "norm2")),
    "all_layers": (("hidden1", "norm1", "hidden2", "norm2", "out"),),  # Nikishin et al. 2022, D'Oro et al. 2023
}
"""Layers that a method draws anew, turn by turn."""

Params = Any
Draw = Callable[[Array], Params]
Change = Callable[[Params, Any, Array, Array], tuple[Params, Any]]


class Periodic(NamedTuple):
    """State of an optimizer that something is done to every so many updates."""

    inner: Any
    steps: Array


def optimizer(
    experiment: Experiment, layout: na.Layout, draw: Draw, key: Array
) -> optax.GradientTransformationExtraArgs:
    """Adam, with the method of the experiment around it.

    Args:
        experiment: Names the method and its settings.
        layout: Of the network.
        draw: Draws a new network from a key.
        key: Of all that the method draws.
    """
    rate, every, strength = experiment.learning_rate, experiment.every, experiment.strength or 0.0
    shared = ("out",) if experiment.network == "residual" else ()  # read by both hidden layers
    adam = optax.adam(rate)
    match experiment.reset:
        case "regrama" | "regrama_l2_init" | "regrama_weight_decay":
            inner = _regularized(experiment.reset.removeprefix("regrama_"), rate, strength)
            return regrama(inner, layout, initializer=draw, seed=key, **experiment.wrapper_options)
        case "redo":
            return redo(adam, layout, initializer=draw, seed=key, **experiment.wrapper_options)
        case "continual":  # Dohare et al. 2024
            return continual(adam, layout, initializer=draw, every=every, rate=strength, shared=shared, key=key)
        case "ccbp":
            return partial_resets(adam, initializer=draw, every=every, rate=strength, shared=shared, key=key)
        case "reborn":
            tau = experiment.tau or 0.0
            return reborn(adam, initializer=draw, every=every, tau=tau, shared=shared, key=key)
        case "l2_init" | "weight_decay":
            return _regularized(experiment.reset, rate, strength)
        case "large_eps":
            return optax.with_extra_args_support(optax.adam(rate, eps=strength))
        case "equal_betas":  # Dohare et al. 2023
            return optax.with_extra_args_support(optax.adam(rate, strength, strength))
    if experiment.reset in LAYERS_ANEW:
        layered = by_layer(adam)
        return periodically(layered, every, key, new_layers(draw, layered, LAYERS_ANEW[experiment.reset]))
    if (change := _change(experiment, draw, adam)) is not None:
        return periodically(adam, every, key, change)
    return optax.with_extra_args_support(adam)


def _regularized(method: str, rate: float, strength: float) -> optax.GradientTransformationExtraArgs:
    """Adam with a method that acts at every update, if it is one."""
    match method:
        case "l2_init":  # Kumar et al. 2023
            return optax.chain(toward_the_start(strength), optax.adam(rate))
        case "weight_decay":  # Loshchilov and Hutter 2019
            return optax.with_extra_args_support(optax.adamw(rate, weight_decay=strength))
    return optax.with_extra_args_support(optax.adam(rate))


def _change(experiment: Experiment, draw: Draw, adam: optax.GradientTransformation) -> Change | None:
    """Return what a method does to parameters and Adam's state every so many updates."""
    match experiment.reset:
        case "shrink_perturb":  # Ash and Adams 2020
            return shrink_perturb(draw, experiment.strength or 0.0)
        case "restart_adam":  # Asadi et al. 2023
            return lambda params, _, __, ___: (params, adam.init(params))
        case "adam_rel":  # Ellis et al. 2024
            return lambda params, state, _, __: (params, (state[0]._replace(count=jnp.int32(0)), *state[1:]))
    return None


def periodically(
    inner: optax.GradientTransformation, every: int, key: Array, change: Change
) -> optax.GradientTransformationExtraArgs:
    """Apply ``change(params, state, key, number of the change)`` after every ``every`` updates of ``inner``."""

    def init(params: Params) -> Periodic:
        return Periodic(inner.init(params), jnp.int32(0))

    def update(grads: Params, state: Periodic, params: Params, **_: Any) -> tuple[Params, Periodic]:
        updates, moments = inner.update(grads, state.inner, params)
        steps = state.steps + 1
        new = optax.apply_updates(params, updates)
        changed = jax.lax.cond(
            steps % every == 0,
            lambda: change(new, moments, jax.random.fold_in(key, steps), steps // every - 1),
            lambda: (new, moments),
        )
        return jax.tree.map(jnp.subtract, changed[0], params), Periodic(changed[1], steps)

    return optax.GradientTransformationExtraArgs(init, update)


def shrink_perturb(draw: Draw, strength: float) -> Change:
    """Move all parameters a part of the way to those of a new network."""

    def change(params: Params, state: Any, key: Array, _: Array) -> tuple[Params, Any]:
        return jax.tree.map(lambda old, new: (1 - strength) * old + strength * new, params, draw(key)), state

    return change


def by_layer(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Give each layer an optimizer of its own."""

    def init(params: Params) -> Any:
        return {name: inner.init(layer) for name, layer in params.items()}

    def update(grads: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        found = {
            name: inner.update(grad, state[name], None if params is None else params[name])
            for name, grad in grads.items()
        }
        return {name: updates for name, (updates, _) in found.items()}, {name: new for name, (_, new) in found.items()}

    return optax.GradientTransformation(init, update)


def new_layers(draw: Draw, layered: optax.GradientTransformation, turns: Sequence[Sequence[str]]) -> Change:
    """Draw layers anew, with new optimizers: the first ones of ``turns``, then the second ones, and so on."""

    def change(params: Params, state: Any, key: Array, number: Array) -> tuple[Params, Any]:
        fresh = draw(key)
        begun = layered.init(fresh)
        params, state = dict(params), dict(state)
        for turn, names in enumerate(turns):
            for name in set(names) & set(params):
                write = partial(jnp.where, number % len(turns) == turn)
                params[name] = jax.tree.map(write, fresh[name], params[name])
                state[name] = jax.tree.map(write, begun[name], state[name])
        return params, state

    return change


def toward_the_start(strength: float) -> optax.GradientTransformationExtraArgs:
    """Add the gradient of ``strength / 2`` times the squared distance from the initial parameters."""

    def update(grads: Params, start: Params, params: Params, **_: Any) -> tuple[Params, Params]:
        return jax.tree.map(lambda grad, now, then: grad + strength * (now - then), grads, params, start), start

    return optax.GradientTransformationExtraArgs(lambda params: params, update)


def counts(experiment: Experiment, before: Any, after: Any) -> tuple[Array, Array, Array]:
    """Return how many neurons an update reset, measured again after their reset, and found inactive again."""
    none = jnp.int32(0)
    if experiment.reset in ("continual", "reborn"):
        fields = ("neurons_reset", "measured_again", "reset_again")
        resets, measured, again = (getattr(after, name) - getattr(before, name) for name in fields)
        return resets, measured, again
    if experiment.tau is None:
        return none, none, none
    old, new = (summary(state, "now") for state in (before, after))
    due = (new["now/measurements"] > old["now/measurements"]) & (old["now/reset"] > 0)
    resets = new["now/neurons_reset"] - old["now/neurons_reset"]
    return resets, jnp.where(due, old["now/reset"], none), jnp.where(due, new["now/reset_again"], none)
