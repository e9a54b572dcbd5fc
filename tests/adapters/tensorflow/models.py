"""Small models and training steps that the TensorFlow tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L  # noqa: N812

import neuroactivity as na
from neuroactivity_tensorflow import layout_of, parameters

X = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
Y = np.random.default_rng(1).normal(size=(64, 2)).astype("float32")
IMAGES = np.random.default_rng(2).normal(size=(32, 8, 8, 1)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class Keep(keras.Layer):
    """Multiplies each feature by one, or by zero where it is silenced."""

    def build(self, input_shape):
        self.keep = self.add_weight(shape=(input_shape[-1],), initializer="ones", trainable=False, name="keep")

    def call(self, x):
        return x * self.keep


def mlp(seed: int = 0, *, width: int = 16, activation: str = "relu", inputs: int = 5, outputs: int = 2):
    """Build a chain of three dense layers."""
    keras.utils.set_random_seed(seed)
    hidden = [layer for _ in range(2) for layer in (L.Dense(width, activation), Keep())]
    return keras.Sequential([keras.Input((inputs,)), *hidden, L.Dense(outputs)])


@functools.cache
def mlp_layout() -> na.Layout:
    """The layout of every such chain, whatever its sizes."""
    return layout_of(mlp(), X)


def convnet(seed: int = 0):
    """Build a convolution, a flatten and two dense layers for images of 8 x 8 x 1."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 1))
    hidden = L.MaxPooling2D(2)(Keep(name="keep1")(L.Conv2D(6, 3, activation="relu", name="conv")(image)))
    hidden = Keep(name="keep2")(L.Dense(16, "tanh", name="fc")(L.Flatten()(hidden)))
    return keras.Model(image, L.Dense(2, name="out")(hidden))


@keras.saving.register_keras_serializable("tests")
class TwoHeaded(keras.Model):
    """The shape of SAC's actor: a trunk that feeds a mean and a log standard deviation."""

    def __init__(self, seed: int = 0, **options) -> None:
        super().__init__(**options)
        keras.utils.set_random_seed(seed)
        self.seed = seed
        self.trunk = [L.Dense(12, "relu"), Keep(), L.Dense(12, "relu"), Keep()]
        self.mean, self.log_std = L.Dense(1), L.Dense(1)

    def call(self, x):
        for layer in self.trunk:
            x = layer(x)
        return tf.concat([self.mean(x), self.log_std(x)], axis=-1)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}

    @staticmethod
    def layout() -> na.Layout:
        def dense(name: str, feeds: list[str], resettable: bool = True) -> na.NeuronGroup:
            outgoing = [(f"{layer}/kernel", "neuron out") for layer in feeds]
            weight = (f"{name}/kernel", "in neuron")
            return na.dense(name, weight=weight, bias=f"{name}/bias", outgoing=outgoing, resettable=resettable)

        return na.Layout(
            [
                dense("trunk/0", ["trunk/2"]),
                dense("trunk/2", ["mean", "log_std"]),
                dense("mean", [], resettable=False),
                dense("log_std", [], resettable=False),
            ]
        )


def built(model, x=X):
    """Call a model once, so that it has variables."""
    model(x)
    return model


def step(model, optimizer, x=X, y=0.0):
    """Train one step, and return the gradients by name."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
    grads = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
    return grads


def fit(model, optimizer, epochs: int = 1, *, ahead: bool = True, **options):
    """Train with ``model.fit``, two batches an epoch; an optimizer that was built ahead is traced once, not twice."""
    model.compile(optimizer, loss="mse", **options)
    if ahead and model.built and model.distribute_strategy is None:
        model.optimizer.build(model.trainable_variables)
    model.fit(X, Y, batch_size=32, epochs=epochs, shuffle=False, verbose=0)


def values(model) -> dict[str, np.ndarray]:
    """Copy a model's parameters."""
    return {name: np.array(value) for name, value in parameters(model).items()}


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Whether two mappings hold the same bits."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def kill(layer, neurons: list[int]) -> None:
    """Make neurons of a dense layer with a ReLU dead for good, whatever their inputs are."""
    kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
    kernel[:, neurons], bias[neurons] = 0.0, -1.0
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)


def written(model, masks, layout) -> dict[str, np.ndarray]:
    """Where a reset writes, by parameter: a reset of ones to twos."""
    ones = {name: np.ones(value.shape) for name, value in values(model).items()}
    masks = {name: np.array(mask) for name, mask in masks.items()}
    return {
        name: value != 1 for name, value in na.reset(ones, {n: 2 * o for n, o in ones.items()}, masks, layout).items()
    }
