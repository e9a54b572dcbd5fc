"""Faults in TensorFlow and Keras."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from neuroactivity_tensorflow import ReGraMa, write
from tests.adapters.contract.faults_judged import compare, judge, loaded
from tests.adapters.contract.faults_shared import (
    HEALTHY,
    INFINITE,
    Scenario,
    at_write,
    each_write_fails,
    fail,
    failing_probe,
    interrupt,
    interrupted_at_each_write,
    made,
    shared,
    steps,
    then,
)
from tests.adapters.contract.network import DEAD, Values, gradients, layout, reset
from tests.adapters.contract.tensorflow_driver import Gated, TensorFlowDriver

SCALE = 1024.0
VARIABLE = type(tf.Variable(0.0))
make = partial(made, TensorFlowDriver)


def in_dtype(dtype: str, rounding: float = 0.0) -> str:
    keras.config.set_dtype_policy(dtype)
    try:
        return judge(make(), steps(gradients()), rounding=rounding)
    finally:
        keras.config.set_dtype_policy("float32")


def refused(action: Callable[[], Any]) -> str:
    try:
        action()
    except ValueError:
        return "refused"
    return "accepted"


def add_layer(model: Gated) -> None:
    """Give the model a layer that nothing calls."""
    model._tracker.unlock()
    model.spare = keras.layers.Dense(3, kernel_initializer="ones")
    model.spare.build((None, 3))


def tie(model: Gated) -> None:
    model.gate._tracker.unlock()
    model.gate._kernel = model.value._kernel
    model.gate._trainable_variables[0] = model.value._kernel


def replace(side: Any, width: int = 7) -> None:
    side.model._tracker.unlock()
    side.model.first = keras.layers.Dense(width)
    side.model.first.build((None, 5))


def changed_layer(width: int) -> str:
    """The model's layer is another one than the variables whose gradients come."""
    side = make()("regrama")
    old, variables = side.params(), [v for layer in side.trained for v in getattr(side.model, layer).variables]
    replace(side, width)
    grads = [
        tf.cast(gradients()[f"{layer}/{kind}"], "float32") for layer in side.trained for kind in ("kernel", "bias")
    ]
    with pytest.raises(ValueError, match="parameter 'first/kernel' was replaced or removed"):
        side.wrapper.apply(grads, variables)
    for variable, value in zip(variables, old.values(), strict=True):
        np.testing.assert_array_equal(variable, value)
    assert side.counts().resets == 0
    return "refused at the step"


def freeze(side: Any) -> None:
    side.model.value.trainable = False


def load_optimizer(side: Any) -> None:
    saved: dict[str, Any] = {}
    side.inner.save_own_variables(saved)
    side.inner.load_own_variables({name: np.array(value) for name, value in saved.items()})


class Scaled:
    """The network, trained by a scaler around the wrapper, or around the plain optimizer."""

    def __init__(self, method: str | None, **options: Any) -> None:
        self._side = make(**options)(method)
        self._scaler = keras.optimizers.LossScaleOptimizer(self._side.wrapper, initial_scale=SCALE)
        self._scaler.build(self._side.model.trainable_variables)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._side, name)

    def step(self, grads: Values) -> None:
        variables = [v for layer in self.trained for v in getattr(self.model, layer).variables]
        names = [f"{layer}/{v.name}" for layer in self.trained for v in getattr(self.model, layer).variables]
        scale = float(self._scaler.dynamic_scale)
        self._scaler.apply([tf.constant(scale * grads[name]) for name in names], variables)


def accumulate(side: Any) -> None:
    side.step({name: one + gradients()[name] for name, one in gradients(seed=1).items()})


