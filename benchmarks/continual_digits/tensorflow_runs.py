"""The study in TensorFlow, one run after the other.

In the residual network no layer reads a hidden layer alone, so ReDo's ``probe`` sees it before its activation function.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import neuroactivity as na
from benchmarks.continual_digits.study import (
    CLASSES,
    DORMANT_TAU,
    GRAMA_TAU,
    HIDDEN,
    Outcome,
    Study,
    Tasks,
    initial_weights,
)
from neuroactivity_tensorflow import ReDo, ReGraMa, gradients, layout_of, write
from reference_agents.activity import Lasting

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "leaky_relu": partial(keras.activations.leaky_relu, negative_slope=0.01),
}


class Network(keras.Model):  # type: ignore[misc]
    """Two hidden layers and an output layer."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.study = study
        self.hidden1 = keras.layers.Dense(HIDDEN)
        self.hidden2 = keras.layers.Dense(HIDDEN)
        self.out = keras.layers.Dense(CLASSES)
        if study.network == "layernorm":
            self.norm1 = keras.layers.LayerNormalization(epsilon=1e-5)
            self.norm2 = keras.layers.LayerNormalization(epsilon=1e-5)

    def call(self, images: Any) -> Any:
        """Return the logits, (image, class)."""
        return self.outputs_of(images)["out"]

    def outputs_of(self, images: Any) -> dict[str, Any]:
        """Return the output of each layer, of the hidden ones after the activation function."""
        activate = ACTIVATIONS[self.study.activation]
        normed = self.study.network == "layernorm"
        x = self.hidden1(images)
        x = activate(self.norm1(x) if normed else x)
        y = self.hidden2(x)
        y = activate(self.norm2(y) if normed else y)
        logits = self.out(x + y if self.study.network == "residual" else y)
        return {"hidden1": x, "norm1": x, "hidden2": y, "norm2": y, "out": logits}


def draw_weights(study: Study, key: int) -> dict[str, Any]:
    """Draw initial weights by name."""
    norms = {"scale": "gamma", "bias": "beta"}
    weights = {}
    for name, value in initial_weights(study, np.random.default_rng(key)).items():
        layer, kind = name.split("/")
        weights[f"{layer}/{norms[kind] if layer.startswith('norm') else kind}"] = tf.constant(value)
    return weights


def run(study: Study, tasks: Tasks, advance: Callable[[], object]) -> Outcome:
    """Run all seeds; ``advance`` is called after each task."""
    runs = [_Run(study, tasks, index).finish(advance) for index in range(study.seeds)]
    return Outcome(*(np.stack(values) for values in zip(*runs, strict=True)))


class _Run:
    """One run."""

    def __init__(self, study: Study, tasks: Tasks, index: int) -> None:
        self.study, self.tasks, self.index = study, tasks, index
        self.seed = study.seed + index
        self.images = tf.constant(tasks.images)
        self.network = Network(study)
        self.network(self.images[:16])
        write(self.network, draw_weights(study, self.seed))
        self.layout = layout_of(self.network, self.images[:16])
        self.inputs = tf.Variable(self.images[: tasks.batches.shape[-1]])
        self.lasting = Lasting()
        self.optimizer = self._optimizer()
        self.optimizer.build(self.network.trainable_variables)
        self.step = tf.function(self._step)

    def _optimizer(self) -> Any:
        """Adam, with resets if the study has them."""
        adam = keras.optimizers.Adam(self.study.learning_rate, epsilon=1e-8)
        options: dict[str, Any] = {
            "layout": self.layout,
            "initializer": lambda key: draw_weights(self.study, key),
            "seed": self.seed,
            "on_report": self._on_report,
            **self.study.wrapper_options,
        }
        if self.study.reset == "regrama":
            return ReGraMa(adam, self.network, **options)
        if self.study.reset == "redo":
            return ReDo(adam, self.network, probe=lambda: self.inputs.value(), **options)
        return adam

    def finish(self, advance: Callable[[], object]) -> Outcome:
        """Train on all tasks."""
        outcome = []
        for task in range(self.study.tasks):
            before = self._counts()
            labels = tf.constant(self.tasks.labels[self.index, task])
            batches = tf.constant(self.tasks.batches[self.index, task])
            shares = np.mean([self.step(batch, labels) for batch in batches], 0)
            accuracy = float(np.mean(np.argmax(self.network(self.images), 1) == labels.numpy()))
            outcome.append((accuracy, *shares, *(self._counts() - before)))
            advance()
        accuracies, inactive, dormant, *counts = map(np.array, zip(*outcome, strict=True))
        return Outcome(accuracies, inactive, dormant, *(count.astype(int) for count in counts))

    def _step(self, batch: Any, labels: Any) -> Any:
        """Take one step; return the fractions that GraMa, and that the tau-dormant score, finds inactive."""
        inputs = tf.gather(self.images, batch)
        self.inputs.assign(inputs)
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self.network.outputs_of(inputs)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, batch), outputs["out"])
            loss = tf.reduce_mean(losses)
        grads = tape.gradient(loss, variables)
        self.optimizer.apply(grads, variables)
        by_gradient = na.grama(gradients(self.network, grads), self.layout)
        by_output = na.tau_dormant({name: outputs[name] for name in self.layout}, self.layout)
        return tf.stack([_share(by_gradient, GRAMA_TAU), _share(by_output, DORMANT_TAU)])

    def _on_report(self, report: na.ActivityReport) -> None:
        self.lasting = self.lasting.plus(report)

    def _counts(self) -> NDArray[np.int64]:
        """Return the neurons reset so far, those measured again since, and those of them that were inactive."""
        resets = 0 if self.study.reset == "none" else int(self.optimizer.neurons_reset)
        return np.array([resets, self.lasting.measured_again, self.lasting.reset_again])


def _share(scores: Mapping[str, Any], tau: float) -> Any:
    """Return the fraction of hidden neurons with a score of at most ``tau``."""
    low = [scores[name] <= tau for name in scores if name != "out"]
    return tf.reduce_mean(tf.cast(tf.concat(low, 0), tf.float32))
