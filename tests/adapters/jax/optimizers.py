"""Real optax optimizers, and a small tree of parameters, each of a shape of its own, with gradients for them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

import neuroactivity as na

RATE = 0.1

OPTIMIZERS = {
    "sgd momentum": lambda: optax.sgd(RATE, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(RATE),
    "adamw with a schedule": lambda: optax.adamw(optax.linear_schedule(RATE, 0.01, 10), weight_decay=0.01),
    "rmsprop": lambda: optax.rmsprop(RATE, momentum=0.9, centered=True, initial_scale=0.5),
    "adagrad": lambda: optax.adagrad(RATE, initial_accumulator_value=0.25),
    "lion": lambda: optax.lion(RATE),
    "adabelief": lambda: optax.adabelief(RATE),
    "nadam": lambda: optax.nadam(RATE),
    "amsgrad": lambda: optax.amsgrad(RATE),
    "radam": lambda: optax.radam(RATE),
    "rprop": lambda: optax.rprop(RATE),
    "schedule free": lambda: optax.contrib.schedule_free_adamw(RATE),
    "clipped adam": lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(RATE), optax.ema(0.9)),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(optax.linear_schedule(RATE, 0.01, 10)),
    "masked": lambda: optax.masked(optax.adam(RATE), {"a": True, "out": False}),
    "multi_transform": lambda: optax.multi_transform(
        {"adam": optax.adam(RATE), "sgd": optax.sgd(RATE, momentum=0.9)}, {"a": "adam", "out": "sgd"}
    ),
    "MultiSteps": lambda: optax.MultiSteps(optax.adam(RATE), 2),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.adam(RATE), 3),
}

SHAPES = {"a": {"kernel": (3, 7), "bias": (7,)}, "out": {"kernel": (7, 2)}}

LAYOUT = na.Layout(
    [
        na.dense("a", weight=("a/kernel", "in neuron"), bias="a/bias", outgoing=[("out/kernel", "neuron out")]),
        na.dense("out", weight=("out/kernel", "in neuron"), resettable=False),
    ]
)


def initial(key):
    """Fresh parameters, of one draw, which compiles sooner than one for each."""
    leaves, structure = jax.tree.flatten(SHAPES, is_leaf=lambda node: isinstance(node, tuple))
    ends = np.cumsum([math.prod(shape) for shape in leaves])
    parts = jnp.split(jax.random.uniform(key, (int(ends[-1]),), minval=-1.0), ends[:-1].tolist())
    return jax.tree.unflatten(structure, [part.reshape(s) for part, s in zip(parts, leaves, strict=True)])


def gradients_for(steps, seed=0):
    """A gradient for each step, stacked, in which some neurons always have little: 1 and 4."""
    rng = np.random.default_rng(seed)
    grads = jax.tree.map(
        lambda shape: rng.normal(size=(steps, *shape)).astype(np.float32),
        SHAPES,
        is_leaf=lambda node: isinstance(node, tuple),
    )
    grads["a"]["kernel"][..., [1, 4]] *= 1e-3
    return jax.tree.map(jnp.asarray, grads)


GRADS = jax.device_get(gradients_for(12))
PARAMS = jax.device_get(initial(jax.random.key(0)))


def at(step):
    """The gradients of a step, to be changed at will."""
    return jax.tree.map(lambda gradient: gradient[step].copy(), GRADS)


def compiled(tx, **extra):
    """Compile an update and its application."""

    def step(grads, state, params):
        updates, state = tx.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    return jax.jit(step)


def run(step, state, steps, params=PARAMS):
    """Take some steps."""
    for number in steps:
        params, state = step(at(number), state, params)
    return params, state


def stacked(*trees):
    """Put trees of several runs into one."""
    return jax.tree.map(lambda *values: jnp.stack(values), *trees)


def member(tree, number):
    """Take the tree of one run."""
    return jax.tree.map(lambda value: value[number], tree)
