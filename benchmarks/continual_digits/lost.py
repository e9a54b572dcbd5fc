"""What sigmoid and leaky ReLU networks lose, where no neuron dies: ``python -m benchmarks.continual_digits.lost``.

Trains them on the tasks of the study without resets, plain or with something that might help, and measures weights,
features and curvature after each task. Writes a table to the standard output, and a picture.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.continual_digits.jax_runs import forward, nested
from benchmarks.continual_digits.study import Study, draw_tasks, initial_weights
from neuroactivity.tables import format_table
from reference_agents.commandline import parse, tell
from reference_agents.errors import UsageError
from reference_agents.running.files import check_target, replacing

TRIALS: Final[Mapping[str, Mapping[str, Any]]] = {
    "nothing": {},
    "learning rate 3e-4": {"learning_rate": 3e-4},
    "learning rate 3e-4 from the last ten tasks on": {"slow_end": True},
    "a new Adam at each task": {"new_adam": True},
    "LayerNorm": {"network": "layernorm"},
    "L2 toward zero, 1e-4": {"toward": "zero", "strength": 1e-4},
    "L2 toward zero, 1e-3": {"toward": "zero", "strength": 1e-3},
    "L2 toward the start, 1e-4": {"toward": "start", "strength": 1e-4},
    "L2 toward the start, 1e-3": {"toward": "start", "strength": 1e-3},
}
DRAWN: Final = {"nothing": "#8a8f98", "LayerNorm": "#d9822b", "L2 toward the start, 1e-3": "#1b6ca8"}
ITERATIONS: Final = 30
"""Of the power method, for the largest curvature."""
QUANTITIES: Final = ("accuracy", "norm of the weights", "effective rank of the features", "largest curvature")


@dataclass(frozen=True, kw_only=True)
class Command:
    """Measure what is lost, and what helps."""

    out: Path = Path("docs/results/lost.png")
    """File for the picture."""
    activations: tuple[str, ...] = ("leaky_relu", "sigmoid")
    """Activation functions."""
    trials: tuple[str, ...] = tuple(TRIALS)
    """What is tried."""
    seeds: int = 2
    """Runs of each."""
    tasks: int = 40
    """Tasks of each run."""


def train(study: Study, trial: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the quantities, by (quantity, seed, task)."""
    tasks = draw_tasks(study)
    seeds = range(study.seed, study.seed + study.seeds)
    drawn = [nested(initial_weights(study, np.random.default_rng(seed))) for seed in seeds]
    start = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
    images, strength, toward = jnp.asarray(tasks.images), trial.get("strength", 0.0), trial.get("toward") == "start"
    end = {(study.tasks - 10) * study.steps_per_task: 0.1} if trial.get("slow_end") else None
    tx = optax.adam(optax.piecewise_constant_schedule(study.learning_rate, end))

    def cross_entropy(params: Any, inputs: Array, labels: Array) -> Array:
        logits = forward(study, params, inputs)[0]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def loss(params: Any, first: Any, inputs: Array, labels: Array) -> Array:
        moved = jax.tree.map(lambda new, old: jnp.sum((new - old * toward) ** 2), params, first)
        return jnp.add(cross_entropy(params, inputs, labels), strength * sum(jax.tree.leaves(moved)))

    @jax.jit
    @jax.vmap
    def task(params: Any, state: Any, first: Any, labels: Array, batches: Array) -> tuple[Any, Any, Array]:
        def step(run: tuple[Any, Any], batch: Array) -> tuple[tuple[Any, Any], None]:
            grads = jax.grad(loss)(run[0], first, images[batch], labels[batch])
            updates, state = tx.update(grads, run[1])
            return (optax.apply_updates(run[0], updates), state), None

        curvature = largest_curvature(lambda params: cross_entropy(params, images, labels), params)
        state = tx.init(params) if trial.get("new_adam") else state
        (params, state), _ = jax.lax.scan(step, (params, state), batches)
        logits, outputs = forward(study, params, images)
        values = jnp.linalg.svd(outputs["hidden2"] - outputs["hidden2"].mean(0), compute_uv=False)
        shares = values / values.sum()
        rank = jnp.exp(-jnp.sum(shares * jnp.log(shares + 1e-12)))
        norm = norm_of({name: layer["kernel"] for name, layer in params.items() if "kernel" in layer})
        return params, state, jnp.stack([(logits.argmax(1) == labels).mean(), norm, rank, curvature])

    params, state, found = start, jax.vmap(tx.init)(start), []
    for number in range(study.tasks):
        params, state, quantities = task(params, state, start, tasks.labels[:, number], tasks.batches[:, number])
        found.append(np.asarray(quantities))
    return np.stack(found, axis=-1).swapaxes(0, 1).astype(float)