def trained(first: Any, width: int, x: Any, optimizer: Any = None) -> str:
    """Take a step where neuron 1 of the hidden layer is dead: it is reset, and of the layer in front nothing."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([first, keras.layers.Dense(6, "relu"), keras.layers.Dense(2)])
    model(x)
    for variable in model.variables:
        variable.assign(tf.abs(variable))
    dead = np.arange(6) == 1
    model.layers[1].kernel.assign(tf.where(dead, 0.0, model.layers[1].kernel))
    model.layers[1].bias.assign(tf.where(dead, -1.0, 0.5))
    regrama = ReGraMa(optimizer or keras.optimizers.SGD(0.1), model, example_inputs=x, every=1, tau=0.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x) ** 2)
    regrama.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    assert [group.reset for group in regrama.last_report.groups] == [0, 1, 0]
    assert (model.layers[2].kernel.numpy()[1] == 0).all()
    assert width != 1 or "a single neuron" in regrama.layout["0"].reason
    return "right"


def resetting(side: Any) -> Callable[[], None]:
    """What a due step does after the plain one."""
    grads, trained = side.native(gradients()), side.wrapper._state.trained
    return lambda: side.wrapper._choose_and_reset(*side.wrapper._measure(grads, trained, scored=True), trained)


def fails_at_each_write() -> str:
    """Of all writes of a reset, those of slots and of what the wrapper keeps too."""
    side = make(optimizer="adam")("regrama")
    side.step(gradients({}))
    before, reset = side.params(), resetting(side)
    state = [(variable, variable.numpy()) for variable in (*side.model.variables, *side.wrapper.variables)]

    def undone(number: int) -> None:
        assert all(np.array_equal(variable, value) for variable, value in state)

    def done(number: int) -> None:
        compare(side.params(), before, side.expected(before, DEAD))

    return each_write_fails(partial(at_write, VARIABLE, "assign", act=fail), reset, undone, done)


def interrupted() -> str:
    side = make(optimizer="adam")("regrama")
    side.step(gradients({}))
    before, moments = side.params(), side.moments()

    def done(number: int) -> None:
        compare(side.params(), before, side.expected(before, DEAD))
        for one, other in zip(side.moments(), moments, strict=True):
            compare(one, reset(other, DEAD, None))
        assert side.counts().resets == side.counts().measurements - 1 == number

    writes = partial(at_write, VARIABLE, "assign", act=interrupt)
    start = partial(write, side.model, side.native(before))
    return interrupted_at_each_write(writes, start, resetting(side), done)


def older_state() -> str:
    params, saved = make()("regrama").state()
    return loaded((params, {name: value for name, value in saved.items() if name != "layout"}), make()("regrama"))


def damaged_state() -> str:
    params, saved = make()("regrama").state()
    counts = next(name for name, value in saved.items() if value.shape == (3,))
    return loaded((params, saved | {counts: np.array([-5, 0, 0])}), make()("regrama"))


def changed(change: Callable[[Any], None], **options: Any) -> str:
    return judge(make(**options), then(change))


def inside(**options: Any) -> str:
    return judge(make(optimizer=lambda: keras.optimizers.SGD(0.1, **options)), steps(gradients()))


def quantised() -> str:
    return judge(make(prepare=lambda model: model.value.quantize("int8")), steps(gradients()))


SCENARIOS: Mapping[str, Scenario] = {
    **shared(TensorFlowDriver),
    "sparse gradients": lambda: trained(keras.layers.Embedding(9, 4), 4, np.arange(32) % 9),
    "sparse moments": lambda: trained(keras.layers.Embedding(9, 4), 4, np.arange(32) % 9, keras.optimizers.Adam(0.1)),
    "float16": lambda: in_dtype("float16", 2**-11),
    "bfloat16": lambda: in_dtype("bfloat16", 2**-8),
    "float64": lambda: in_dtype("float64"),
    "one neuron": lambda: trained(keras.layers.Dense(1, "relu"), 1, np.ones((8, 5), "float32")).replace(
        "right", "left alone"
    ),
    "unused parameter": lambda: judge(make(prepare=add_layer), steps(gradients())),
    "tied parameter": lambda: judge(make(prepare=tie), steps(gradients())),
    "without values": lambda: refused(lambda: ReGraMa(keras.optimizers.SGD(), Gated(), layout=layout())),
    "quantised": quantised,
    "frozen later": lambda: changed(freeze),
    "replaced": lambda: changed_layer(7),
    "resized": lambda: changed_layer(9),
    "added": lambda: changed(lambda side: add_layer(side.model)),
    "weights loaded": lambda: changed(lambda side: side.model.set_weights(side.model.get_weights())),
    "optimizer state loaded": lambda: judge(make(optimizer="adam"), then(load_optimizer), moments=True),
    "factored moments": lambda: judge(make(optimizer=keras.optimizers.Adafactor), steps(gradients())),
    "loss scale": lambda: judge(Scaled, steps(HEALTHY, gradients())),
    "skipped outside": lambda: judge(partial(Scaled, every=2), steps(HEALTHY, INFINITE, gradients())),
    "skipped inside": lambda: judge(
        make(optimizer=lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())), steps(gradients())
    ),
    "accumulation outside": lambda: judge(make(), accumulate),
    "accumulation inside": lambda: inside(gradient_accumulation_steps=2),
    "state of another version": older_state,
    "damaged state": damaged_state,
    "write fails": fails_at_each_write,
    "Ctrl-C": interrupted,
    "probe fails": partial(failing_probe, TensorFlowDriver, ValueError),
}
