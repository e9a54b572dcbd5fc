"""The networks in TensorFlow, with the layers of Keras."""

import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa, activations, gradients, layout_of, parameters, write
from tests.frameworks.networks import BETAS, LEARNING_RATE, Layer, Network, Values


@keras.saving.register_keras_serializable(package="frameworks")
class Twin(keras.layers.Layer):
    """Two dense layers in one array, which no layer of Keras's holds."""

    def __init__(self, shape: tuple[int, int, int], **options) -> None:
        super().__init__(**options)
        self.shape = shape

    def build(self, _) -> None:
        self.kernel = self.add_weight(shape=self.shape, name="kernel")
        self.bias = self.add_weight(shape=(self.shape[0], self.shape[2]), name="bias")

    def call(self, x):
        return tf.einsum("bi,sio->sbo" if len(x.shape) == 2 else "sbi,sio->sbo", x, self.kernel) + self.bias[:, None]


def _rule(name: str, variable: keras.Variable) -> na.NeuronGroup | None:
    """List the layers that hold a stack."""
    layer, _, kind = name.rpartition("/")
    if len(variable.shape) != 3 or kind != "kernel":
        return None
    return na.dense(layer, weight=(name, "stack in neuron"), bias=(f"{layer}/bias", "stack neuron"))


class TensorFlowNet(keras.Model):
    """A program with layers of Keras."""

    relu, tanh, einsum, reshape, softmax = map(
        staticmethod, (tf.nn.relu, tf.tanh, tf.einsum, tf.reshape, tf.nn.softmax)
    )

    def __init__(self, network: Network) -> None:
        super().__init__(dtype="float64")
        self.program = network.run
        for name, layer in network.layers.items():
            setattr(self, name, _make(layer))

    def call(self, x):
        return self.program(self, x)

    def dense(self, name, x):
        return getattr(self, name)(x)

    conv = norm = twin = dense

    def flatten(self, x):
        return tf.reshape(x, (x.shape[0], -1))


def _make(layer: Layer) -> keras.layers.Layer:
    match layer.kind:
        case "dense":
            return keras.layers.Dense(layer.shape[1], use_bias=layer.bias, dtype="float64")
        case "conv":
            return keras.layers.Conv2D(layer.shape[3], layer.shape[:2], dtype="float64")
        case "norm":
            return keras.layers.LayerNormalization(epsilon=1e-5, dtype="float64")
        case _:
            return Twin(layer.shape, dtype="float64")


def to_tensorflow(values: Values) -> dict[str, tf.Tensor]:
    """Bring weights into Keras's names."""
    names = {"kernel": "kernel", "bias": "bias", "scale": "gamma"}
    named = {}
    for layer, arrays in values.items():
        for kind, value in arrays.items():
            name = "beta" if kind == "bias" and "scale" in arrays else names[kind]
            named[f"{layer}/{name}"] = tf.constant(value)
    return named


class TensorFlowSide:
    """A network in TensorFlow, in float64."""

    def __init__(self, network: Network, values: Values) -> None:
        self.model = TensorFlowNet(network)
        batch = self.inputs(network.batch(0))
        self.model(batch)
        write(self.model, to_tensorflow(values))
        self.layout = layout_of(self.model, batch, rule=_rule)

    def inputs(self, batch: np.ndarray) -> tf.Tensor:
        return tf.constant(batch)

    def params(self) -> dict[str, tf.Tensor]:
        return parameters(self.model)

    def loss(self, batch: tf.Tensor) -> tf.Tensor:
        return tf.add_n([tf.reduce_mean(output**2) for output in self.model(batch)])

    def gradients(self, batch: np.ndarray) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = self.loss(self.inputs(batch))
        return gradients(self.model, tape.gradient(loss, self.model.trainable_variables))

    def activations(self, batch: np.ndarray) -> dict[str, tf.Tensor | None]:
        return activations(self.model, self.inputs(batch), layout=self.layout)

    def reset(self, fresh: Values, masks: dict[str, np.ndarray]) -> dict:
        """Return the parameters with the masked neurons reset."""
        chosen = {name: tf.constant(mask) for name, mask in masks.items()}
        return na.reset(self.params(), to_tensorflow(fresh), chosen, self.layout)

    def train(self, batches, fresh: Values, **options) -> list[na.ActivityReport]:
        """Train with resets; returns the reports."""
        values = to_tensorflow(fresh)
        optimizer = ReGraMa(
            keras.optimizers.Adam(LEARNING_RATE, *BETAS, epsilon=1e-30),
            self.model,
            layout=self.layout,
            initializer=lambda key: values,
            **options,
        )
        optimizer.build(self.model.trainable_variables)

        @tf.function
        def step(batch):
            with tf.GradientTape() as tape:
                loss = self.loss(batch)
            optimizer.apply(tape.gradient(loss, self.model.trainable_variables), self.model.trainable_variables)

        reports = []
        for number, batch in enumerate(batches, 1):
            step(self.inputs(batch))
            if number % options["every"] == 0:
                reports.append(optimizer.last_report)
        return reports
