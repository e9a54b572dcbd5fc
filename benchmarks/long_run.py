"""A run of 200,000 steps with resets: memory, time, compilations and the log stay as they were in its first tenth.

A small network learns a target that changes every 1,000 steps, with ReGraMa around Adam, measured every 100th step and
recorded in a file. Each line stands for a tenth of the run: milliseconds of processor time per step, peak memory, how
often the step has been compiled, neurons reset so far, and bytes in the file. The digest at the end is over all
parameters, so two runs with one seed can be compared.

    python -m benchmarks.long_run --framework torch --steps 200000 --seed 0 --out runs/long_torch
"""

import argparse
import hashlib
import itertools
import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import neuroactivity as na
from neuroactivity.tables import format_table

INPUTS, WIDTH, BATCH, TASK, EVERY = 8, 32, 16, 1000, 100
OPTIONS: dict[str, Any] = {"tau": 0.1, "every": EVERY, "max_fraction": 0.1}


@dataclass(frozen=True)
class Tenth:
    """What one tenth of a run cost.

    Attributes:
        steps: Done so far.
        milliseconds: Of processor time, per step of this tenth.
        mebibytes: Peak memory of the process so far.
        compiled: How often the step has been compiled so far.
        resets: Neurons reset so far.
        file_bytes: Size of the file of records.
    """

    steps: int
    milliseconds: float
    mebibytes: float
    compiled: int
    resets: int
    file_bytes: int


@dataclass(frozen=True)
class Learner:
    """A network in training.

    Attributes:
        step: Takes a batch of inputs and of targets, and updates the network.
        values: Returns all parameters.
        compiled: Returns how often ``step`` has been compiled.
    """

    step: Callable[[np.ndarray, np.ndarray], object]
    values: Callable[[], list[np.ndarray]]
    compiled: Callable[[], int]


