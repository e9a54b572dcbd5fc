"""The study in JAX, all runs at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import neuroactivity as na
from benchmarks.continual_digits.continual import continual
from benchmarks.continual_digits.study import (
    CLASSES,
    DORMANT_TAU,
    GRAMA_TAU,
    HIDDEN,
    PIXELS,
    Outcome,
    Study,
    Tasks,
    initial_weights,
)
from neuroactivity_jax import gradients, layout_of, redo, regrama, summary

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "leaky_relu": jax.nn.leaky_relu}

Params = dict[str, dict[str, Array]]


class Run(NamedTuple):
    """Training state of a run."""

    params: Params
    state: optax.OptState


def forward(study: Study, params: Params, images: Array) -> tuple[Array, dict[str, Array]]:
    """Return the logits, (image, class), and the outputs of the layers by name."""

    def hidden(number: int, x: Array) -> Array:
        x = x @ params[f"hidden{number}"]["kernel"] + params[f"hidden{number}"]["bias"]
        if study.network == "layernorm":
            norm = params[f"norm{number}"]
            x = jax.nn.standardize(x, epsilon=1e-5) * norm["scale"] + norm["bias"]
        return ACTIVATIONS[study.activation](x)

    x = hidden(1, images)
    y = hidden(2, x)
    outputs = {"hidden1": x, "norm1": x, "hidden2": y, "norm2": y}
    y = x + y if study.network == "residual" else y
    logits = y @ params["out"]["kernel"] + params["out"]["bias"]
    return logits, outputs | {"out": logits}


def draw_weights(study: Study, key: Array) -> Params:
    """Draw a network's initial weights inside a compiled function."""
    sizes = {"hidden1": (PIXELS, HIDDEN), "hidden2": (HIDDEN, HIDDEN), "out": (HIDDEN, CLASSES)}
    params: Params = {}
    for (name, shape), layer_key in zip(sizes.items(), jax.random.split(key, len(sizes)), strict=True):
        kernel = jnp.sqrt(study.gain / shape[0]) * jax.random.normal(layer_key, shape)
        params[name] = {"kernel": kernel, "bias": jnp.zeros(shape[1])}
        if study.network == "layernorm" and name != "out":
            params[f"norm{name[-1]}"] = {"scale": jnp.ones(shape[1]), "bias": jnp.zeros(shape[1])}
    return params


def nested(weights: dict[str, Any]) -> Params:
    """Turn names such as ``hidden1/kernel`` into a nested dictionary."""
    params: Params = {}
    for name, value in weights.items():
        layer, kind = name.split("/")
        params.setdefault(layer, {})[kind] = value
    return params


def run(study: Study, tasks: Tasks, advance: Callable[[int], object]) -> Outcome:
    """Run all seeds; ``advance`` is called after each task with the number of tasks done."""
    seeds = range(study.seed, study.seed + study.seeds)
    drawn = [nested(initial_weights(study, np.random.default_rng(seed))) for seed in seeds]
    images = jnp.asarray(tasks.images)
    layout = layout_of(drawn[0], lambda params: forward(study, params, images[:16])[0])

    @jax.jit
    @jax.vmap
    def start(params: Params, key: Array) -> Run:
        return Run(params, optimizer(study, layout, key).init(params))

    @jax.jit
    @jax.vmap
    def train(run: Run, labels: Array, batches: Array, key: Array) -> tuple[Run, tuple[Array, ...]]:
        return _train(study, optimizer(study, layout, key), layout, run, images, labels, batches)

    keys = jax.vmap(jax.random.key)(jnp.array(seeds))
    runs = start(jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn), keys)
    outcomes = []
    for task in range(study.tasks):
        before = _resets(study, runs)
        runs, (accuracy, inactive, dormant, *lasting) = train(runs, tasks.labels[:, task], tasks.batches[:, task], keys)
        numbers = (accuracy, inactive, dormant, _resets(study, runs) - before, *lasting)
        outcomes.append([*map(np.asarray, numbers)])
        advance(study.seeds)
    return Outcome(*(np.stack(values, axis=1) for values in zip(*outcomes, strict=True)))


def optimizer(study: Study, layout: na.Layout, key: Array) -> optax.GradientTransformationExtraArgs:
    """Adam, with resets if the study has them."""
    adam = optax.adam(study.learning_rate)
    if study.reset == "none":
        return optax.with_extra_args_support(adam)
    initializer = lambda key: draw_weights(study, key)  # noqa: E731
    if study.reset == "continual":
        return continual(
            adam, layout, initializer=initializer, every=study.reset_every, rate=study.replacement_rate, key=key
        )
    wrap = regrama if study.reset == "regrama" else redo
    return wrap(adam, layout, initializer=initializer, seed=key, **study.wrapper_options)


def _train(
    study: Study,
    tx: optax.GradientTransformationExtraArgs,
    layout: na.Layout,
    run: Run,
    images: Array,
    labels: Array,
    batches: Array,
) -> tuple[Run, tuple[Array, ...]]:
    """Train on one task; return also accuracy, inactive fractions, neurons measured again and reset again."""

    def loss(params: Params, batch: Array) -> tuple[Array, dict[str, Array]]:
        logits, outputs = forward(study, params, images[batch])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean(), outputs

    def step(run: Run, batch: Array) -> tuple[Run, tuple[tuple[Array, Array], tuple[Array, Array]]]:
        grads, outputs = jax.grad(loss, has_aux=True)(run.params, batch)
        outputs = {name: outputs[name] for name in layout}
        updates, state = tx.update(grads, run.state, run.params, activations=outputs)
        shares = (
            _share(na.grama(gradients(grads), layout), GRAMA_TAU),
            _share(na.tau_dormant(outputs, layout), DORMANT_TAU),
        )
        return Run(optax.apply_updates(run.params, updates), state), (shares, _lasting(study, run.state, state))

    run, (shares, lasting) = jax.lax.scan(step, run, batches)
    accuracy = (forward(study, run.params, images)[0].argmax(1) == labels).mean()
    return run, (accuracy, *(share.mean() for share in shares), *(count.sum() for count in lasting))


def _lasting(study: Study, before: Any, after: Any) -> tuple[Array, Array]:
    """Return how many neurons this step measured again after their reset, and how many of them were inactive."""
    none = jnp.int32(0)
    if study.reset == "none":
        return none, none
    if study.reset == "continual":
        return after.measured_again - before.measured_again, after.reset_again - before.reset_again
    old, new = (summary(state, "now") for state in (before, after))
    due = (new["now/measurements"] > old["now/measurements"]) & (old["now/reset"] > 0)
    return jnp.where(due, old["now/reset"], none), jnp.where(due, new["now/reset_again"], none)


def _share(scores: dict[str, Array], tau: float) -> Array:
    """Return the fraction of hidden neurons with a score of at most ``tau``."""
    return jnp.concatenate([scores[name] <= tau for name in scores if name != "out"]).mean()


def _resets(study: Study, runs: Run) -> Any:
    """Return the neurons reset so far, by seed."""
    return np.zeros(study.seeds, int) if study.reset == "none" else np.asarray(runs.state.neurons_reset)
