"""Scores are of the gradients that a step used: clipped as Keras clips them, with all others of the step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa
from tests.adapters.tensorflow.models import mlp, mlp_layout


@pytest.mark.counts(faults=1)
def test_rows_of_a_sparse_gradient_are_clipped_before_they_are_added_up():
    """A hundred small gradients of one token add up to more than a large one that is clipped."""
    model = keras.Sequential([keras.Input((100,), dtype="int32"), keras.layers.Embedding(3, 2)])
    layout = na.Layout([na.dense("e", weight=("0/embeddings", "vocabulary neuron"))])
    regrama = ReGraMa(keras.optimizers.SGD(1.0, clipvalue=0.5), model, layout=layout, every=1, max_fraction=0)
    values = np.zeros((100, 2), "float32")
    values[0, 0], values[:, 1] = 50.0, 0.5
    before = model.weights[0].numpy()
    regrama.apply([tf.IndexedSlices(values, np.zeros(100, int), (3, 2))], model.trainable_variables)
    moved = np.abs(before - model.weights[0].numpy()).sum(axis=0)
    np.testing.assert_allclose(moved, [0.5, 50.0], rtol=1e-5)
    np.testing.assert_allclose(regrama.last_report["e"].scores[0], moved / moved.mean(), rtol=1e-5)


@pytest.mark.counts(faults=1)
def test_a_norm_over_all_gradients_is_over_those_outside_of_the_model_too():
    given = []

    def score(grads, layout):
        given.append(grads)
        return na.magnitudes(grads, layout)

    trunk, head = mlp(), tf.Variable(tf.zeros((7,)))
    inner = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    regrama = ReGraMa(inner, trunk, layout=mlp_layout(), every=1, max_fraction=0, score=score)
    variables = [*trunk.trainable_variables, head]
    before = [variable.numpy() for variable in trunk.trainable_variables]
    regrama.apply([*(tf.ones(variable.shape) for variable in variables[:-1]), tf.fill((7,), 100.0)], variables)
    for variable, old, name in zip(trunk.trainable_variables, before, mlp_names(), strict=True):
        if len(variable.shape) == 2:
            np.testing.assert_allclose(given[-1][name], old - variable.numpy(), rtol=1e-3)


def mlp_names():
    return [f"{place}/{kind}" for place in (0, 2, 4) for kind in ("kernel", "bias")]
