"""A reset is all or nothing, and what has changed since the wrapper was made is seen."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from keras.optimizers import SGD, Adam

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa, write
from tests.adapters.tensorflow.models import TwoHeaded, X, built, equal, kill, mlp, mlp_layout, step, values

VARIABLE = type(tf.Variable(0.0))


class FailingWrites:
    """Lets the n-th of all writes fail."""

    def __init__(self, monkeypatch) -> None:
        self.left, self.assign = -1, VARIABLE.assign
        monkeypatch.setattr(VARIABLE, "assign", lambda *args, **options: self._assign(*args, **options))

    def _assign(self, *args, **options):
        self.left -= 1
        if self.left == 0:
            raise OSError("disk full")
        return self.assign(*args, **options)


def state_of(model, regrama):
    return [variable.numpy().tobytes() for variable in (*model.variables, *regrama.variables)]


def test_whatever_write_fails_everything_is_put_back(monkeypatch):
    model = mlp()
    regrama = ReGraMa(Adam(0.01), model, layout=mlp_layout(), tau=0.6, every=1)
    step(model, regrama)
    grads = {name: tf.ones_like(value) for name, value in values(model).items()}
    for name in ("0/kernel", "2/kernel"):
        grads[name] *= tf.cast(tf.range(16) > 2, tf.float32)
    before, writes, failed = state_of(model, regrama), FailingWrites(monkeypatch), 0
    while True:
        writes.left = failed + 1
        try:
            trained = regrama._state.trained
            regrama._choose_and_reset(*regrama._measure(grads, trained, scored=True), trained)
        except OSError:
            assert state_of(model, regrama) == before
            failed += 1
        else:
            break
    assert failed == 5 * 3 + 2 + 6  # all parameters but the last bias, each with two slots; the clock; what is kept
    assert regrama.resets == 2


def test_in_a_graph_nothing_is_written_before_all_values_are_there():
    model = mlp()

    fails = []

    def initializer(key):
        if fails:
            raise OSError("no more values")
        return {name: tf.constant(value) for name, value in values(model).items()}

    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=0.6, every=1, initializer=initializer)
    regrama.build(model.trainable_variables)
    before = values(model)
    fails.append(True)
    with pytest.raises(tf.errors.OpError, match="no more values"):
        tf.function(step)(model, regrama)
    assert equal(values(model), before)
    assert (regrama.measurements, regrama.resets) == (0, 0)


def test_writing_parameters_puts_back_what_was_written(monkeypatch):
    model = mlp()
    before, writes = values(model), FailingWrites(monkeypatch)
    writes.left = 3
    with pytest.raises(OSError, match="disk full"):
        write(model, {name: tf.zeros_like(value) for name, value in before.items()})
    assert equal(values(model), before)


def test_a_second_wrapper_that_resets_the_same_model_is_refused():
    model, optimizer = mlp(), SGD(0.1)
    first = ReGraMa(optimizer, model, layout=mlp_layout())
    for inner in (first, optimizer):
        with pytest.raises(ValueError, match="a ReGraMa is around it already and resets the same parameters"):
            ReGraMa(inner, model, layout=mlp_layout())
    ReDo(first, model, layout=mlp_layout(), max_fraction=0, probe=lambda: X)
    ReGraMa(optimizer, mlp(), layout=mlp_layout())
    del first
    ReGraMa(optimizer, model, layout=mlp_layout())


def test_a_frozen_variable_is_not_written_though_the_step_is_given_its_gradient():
    model = mlp()
    kill(model.layers[0], [3])
    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=0.6, every=1)
    variables = model.trainable_variables
    regrama.build(variables)
    model.layers[0].trainable = False
    before = values(model)["0/kernel"]
    regrama.apply(
        [tf.zeros_like(variable) for variable in variables[:2]] + [tf.ones_like(v) for v in variables[2:]], variables
    )
    assert np.array_equal(values(model)["0/kernel"], before)
    assert regrama.last_report.absent == ("0",)


@pytest.mark.parametrize("graph", [False, True])
def test_a_layer_that_was_replaced_is_named_and_not_written(graph):
    model = built(TwoHeaded())
    regrama = ReGraMa(SGD(0.0), model, layout=model.layout(), tau=0.6, every=1)
    regrama.build(model.trainable_variables)
    variables = list(model.trainable_variables)
    model._tracker.unlock()
    model.mean = built(L.Dense(1), np.zeros((1, 12), "float32"))
    before = [variable.numpy() for variable in variables]

    def train():
        regrama.apply([tf.ones_like(variable) for variable in variables], variables)

    with pytest.raises(ValueError, match="parameter 'mean/kernel' was replaced or removed after this wrapper was"):
        (tf.function(train) if graph else train)()
    assert all(np.array_equal(variable, value) for variable, value in zip(variables, before, strict=True))


def test_a_layer_that_was_added_is_named_once():
    model = built(TwoHeaded())
    regrama = ReGraMa(SGD(0.0), model, layout=model.layout(), every=1)
    variables = list(model.trainable_variables)
    model._tracker.unlock()
    model.auxiliary = built(L.Dense(1), np.zeros((1, 12), "float32"))
    grads = [tf.ones_like(variable) for variable in variables]
    with pytest.warns(na.ActivityWarning, match="added to the model after this wrapper was made: 'auxiliary/kernel', "):
        regrama.apply(grads, variables)
    regrama.apply(grads, variables)
    assert regrama.measurements == 2


def test_a_wrapper_that_was_built_to_measure_never_resets():
    model = mlp()
    regrama = ReGraMa(Adam(), model, layout=mlp_layout(), every=1, tau=0.6, max_fraction=0)
    step(model, regrama)
    regrama.max_fraction = 0.5
    with pytest.raises(ValueError, match="max_fraction: this wrapper was built with 0, only to measure"):
        step(model, regrama)


def test_parameters_outside_the_model_are_remarked():
    models = [mlp(), mlp(seed=1)]
    searched = na.Layout(list(mlp_layout().values()))
    regrama = ReGraMa(SGD(0.1), models[0], layout=searched)
    assert regrama.layout == searched
    regrama.build([variable for model in models for variable in model.trainable_variables])
    remark = "in Sequential; the optimizer also trains 6 parameters outside it: give readers= if they read it"
    assert regrama.layout["0"].reason.endswith(remark)
    assert remark in regrama.layout.describe()
    alone = ReGraMa(keras.optimizers.SGD(), models[1], layout=searched)
    alone.build(models[1].trainable_variables)
    assert alone.layout == searched
