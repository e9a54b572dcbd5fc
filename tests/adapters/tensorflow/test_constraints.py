"""Constraints of layers hold after a reset as they do after every other step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from keras.optimizers import SGD, Adam

from neuroactivity_tensorflow import ReGraMa, layout_of
from tests.adapters.tensorflow.models import X, kill, step, values


def constrained(first=None, second=None):
    """Two layers with constraints of their kernels; neuron 3 of the first is dead."""
    keras.utils.set_random_seed(1)
    hidden = L.Dense(8, "relu", name="a", kernel_constraint=first, bias_constraint="non_neg")
    model = keras.Sequential([keras.Input((5,)), hidden, L.Dense(4, name="b", kernel_constraint=second)])
    for variable in model.trainable_variables:
        if variable.constraint is not None:
            variable.assign(variable.constraint(variable))
    return model


@pytest.mark.parametrize("graph", [False, True])
def test_fresh_values_satisfy_the_constraint_and_healthy_ones_keep_their_bits(graph):
    model = constrained("non_neg", "non_neg")
    regrama = ReGraMa(SGD(0.0), model, example_inputs=X, tau=0.5, every=1)
    before = values(model)
    (tf.function(step) if graph else step)(model, regrama)
    after, mask = values(model), np.array(regrama.last_report["a"].mask[0])
    assert 0 < mask.sum() < 8
    assert min(value.min() for value in (after["a/kernel"], after["a/bias"], after["b/kernel"])) >= 0
    assert (after["a/kernel"][:, mask] > 0).any()
    assert np.array_equal(after["a/kernel"][:, ~mask], before["a/kernel"][:, ~mask])
    assert (after["b/kernel"][mask] == 0).all()


def test_weights_that_share_a_norm_with_zeroed_ones_are_scaled_and_the_group_says_so():
    model = constrained(second=keras.constraints.UnitNorm(axis=0))
    regrama = ReGraMa(SGD(0.0), model, example_inputs=X, tau=0.5, every=1)
    assert regrama.layout["a"].status == "exclusive"
    remark = "the constraint of 'b/kernel' changes weights of other neurons when one is reset"
    assert regrama.layout["a"].reason.endswith(remark)
    assert regrama.layout["a"].reason.count(remark) == 1
    step(model, regrama)
    assert 0 < regrama.neurons_reset < 8
    np.testing.assert_allclose(np.linalg.norm(values(model)["b/kernel"], axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "marked"),
    [
        ("non_neg", "non_neg", False),
        (keras.constraints.MaxNorm(1.0, axis=0), keras.constraints.MaxNorm(1.0, axis=0), False),
        (keras.constraints.MaxNorm(1.0, axis=1), None, True),
        (keras.constraints.UnitNorm(axis=0), keras.constraints.UnitNorm(axis=1), False),
        (None, keras.constraints.MinMaxNorm(0.5, 1.0, axis=0), True),
    ],
)
def test_only_groups_whose_reset_moves_other_weights_are_marked(first, second, marked):
    assert ("constraint" in layout_of(constrained(first, second), X)["a"].reason) == marked


def test_a_norm_constraint_of_each_neuron_bounds_fresh_values():
    model = constrained(keras.constraints.MaxNorm(0.25, axis=0))
    kill(model.layers[0], [3])
    before = values(model)
    step(model, ReGraMa(Adam(0.0), model, example_inputs=X, tau=0.0, every=1))
    norms = np.linalg.norm(values(model)["a/kernel"], axis=0)
    assert norms[3] == pytest.approx(0.25, rel=1e-5)
    np.testing.assert_allclose(
        np.delete(values(model)["a/kernel"], 3, 1), np.delete(before["a/kernel"], 3, 1), rtol=1e-5
    )