def torch_learner(seed: int, on_report: Callable[[na.ActivityReport], None]) -> Learner:
    """In PyTorch, one operation after the other."""
    import torch
    from torch import nn

    from neuroactivity_torch import ReGraMa

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden = (nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        model = nn.Sequential(*hidden, nn.Linear(WIDTH, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    ReGraMa(model, optimizer, example_inputs=torch.ones(BATCH, INPUTS), seed=seed, on_report=on_report, **OPTIONS)

    def step(x: np.ndarray, y: np.ndarray) -> None:
        optimizer.zero_grad()
        (model(torch.from_numpy(x)) - torch.from_numpy(y)).square().mean().backward()
        optimizer.step()

    return Learner(step, lambda: [p.detach().numpy() for p in model.parameters()], lambda: 0)


def jax_learner(seed: int, on_report: Callable[[na.ActivityReport], None]) -> Learner:
    """In JAX, compiled."""
    import jax
    import jax.numpy as jnp
    import optax

    from neuroactivity_jax import layout_of, regrama

    def initial(key: jax.Array) -> list[dict[str, jax.Array]]:
        widths = (INPUTS, WIDTH, WIDTH, 1)
        draw = jax.nn.initializers.he_normal()
        keys = jax.random.split(key, 3)
        shapes = itertools.pairwise(widths)
        return [{"w": draw(k, shape), "b": jnp.zeros(shape[1])} for k, shape in zip(keys, shapes, strict=True)]

    def apply(layers: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
        for layer in layers[:-1]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return x @ layers[-1]["w"] + layers[-1]["b"]

    params = initial(jax.random.key(seed))
    layout = layout_of(params, lambda params: apply(params, jnp.ones((BATCH, INPUTS))))
    tx = regrama(optax.adam(1e-3), layout, initializer=initial, seed=seed, on_report=on_report, **OPTIONS)

    def update(carry: tuple[Any, Any], x: jax.Array, y: jax.Array) -> tuple[Any, Any]:
        params, state = carry
        grads = jax.grad(lambda params: jnp.square(apply(params, x) - y).mean())(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    carry = [(params, tx.init(params))]
    compiled: Any = jax.jit(update)

    def step(x: np.ndarray, y: np.ndarray) -> None:
        carry[0] = compiled(carry[0], x, y)

    return Learner(step, lambda: [np.asarray(leaf) for leaf in jax.tree.leaves(carry[0][0])], compiled._cache_size)


def tensorflow_learner(seed: int, on_report: Callable[[na.ActivityReport], None]) -> Learner:
    """In TensorFlow and Keras, as a graph."""
    import keras
    import tensorflow as tf

    from neuroactivity_tensorflow import ReGraMa

    def dense(units: int, activation: str | None, offset: int) -> keras.layers.Dense:
        return keras.layers.Dense(units, activation, kernel_initializer=keras.initializers.HeNormal(seed + offset))

    layers = [dense(WIDTH, "relu", 0), dense(WIDTH, "relu", 1), dense(1, None, 2)]
    model = keras.Sequential([keras.Input((INPUTS,)), *layers])
    example_inputs = tf.ones((BATCH, INPUTS))
    optimizer = ReGraMa(
        keras.optimizers.Adam(1e-3), model, example_inputs=example_inputs, seed=seed, on_report=on_report, **OPTIONS
    )
    optimizer.build(model.trainable_variables)

    def update(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x) - y))
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    graph = tf.function(update)

    def step(x: np.ndarray, y: np.ndarray) -> None:
        graph(tf.constant(x), tf.constant(y))

    return Learner(step, lambda: [v.numpy() for v in model.variables], graph.experimental_get_tracing_count)


LEARNERS = {"torch": torch_learner, "jax": jax_learner, "tensorflow": tensorflow_learner}


def batches(seed: int, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield inputs, and the outputs of a random network that is replaced every ``TASK`` steps."""
    for step in range(steps):
        if step % TASK == 0:
            rng = np.random.default_rng([seed, step])
            teacher = rng.normal(size=(INPUTS, 1)).astype(np.float32)
        x = rng.normal(size=(BATCH, INPUTS)).astype(np.float32)
        yield x, np.sin(x @ teacher)


def long_run(framework: str, *, steps: int, seed: int, out: Path) -> tuple[list[Tenth], str]:
    """Train for ``steps``, and return what each tenth cost, and a digest of the parameters."""
    out.mkdir(parents=True, exist_ok=True)
    records = out / "records.jsonl"
    records.unlink(missing_ok=True)
    write = na.JsonLines(records, every=EVERY)
    resets = [0]

    def on_report(report: na.ActivityReport) -> None:
        write(report)
        resets[0] += report.total.reset or 0

    learner = LEARNERS[framework](seed, on_report)
    tenths, started = [], time.process_time()
    for done, (x, y) in enumerate(batches(seed, steps), start=1):
        learner.step(x, y)
        if done % (steps // 10) == 0:
            values = learner.values()  # waits for the last step
            spent, started = time.process_time() - started, time.process_time()
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            size = records.stat().st_size
            tenths.append(Tenth(done, 1e4 * spent / steps, memory, learner.compiled(), resets[0], size))
    return tenths, hashlib.sha256(b"".join(value.tobytes() for value in values)).hexdigest()[:16]


def main() -> None:
    """Print a table, and write it to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=sorted(LEARNERS), required=True)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.steps < 10 * EVERY:
        parser.error(f"--steps must be at least {10 * EVERY:,}, so that each tenth holds a measurement")
    tenths, digest = long_run(args.framework, steps=args.steps, seed=args.seed, out=args.out)
    head = ["steps", "ms/step", "peak MiB", "compiled", "resets", "file bytes"]
    formats = ("{:,}", "{:.3f}", "{:.0f}", "{}", "{:,}", "{:,}")
    rows = [[text.format(value) for text, value in zip(formats, astuple(t), strict=True)] for t in tenths]
    print("\n".join(format_table(head, rows, words=())), f"digest {digest}", sep="\n")
    record = {"framework": args.framework, "seed": args.seed, "tenths": [asdict(t) for t in tenths], "digest": digest}
    (args.out / "long_run.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
