"""The functional route: a Keras model to arrays by name, and back."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812

import neuroactivity as na
from neuroactivity_tensorflow import gradients, parameters, write
from tests.adapters.tensorflow.architectures import found
from tests.adapters.tensorflow.models import (
    X,
    Y,
    built,
    convnet,
    equal,
    mlp,
    mlp_layout,
    step,
    values,
)


class Nested(keras.Model):
    """Layers in lists, dictionaries and private attributes, a nested model, and weights with and without names."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [L.Dense(3), [L.Dense(3)]]
        self.heads = {"mean": L.Dense(2)}
        self._hidden = keras.Sequential([keras.Input((3,)), L.Dense(3), L.Dense(3, name="named")])
        self.again = self.heads["mean"]
        self.free = self.add_weight(shape=(3,))
        self.scale = self.add_weight(shape=(3,), name="gain")

    def call(self, x):
        x = self.blocks[1][0](self.blocks[0](x)) * self.scale + self.free
        return self.again(self._hidden(x))


NAMES = ["free", "gain"] + [
    f"{layer}/{own}"
    for layer in ("blocks/0", "blocks/1/0", "heads/mean", "hidden/0", "hidden/named")
    for own in ("kernel", "bias")
]


def test_a_parameter_is_named_by_where_it_stands():
    model = built(Nested(), X[:, :3])
    assert list(parameters(model)) == NAMES
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in model.weights}
    assert len(NAMES) == len(model.weights)
    assert [v.path for v in built(Nested(), X[:, :3]).weights] != [v.path for v in model.weights]
    assert list(parameters(built(Nested(), X[:, :3]))) == NAMES


def test_names_in_a_functional_model_are_positions_unless_the_layer_was_named():
    assert list(parameters(convnet())) == [f"{n}/{own}" for n in ("conv", "fc", "out") for own in ("kernel", "bias")]
    assert list(parameters(found("functional critic")[0])) == [
        "3/kernel",
        "3/bias",
        "4/kernel",
        "4/bias",
        "q/kernel",
        "q/bias",
    ]


def test_parameters_hold_frozen_ones_and_no_statistics():
    model = keras.Sequential([keras.Input((5,)), L.Dense(3), L.BatchNormalization()])
    model.layers[0].trainable = False
    assert list(parameters(model)) == ["0/kernel", "0/bias", "1/gamma", "1/beta"]
    assert set(gradients(model, [tf.zeros(3), tf.zeros(3)])) == set(parameters(model))
    assert gradients(model, [tf.zeros(3), tf.zeros(3)])["0/kernel"] is None


def test_a_model_without_variables_is_told_apart():
    with pytest.raises(na.LayoutError, match="Sequential has no variables yet: call it on example inputs first"):
        parameters(keras.Sequential([L.Dense(2)]))


def test_gradients_are_matched_with_the_trainable_variables():
    model = mlp()
    grads = step(model, keras.optimizers.SGD(0.1))
    named = gradients(model, grads)
    kernels = [named[name] for name in ("0/kernel", "2/kernel", "4/kernel")]
    assert all(a is b for a, b in zip(kernels, grads[::2], strict=True))
    with pytest.raises(na.LayoutError, match="expected a gradient for each of 6 trainable variables, got 5"):
        gradients(model, grads[1:])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_sparse_gradient_is_made_dense_and_keeps_its_shape_in_a_graph(compiled):
    model = keras.Sequential([keras.Input((2,), dtype="int32"), L.Embedding(6, 3)])

    def look_up(tokens):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(tokens))
        gradient = gradients(model, tape.gradient(loss, model.trainable_variables))["0/embeddings"]
        assert gradient.shape == (6, 3)
        return gradient

    gradient = (tf.function(look_up) if compiled else look_up)(tf.constant([[1, 4]]))
    expected = np.zeros((6, 3))
    expected[[1, 4]] = 1.0
    assert np.array_equal(gradient, expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_metrics_run_on_the_gradients_inside_a_graph(compiled):
    model, layout = mlp(), mlp_layout()

    def masks(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - Y) ** 2)
        grads = gradients(model, tape.gradient(loss, model.trainable_variables))
        return na.reset_masks(na.grama(grads, layout), tau=0.6)

    compiled, expected = tf.function(masks, jit_compile=compiled)(X), masks(X)
    assert all(np.array_equal(compiled[name], expected[name]) for name in layout)
    assert np.any(expected["0"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"nope": tf.zeros(2)}, "parameter 'nope' is not in the model; there are 0/kernel"),
        (
            {"2/bias": tf.zeros(3)},
            r"parameter '2/bias': expected shape \(16,\) and dtype float32, got \(3,\) and float32",
        ),
        ({"2/bias": np.zeros(16)}, r"parameter '2/bias': expected .* got \(16,\) and float64"),
    ],
)
def test_write_writes_all_or_nothing(bad, message):
    model = mlp()
    before = values(model)
    with pytest.raises(na.LayoutError, match=message):
        write(model, {"0/kernel": tf.zeros((5, 16)), **bad})
    assert equal(values(model), before)
