"""Layers that no fresh values can be drawn from are named, and what is drawn from others does not change."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import neuroactivity as na
from neuroactivity_tensorflow.initializers import FreshValues, RebuiltLayer
from neuroactivity_tensorflow.parameters import tf_variable
from tests.adapters.tensorflow.models import built


@keras.saving.register_keras_serializable("named")
class Own(keras.Layer):
    """A layer of one's own."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 6), initializer="ones")

    def call(self, x):
        return x @ self.table


@pytest.mark.parametrize("error", [ValueError, TypeError, NotImplementedError, AttributeError])
@pytest.mark.parametrize(
    ("method", "message"),
    [("build", "Own cannot be built again from its configuration"), ("get_config", "Own has no configuration")],
)
def test_a_layer_whose_own_code_fails_is_named(error, method, message, monkeypatch):
    layer = Own(name="mine")
    layer(tf.zeros((2, 3)))

    def fail(*args):
        raise error("no")

    monkeypatch.setattr(Own, method, fail)
    with pytest.raises(ValueError, match=f"^{message}: .*no"):
        RebuiltLayer.of(layer)


class Bare(Own):
    """Its weight has no initialiser."""

    def build(self, shape):
        self.table = keras.Variable(tf.ones((shape[-1], 6)), name="table")


@pytest.mark.parametrize(("known", "why"), [(True, "Bare gives it no initializer"), (False, "'mine'")])
def test_what_no_layer_draws_is_named(known, why):
    model = built(keras.Sequential([Bare(name="mine")]))
    layers = {"mine": RebuiltLayer.of(model.layers[0])} if known else {}
    variables = {"mine/table": tf_variable(model.layers[0].table)}
    layout = na.Layout([na.dense("mine", weight=("mine/table", "in neuron"))])
    with pytest.raises(
        ValueError, match=rf"^parameter 'mine/table': initializer='layer' cannot .* \({why}\); use init"
    ):
        FreshValues(variables, layout, "layer", layers=layers, snapshot={}, seed=0)


def test_an_initializer_that_gives_nan_repeats_itself():
    model = built(keras.Sequential([keras.layers.Dense(2, kernel_initializer=keras.initializers.Constant(np.nan))]))
    layers, variables = {"0": RebuiltLayer.of(model.layers[0])}, {"0/kernel": tf_variable(model.layers[0].kernel)}
    layout = na.Layout([na.dense("0", weight=("0/kernel", "in neuron"))])
    fresh = FreshValues(variables, layout, "layer", layers=layers, snapshot={}, seed=0)
    assert np.isnan(fresh.draw(1, ["0/kernel"])["0/kernel"]).all()


class Noisy(Own):
    """It has a part that is no initialiser and has something called ``seed``."""

    def build(self, shape):
        super().build(shape)
        self.random = np.random


def test_only_initializers_are_given_the_seed_of_a_draw():
    layer, seed = Noisy(name="mine"), np.random.seed
    layer(tf.zeros((2, 3)))
    RebuiltLayer.of(layer).draw("table", tf_variable(layer.table), 3)
    assert np.random.seed is seed


def test_a_seed_draws_what_it_has_always_drawn():
    """A run that goes on after an upgrade draws as if there had been none."""
    start = tf.Variable([tf.range(12.0)])
    layout = na.Layout([na.dense("w", weight=("w", "in neuron"))])
    fresh = FreshValues({"w": start}, layout, "snapshot", layers={}, snapshot={"w": start}, seed=3)
    assert fresh.draw(1, ["w"])["w"].numpy().tolist() == [[4, 3, 7, 6, 3, 9, 11, 5, 11, 3, 2, 9]]
