"""Train one small model on two logical devices in every way, and on one.

Run as a program, it prints the cells that are right, of those that its arguments choose. With ``TF_CONFIG`` it is one
of several workers, and prints a hash of what it holds at the end of each cell as well.
"""

import fnmatch
import hashlib
import itertools
import os
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    WORKERS = tf.distribute.MultiWorkerMirroredStrategy() if "TF_CONFIG" in os.environ else None

import functools
from contextlib import ExitStack
from functools import partial
from unittest import mock

import keras
import numpy as np
from keras.optimizers import SGD, Adam

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa, gradients, parameters
from tests.adapters.tensorflow import counts

X = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
Y = np.random.default_rng(1).normal(size=(64, 2)).astype("float32")
LAYOUT = na.Layout(
    [
        na.dense("a", weight=("0/kernel", "in neuron"), bias="0/bias", outgoing=[("1/kernel", "neuron out")]),
        na.dense("b", weight=("1/kernel", "in neuron"), bias="1/bias", outgoing=[("2/kernel", "neuron out")]),
    ]
)
OPTIONS = {"layout": LAYOUT, "tau": 0.05, "every": 2}
WRAPPERS = {
    "regrama": lambda model: ReGraMa(Adam(1e-2), model, initializer="snapshot", outgoing="small", **OPTIONS),
    "layer": lambda model: ReGraMa(Adam(1e-2), model, clock="run", on_report=lambda report: None, **OPTIONS),
    "function": lambda model: ReGraMa(Adam(1e-2), model, initializer=lambda key: parameters(make_model()), **OPTIONS),
    "batches": lambda model: ReGraMa(SGD(1e-2, momentum=0.9), model, batches=2, lowest=0.1, protect=1, **OPTIONS),
    "redo": lambda model: ReDo(SGD(1e-2, momentum=0.9), model, probe=lambda: X, initializer="snapshot", **OPTIONS),
}


def make_model():
    """Make a model of which three neurons are dead."""
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((5,)), dense(16, "relu"), dense(16, "relu"), dense(2)])
    for layer, dead in ((0, [3, 9]), (1, [0])):
        bias = np.zeros(16, "float32")
        bias[dead] = -50
        model.layers[layer].bias.assign(bias)
    return model


def fit(strategy, model, optimizer):
    model.compile(optimizer, loss="mse", jit_compile=False)
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0, shuffle=False)


