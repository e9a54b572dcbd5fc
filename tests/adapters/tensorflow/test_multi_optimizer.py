"""``keras.optimizers.MultiOptimizer``, an optimizer for each part of a model, inside and around a wrapper."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa, clear_moments
from tests.adapters.tensorflow.models import X, Y, equal, fit, kill, mlp, mlp_layout, step, values

pytestmark = pytest.mark.skipif(not hasattr(optimizers, "MultiOptimizer"), reason="not in this version of Keras")


def several(model, first=None):
    """SGD for the model, another optimizer for its first layer."""
    by_path = optimizers.OptimizerMap(optimizers.SGD(0.01, momentum=0.9))
    by_path[f"{model.layers[0].path}/.*"] = first or optimizers.Adam(0.01)
    return optimizers.MultiOptimizer(by_path)


def slots(members):
    """The members' slots of the first and the second kernel."""
    held = [slot.numpy() for member in members for slot in member.variables]
    return [slot for shape in ((5, 16), (16, 16)) for slot in held if slot.shape == shape]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("function", [False, True])
def test_the_slots_of_every_member_are_cleared_where_a_reset_writes(function):
    model = mlp()
    kill(model.layers[0], [3, 5])
    if function:  # members are known when it is built
        adam, sgd = optimizers.Adam(0.01), optimizers.SGD(0.01, momentum=0.9)
        inner = optimizers.MultiOptimizer(lambda v: adam if v.path.startswith(model.layers[0].path) else sgd)
    else:
        inner = several(model)
    regrama = ReGraMa(inner, model, layout=mlp_layout(), tau=0.6, every=3)
    fit(model, regrama)
    step(model, regrama)
    mask = np.array(regrama.last_report["0"].mask[0])
    assert 2 <= mask.sum() < 16
    momentum, velocity, outgoing = slots(inner.optimizers)
    for slot in (momentum, velocity, outgoing.T):
        assert (slot[:, mask] == 0).all()
        assert (slot[:, ~mask] != 0).any()


def test_a_loop_of_ones_own_clears_all_members():
    model = mlp()
    inner = several(model)
    step(model, inner, X, Y)
    clear_moments(inner, model, {"0": tf.range(16) < 4}, mlp_layout())
    momentum, velocity, outgoing = slots(inner.optimizers)
    for slot in (momentum, velocity, outgoing.T):
        assert (slot[:, :4] == 0).all()
        assert (slot[:, 4:] != 0).any()


def test_measuring_works_with_any_members():
    model = mlp()
    regrama = ReGraMa(several(model, optimizers.Ftrl()), model, layout=mlp_layout(), every=1, max_fraction=0)
    step(model, regrama)
    assert regrama.last_report["0"].neurons == 16


def test_a_member_that_is_not_known_is_refused_when_the_wrapper_is_made():
    model = mlp()
    with pytest.raises(ValueError, match="optimizer Ftrl is not supported"):
        ReGraMa(several(model, optimizers.Ftrl()), model, layout=mlp_layout())


def test_gradients_are_clipped_by_the_member_that_uses_them():
    model = mlp()
    inner = several(model, optimizers.SGD(0.0, clipvalue=1.0))
    regrama = ReGraMa(inner, model, layout=mlp_layout(), every=1, max_fraction=0)
    grads = [np.full(variable.shape, 800.0, "float32") for variable in model.trainable_variables]
    grads[0][:, 0] = grads[2][:, 0] = 4.0
    regrama.apply([keras.ops.convert_to_tensor(gradient) for gradient in grads], model.trainable_variables)
    assert regrama.last_report["0"].lowest == pytest.approx(1.0)
    assert regrama.last_report["2"].lowest == pytest.approx(4 / 800, rel=0.1)


def test_as_a_member_it_resets_the_groups_that_it_trains_and_refuses_others():
    model = mlp()
    kill(model.layers[0], [3])
    first = na.Layout([na.dense("0", weight=("0/kernel", "in neuron"), bias="0/bias", outgoing=[])])
    regrama = ReGraMa(optimizers.Adam(0.0), model, layout=first, tau=0.0, every=1)
    before = values(model)
    step(model, several(model, regrama))
    changed = (values(model)["0/kernel"] != before["0/kernel"]).any(axis=0)
    assert (regrama.neurons_reset, np.flatnonzero(changed).tolist()) == (1, [3])
    before = values(model)
    with pytest.raises(ValueError, match="write parameter '2/kernel', which this optimizer does not train"):
        step(model, several(model, ReGraMa(optimizers.Adam(), model, layout=mlp_layout())))
    assert equal(values(model), before)