def norm_of(tree: Any) -> Array:
    """Return the norm of all arrays together."""
    norm: Array = jnp.linalg.norm(ravel_pytree(tree)[0])
    return norm


def largest_curvature(loss: Any, params: Any) -> Array:
    """Return the largest eigenvalue of the loss's Hessian, in magnitude, by the power method."""
    slope = jax.grad(loss)

    def again(direction: Any, _: None) -> tuple[Any, Array]:
        product = jax.jvp(slope, (params,), (direction,))[1]
        size = norm_of(product)
        return jax.tree.map(lambda leaf: leaf / (size + 1e-12), product), size

    direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
    sizes: Array = jax.lax.scan(again, again(direction, None)[0], None, length=ITERATIONS)[1]
    return sizes[-1]


def draw(found: Mapping[tuple[str, str], NDArray[np.float64]], activations: Sequence[str]) -> Figure:
    """Plot the quantities over the tasks, one row of panels for each activation function."""
    figure = Figure(figsize=(12, 2.7 * len(activations)), layout="constrained")
    panels = figure.subplots(len(activations), len(QUANTITIES), sharex=True, squeeze=False)
    for row, activation in zip(panels, activations, strict=True):
        for number, (axes, quantity) in enumerate(zip(row, QUANTITIES, strict=True)):
            for trial, color in DRAWN.items():
                if (activation, trial) in found:
                    values = found[activation, trial][number]
                    tasks = np.arange(1, values.shape[1] + 1)
                    axes.plot(tasks, values.T, color=color, linewidth=0.6, alpha=0.4)
                    axes.plot(tasks, np.median(values, axis=0), color=color, linewidth=2, label=trial)
            axes.set_title(f"{activation}: {quantity}", fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_yscale("log" if quantity == "largest curvature" else "linear")
            axes.set_ylim(bottom=None if quantity == "largest curvature" else 0)
    for axes in panels[-1]:
        axes.set_xlabel("task")
    panels[0, 0].legend(frameon=False, fontsize=8)
    return figure


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m benchmarks.continual_digits.lost")))


def _run(command: Command) -> None:
    if unknown := sorted(set(command.trials) - set(TRIALS)):
        raise UsageError(f"trials: unknown {unknown[0]!r}; choose from {', '.join(TRIALS)}")
    check_target(command.out)
    found, rows = {}, []
    for activation in command.activations:
        for name in command.trials:
            trial = TRIALS[name]
            options = {key: trial[key] for key in ("network", "learning_rate") if key in trial}
            size = {"seeds": command.seeds, "tasks": command.tasks}
            study = Study(activation=activation, reset="none", **size, **options)  # type: ignore[arg-type]
            values = found[activation, name] = train(study, trial)
            late = values[:, :, -10:].mean((1, 2))
            rows.append((activation, name, f"{values[0, :, :10].mean():.3f}", *map("{:.3g}".format, late)))
    header = ("network", "with", "accuracy, first ten", "last ten", "norm", "rank", "curvature")
    print("\n".join(format_table(header, rows, words=header[:2])))
    with replacing(command.out) as file:
        draw(found, command.activations).savefig(file, format="png", dpi=120)


if __name__ == "__main__":
    sys.exit(main())