def loop(strategy, model, optimizer, *, compiled):
    """Train in a loop of one's own; each replica sees its part of the batch."""
    batches = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices((X, Y)).batch(16))

    def step_of_replica(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / 32
        grads = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(list(zip(grads, model.trainable_variables, strict=True)))

    def step(batch):
        return strategy.run(step_of_replica, args=batch)

    step = tf.function(step) if compiled else step
    for batch in itertools.chain(batches, batches):
        step(batch)


WAYS = {"fit": fit, "loop": partial(loop, compiled=True), "eager": partial(loop, compiled=False)}


def train(strategy, kind, way):
    with strategy.scope():
        model = make_model()
        optimizer = WRAPPERS[kind](model)
    WAYS[way](strategy, model, optimizer)
    return model, optimizer


def variables(model, optimizer):
    return [*model.variables, *optimizer.variables, *optimizer.inner_optimizer.variables]


@functools.cache
def on_one_device(kind, way):
    model, optimizer = train(tf.distribute.get_strategy(), kind, way)
    return list(map(np.array, variables(model, optimizer))), optimizer.neurons_reset


def cell(kind, way):
    """Train on two devices: copies on both are the same, and what they are on one, up to rounding."""
    strategy = WORKERS or tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    model, optimizer = train(strategy, kind, way)
    expected, reset = on_one_device(kind, way)
    assert strategy.num_replicas_in_sync == 2
    assert optimizer.neurons_reset == reset >= 3, optimizer.neurons_reset
    held = hashlib.sha256()
    for variable, value in zip(variables(model, optimizer), expected, strict=True):
        copies = [np.asarray(copy) for copy in strategy.experimental_local_results(variable.value)]
        assert len(copies) == (1 if WORKERS else 2)
        assert np.array_equal(copies[0], copies[-1], equal_nan=value.dtype.kind == "f"), variable.path
        np.testing.assert_allclose(copies[0], value, rtol=2e-3, atol=2e-5, err_msg=variable.path)
        held.update(copies[0].tobytes())
    if WORKERS:
        print(held.hexdigest())


def scopes():
    """Make model, optimizer and wrapper inside of a strategy's scope and outside."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def inside(is_inside, make, *args):
        with strategy.scope() if is_inside else tf.init_scope():
            return make(*args)

    for places in itertools.product((False, True), repeat=3):
        model, inner = inside(places[0], make_model), inside(places[1], Adam)
        try:
            inside(places[2], lambda inner, model: ReGraMa(inner, model, layout=LAYOUT), inner, model)
            message = ""
        except ValueError as error:
            message = str(error)
        under = ("none", "MirroredStrategy") if not places[0] else ("MirroredStrategy", "none")
        expected = (
            "strategy: expected the model, the optimizer and this wrapper to be made under the same, got "
            f"{under[0]} and {under[1]}; make all of them in one strategy.scope()"
        )
        assert message == (expected if len(set(places)) > 1 else ""), (places, message)
    model = make_model()
    optimizer = WRAPPERS["layer"](model)
    try:
        WAYS["eager"](strategy, model, optimizer)
        message = ""
    except ValueError as error:
        message = str(error)
    assert message.startswith(
        "strategy: this wrapper was made under none and makes a step under MirroredStrategy; make the model, the "
        "optimizer and the wrapper in its strategy.scope()"
    ), message


def clipped():
    """Each replica clips its own gradients, as Keras does, and their sum is scored."""
    strategy, most = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), 0.02
    with strategy.scope():
        model = make_model()
        optimizer = ReGraMa(SGD(0.0, clipvalue=most), model, layout=LAYOUT, every=1, max_fraction=0)
    WAYS["loop"](strategy, model, optimizer)
    total = dict.fromkeys(parameters(model), 0.0)
    for part in (slice(48, 56), slice(56, 64)):  # of the last batch
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model(X[part]) - Y[part]) ** 2) / 32
        for name, gradient in gradients(model, tape.gradient(loss, model.trainable_variables)).items():
            total[name] += np.clip(gradient, -most, most)
    scores = optimizer._state.split(optimizer._scores.numpy())
    for name, expected in na.grama(total, LAYOUT).items():
        np.testing.assert_allclose(scores[name], expected, rtol=1e-4, err_msg=name)


def clock():
    """Entries that a reset wrote take the steps of a count of their own."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    inner, definition = counts.KINDS["Adam"]
    with strategy.scope():
        wrapper, held = counts.wrapped(inner, every=3)

    def step(*grads):
        strategy.run(lambda: wrapper.apply([gradient / 2 for gradient in grads], list(held.values())))

    assert counts.train(wrapper, held, tf.function(step), "float32", definition, 8) < 1e-5
    assert wrapper.resets == 2


def sent():
    """Between measurements nothing is reduced that the plain step does not reduce; at one, each gradient once more."""
    strategy, ops, numbers = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tf.distribute.CrossDeviceOps, []
    for every in (None, 1000, 2):
        with strategy.scope():
            model, optimizer = make_model(), Adam(1e-2)
            if every is not None:
                optimizer = ReGraMa(optimizer, model, layout=LAYOUT, every=every)
        held = model.trainable_variables
        grads = [tf.ones(v.shape) * tf.cast(tf.range(v.shape[-1]) > 0, "float32") for v in held]

        def step(optimizer=optimizer, grads=grads, held=held):
            optimizer.apply_gradients([(gradient / 2, v) for gradient, v in zip(grads, held, strict=True)])

        with ExitStack() as stack:
            single, several = (
                stack.enter_context(mock.patch.object(ops, name, autospec=True, side_effect=getattr(ops, name)))
                for name in ("reduce", "batch_reduce")
            )
            for _ in range(4):
                strategy.run(step)
        numbers.append(single.call_count + sum([len(call.args[2]) for call in several.call_args_list]))
    assert (optimizer.measurements, optimizer.resets) == (2, 2)
    plain, between, measuring = numbers
    assert between == plain > 0, numbers
    assert measuring == plain + 2 * len(held), numbers


CELLS = {f"{way} {kind}": partial(cell, kind, way) for way in WAYS for kind in WRAPPERS}
CELLS |= {"scopes": scopes, "clipped": clipped, "clock": clock, "sent": sent}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    chosen = [name for name in CELLS if any(fnmatch.fnmatch(name, pattern) for pattern in sys.argv[1:])]
    for name in chosen:
        try:
            CELLS[name]()
        except Exception as error:
            error.add_note(f"cell: {name}")
            raise
        print(name)
