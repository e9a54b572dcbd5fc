"""ReDo around a Keras optimizer: judged on the activations of a probe."""

import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa, activations
from tests.adapters.tensorflow.architectures import found
from tests.adapters.tensorflow.models import X, fit, kill, mlp, mlp_layout, step, values


@pytest.mark.parametrize("graph", [False, True])
def test_planted_dormant_neurons_are_found_and_the_probe_is_called_only_when_due(graph):
    model, probes = mlp(), []
    kill(model.layers[0], [3, 5])

    def probe():
        probes.append(redo.steps)
        return X

    redo = ReDo(SGD(0.0), model, layout=mlp_layout(), tau=0.0, every=2, probe=probe)
    train = tf.function(lambda: step(model, redo), autograph=False) if graph else lambda: step(model, redo)
    train()
    train()
    assert redo.neurons_reset >= 2
    assert (values(model)["2/kernel"][[3, 5]] == 0).all()
    reset = redo.neurons_reset
    for _ in range(3):
        train()
    assert probes == [2, 4]
    assert redo.last_report["0"].reset == 0, "they were reset at the first measurement"
    assert redo.neurons_reset == reset


def test_it_is_judged_on_the_model_as_the_step_left_it():
    """The probe runs after the step has written its values, in a compiled function too."""
    model = mlp()
    redo = ReDo(Adam(0.1), model, layout=mlp_layout(), every=1, max_fraction=0.0, probe=lambda: (X,))
    train = tf.function(lambda: step(model, redo), autograph=False)
    for _ in range(4):
        train()
        scores = na.tau_dormant(activations(model, X, layout=mlp_layout()), mlp_layout())
        for name, group in {name: redo.last_report[name] for name in mlp_layout()}.items():
            assert group.highest == pytest.approx(float(np.max(scores[name])), rel=1e-6)


def test_redo_is_blind_where_gradients_have_died_behind_a_saturated_tanh():
    model = mlp(activation="tanh")
    kernel, bias = model.layers[0].kernel.numpy(), model.layers[0].bias.numpy()
    kernel[:, :4], bias[:4] = 0.0, 50.0  # output 1, derivative 0
    model.layers[0].kernel.assign(kernel), model.layers[0].bias.assign(bias)
    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=0.0, every=1, max_fraction=0.0)
    redo = ReDo(regrama, model, layout=mlp_layout(), tau=0.02, every=1, max_fraction=0.0, probe=lambda: X)
    step(model, redo)
    assert regrama.last_report["0"].inactive == 4
    assert redo.last_report["0"].inactive == 0


def test_what_no_layer_shows_is_absent_and_never_reset():
    model, inputs, layout = found("depthwise, separable, transposed")
    redo = ReDo(SGD(0.0), model, layout=layout, tau=100.0, every=1, reset_silent=True, probe=lambda: inputs)
    step(model, redo, *inputs)
    assert redo.last_report.absent == ("s/depthwise",)
    assert redo.last_report["c"].reset == 8


def test_a_layer_frozen_after_the_build_is_left_out():
    model = mlp()
    redo = ReDo(SGD(0.01), model, layout=mlp_layout(), tau=0.9, every=2, probe=lambda: X)
    step(model, redo)
    model.layers[0].trainable = False
    before = values(model)
    step(model, redo)
    assert redo.last_report.absent == ("0",)
    assert redo.neurons_reset == redo.last_report["2"].reset > 0
    assert np.array_equal(values(model)["0/kernel"], before["0/kernel"])


def test_a_probe_inside_xla_and_a_missing_probe_are_refused():
    model = mlp()
    redo = ReDo(SGD(0.1), model, layout=mlp_layout(), every=1, probe=lambda: X)
    with pytest.raises(
        ValueError, match="probe is a Python function, which code compiled by XLA cannot call; give jit_co"
    ):
        fit(model, redo, jit_compile=True)
    with pytest.raises(ValueError, match="probe: expected a function that returns the model's inputs, got None"):
        ReDo(SGD(0.1), model, layout=mlp_layout(), probe=None)


def test_variables_without_layers_are_refused():
    layout = na.Layout([na.dense("w", weight=("w", "in neuron"))])
    with pytest.raises(ValueError, match="model: expected a Keras model, whose activations can be read"):
        ReDo(SGD(0.1), {"w": tf.Variable(tf.ones((2, 3)))}, layout=layout, probe=lambda: tf.ones((4, 2)))
