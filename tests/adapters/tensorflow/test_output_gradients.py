"""Gradients of what layers return before their activation functions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812

import neuroactivity as na
from neuroactivity_tensorflow import activation_gradients, layout_of
from tests.adapters.tensorflow.models import IMAGES, TwoHeaded, X, built, convnet, values


def square(output):
    return tf.reduce_mean(output**2)


def network(activation, as_layer=False):
    """A layer of neurons, with its activation function inside it or behind it, and a head."""
    hidden = [L.Dense(64), L.Activation(activation)] if as_layer else [L.Dense(64, activation)]
    model = keras.Sequential([keras.Input((5,)), *hidden, L.Dense(2)])
    model.layers[0].bias.assign(tf.where(tf.range(64) < 16, -100.0, 0.1))
    return model


@pytest.mark.parametrize("as_layer", [False, True])
def test_they_find_dead_relu_neurons_which_gradients_of_outputs_do_not(as_layer):
    model = network("relu", as_layer)
    layout = layout_of(model)
    scores = na.grama(activation_gradients(model, X, loss=square, layout=layout), layout, signal="activations")
    assert np.flatnonzero(scores["0"] == 0).tolist() == list(range(16))
    hidden = model.layers[0](X)
    with tf.GradientTape() as tape:
        hidden = tf.nn.relu(hidden)
        tape.watch(hidden)
        loss = square(model.layers[-1](hidden))
    behind = {"0": tape.gradient(loss, hidden)}
    assert (na.grama(behind, na.Layout([layout["0"]]), signal="activations")["0"].numpy() == 0).sum() == 0


def test_they_are_the_gradients_of_each_sample():
    """Against the formula, written out in NumPy."""
    model = network("tanh")
    (w, b), (v, c) = (layer.get_weights() for layer in model.layers if layer.weights)
    before = X @ w + b
    output = np.tanh(before) @ v + c
    expected = (2 * output / output.size) @ v.T * (1 - np.tanh(before) ** 2)
    found = activation_gradients(model, X, loss=square, layout=layout_of(model))
    np.testing.assert_allclose(found["0"], expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found["1"], 2 * output / output.size, rtol=1e-4, atol=1e-7)


def test_each_sample_is_the_gradient_of_that_sample_alone():
    model = network("relu")
    layout = layout_of(model)
    together = activation_gradients(model, X, loss=lambda out: tf.reduce_sum(out**2), layout=layout)
    for i in (0, 7):
        alone = activation_gradients(model, X[i : i + 1], loss=lambda out: tf.reduce_sum(out**2), layout=layout)
        np.testing.assert_allclose(together["0"][i : i + 1], alone["0"], rtol=1e-4, atol=1e-6)


def test_they_have_the_form_of_the_activation_pattern_and_none_where_there_is_nothing():
    model = built(convnet(), IMAGES)
    layout = layout_of(model, IMAGES)
    found = activation_gradients(model, IMAGES, loss=square, layout=layout)
    assert found["conv"].shape == (32, 6, 6, 6)
    x = keras.Input((3, 5))
    recurrent = keras.Model(x, L.Dense(2, name="out")(L.LSTM(4, name="core")(x)))
    found = activation_gradients(recurrent, np.ones((2, 3, 5)), loss=square, layout=layout_of(recurrent))
    assert found["core"] is None
    assert found["out"].shape == (2, 2)
    heads = built(TwoHeaded())
    found = activation_gradients(heads, X, loss=lambda out: tf.reduce_sum(tf.stop_gradient(out)))
    assert set(found.values()) == {None}


def test_calls_of_a_shared_layer_and_compiled_calls_are_ordinary():
    class Twice(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.out = L.Dense(8, "relu"), L.Dense(2)

        @tf.function(jit_compile=True)
        def call(self, x):
            return self.out(self.a(x) + self.a(-x))

    model = built(Twice())
    found = activation_gradients(model, X, loss=square, layout=layout_of(model))
    assert found["a"].shape == (128, 8)


def test_the_model_is_left_as_it_was():
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(8, "relu"), L.BatchNormalization(), L.Dropout(0.5), L.Dense(2)]
    )
    before, statistics = values(model), [variable.numpy() for variable in model.non_trainable_variables]
    function = model.layers[0].activation
    with pytest.raises(ZeroDivisionError):
        activation_gradients(model, X, loss=lambda out: 1 / 0, layout=layout_of(model), training=True)
    found = activation_gradients(model, X, loss=square, layout=layout_of(model), training=True)
    assert found["0"].shape == (64, 8)
    assert model.layers[0].activation is function
    assert not any("call" in vars(layer) for layer in model.layers)
    assert all(np.array_equal(value, before[name]) for name, value in values(model).items())
    assert all(np.array_equal(v, old) for v, old in zip(model.non_trainable_variables, statistics, strict=True))


def test_a_mapping_of_variables_has_no_layers():
    with pytest.raises(na.LayoutError, match="activations are read at the layers of a Keras model, got a mapping"):
        activation_gradients({}, X, loss=square)
