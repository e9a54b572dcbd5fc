"""ReGraMa and ReDo: judged on the gradients of the step, or on the activations of a probe."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa, activations, gradients, layout_of
from tests.adapters.tensorflow.architectures import found
from tests.adapters.tensorflow.models import (
    IMAGES,
    TwoHeaded,
    X,
    built,
    convnet,
    fit,
    kill,
    mlp,
    mlp_layout,
    step,
    values,
)


def test_dead_neurons_are_found_and_reset_and_the_others_left_alone():
    model, plain = mlp(), mlp()
    for network in (model, plain):
        kill(network.layers[0], [2, 9])
    regrama = ReGraMa(Adam(0.01), model, example_inputs=X, tau=0.0, every=2)
    fit(model, regrama, jit_compile=False)
    fit(plain, Adam(0.01), jit_compile=False)
    new, old = values(model), values(plain)
    assert (regrama.steps, regrama.measurements, regrama.resets) == (2, 1, 1)
    assert regrama.neurons_reset == regrama.last_report["0"].reset + regrama.last_report["2"].reset
    dead = (old["0/kernel"] != new["0/kernel"]).any(axis=0)
    assert dead[[2, 9]].all()
    assert dead.sum() == regrama.last_report["0"].reset < 16
    assert (new["2/kernel"][dead] == 0).all()
    assert np.array_equal(new["4/bias"], old["4/bias"])
    assert (regrama.inner_optimizer._momentums[0].numpy()[:, dead] == 0).all()


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("make", "x", "keeps"),
    [
        (mlp, X, {"0": lambda m: m.layers[1], "2": lambda m: m.layers[3]}),
        (convnet, IMAGES, {"conv": lambda m: m.get_layer("keep1"), "fc": lambda m: m.get_layer("keep2")}),
        (TwoHeaded, X, {"trunk/0": lambda m: m.trunk[1], "trunk/2": lambda m: m.trunk[3]}),
    ],
    ids=["mlp", "convnet", "actor"],
)
def test_a_reset_computes_what_ablation_computes(make, x, keeps):
    """Neurons that feed a plain next layer: the network after a reset is the network with those neurons silenced."""
    keras.config.set_dtype_policy("float64")
    try:
        model, ablated, x = built(make(), x), built(make(), x), x.astype("float64")
        layout = layout_of(model, x)
        grads = step(ablated, SGD(0.01), x)
        masks = na.reset_masks(na.grama(gradients(ablated, grads), layout), tau=0.8)
        for group, keep in keeps.items():
            keep(ablated).keep.assign(np.where(masks[group], 0.0, 1.0))
        regrama = ReGraMa(SGD(0.01), model, layout=layout, tau=0.8, every=1)
        step(model, regrama, x)
        assert regrama.neurons_reset == sum(int(np.sum(masks[group])) for group in keeps) > 5
        assert regrama._scores.dtype == model(x).dtype.name == "float64"
        np.testing.assert_allclose(model(x), ablated(x), rtol=1e-13, atol=1e-14)
    finally:
        keras.config.set_dtype_policy("float32")


def test_gradients_are_measured_as_the_step_uses_them():
    """Clipped one by one, all entries count alike; the scale of the loss is taken off before."""
    model = mlp()
    clipped = SGD(0.0, clipvalue=1.0, loss_scale_factor=8.0)
    regrama = ReGraMa(clipped, model, layout=mlp_layout(), every=1, max_fraction=0.0)
    grads = [np.full(variable.shape, 800.0, "float32") for variable in model.trainable_variables]
    grads[0][:, 0] = 4.0
    regrama.apply([tf.constant(gradient) for gradient in grads], model.trainable_variables)
    report = regrama.last_report["0"]
    assert report.lowest == pytest.approx(0.5 / (15.5 / 16))
    assert report.highest == report.median == pytest.approx(1.0 / (15.5 / 16))


@pytest.mark.parametrize("graph", [False, True])
def test_planted_dormant_neurons_are_found_and_the_probe_is_called_at_first_and_when_due(graph):
    model, probes, made = mlp(), [], []
    kill(model.layers[0], [3, 5])

    def probe():
        probes.append(made[0].steps if made else 0)
        return X

    redo = ReDo(SGD(0.0), model, layout=mlp_layout(), tau=0.0, every=2, probe=probe)
    made.append(redo)
    train = tf.function(lambda: step(model, redo), autograph=False) if graph else lambda: step(model, redo)
    train()
    train()
    assert redo.neurons_reset >= 2
    assert (values(model)["2/kernel"][[3, 5]] == 0).all()
    reset = redo.neurons_reset
    for _ in range(3):
        train()
    assert probes == [0, 2, 4]
    assert redo.last_report["0"].reset == 0, "they were reset at the first measurement"
    assert redo.neurons_reset == reset


@pytest.mark.slow
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
    with pytest.warns(na.ActivityWarning, match="ReDo does not measure s/depthwise: what their readers see cannot be"):
        redo = ReDo(SGD(0.0), model, layout=layout, tau=100.0, every=1, reset_silent=True, probe=lambda: inputs)
    step(model, redo, *inputs)
    assert redo.last_report.absent == ("s/depthwise",)
    assert redo.last_report["c"].reset == 8


def test_the_probe_is_tried_when_the_wrapper_is_made_and_may_be_empty_then():
    layout = na.Layout([na.dense("0", weight=("0/kernel", "in neuron"), outgoing=[("2/kernel", "neuron out")])])
    wrong = na.Layout([replace(layout["0"], activation="neuron")])
    with pytest.raises(na.LayoutError, match="group '0', activation 'neuron', read at the input of '2/kernel'"):
        ReDo(SGD(0.0), mlp(), layout=wrong, probe=lambda: X)
    with pytest.raises(na.LayoutError, match="group '0', activation 'neuron', read at the input of '2/kernel'"):
        ReDo(SGD(0.0), mlp(), layout=wrong, probe=lambda: [].pop(), example_inputs=X)
    state, model = np.random.get_state()[1].tobytes(), mlp()
    redo = ReDo(SGD(0.0), model, layout=mlp_layout(), every=1, probe=lambda: np.random.normal(size=(8, 5)))
    assert np.random.get_state()[1].tobytes() == state
    step(model, redo)
    assert redo.measurements == 1


def test_measuring_needs_no_example_inputs_and_no_search():
    for wrapper, options in ((ReGraMa, {}), (ReDo, {"probe": lambda: X})):
        model = mlp()
        kill(model.layers[0], [3, 5])
        measuring = wrapper(SGD(0.1), model, max_fraction=0, every=1, tau=0.0, **options)
        assert {group.status for group in measuring.layout.values()} == {"listed"}
        fit(model, measuring, jit_compile=False)
        assert (measuring.measurements, measuring.last_report["0"].inactive, measuring.neurons_reset) == (2, 2, 0)


def test_a_layout_that_was_only_listed_cannot_be_reset():
    model = mlp()
    with pytest.raises(na.LayoutError, match="layout: its groups are listed and not searched"):
        ReGraMa(SGD(0.1), model, layout=layout_of(model))


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


@pytest.mark.parametrize("wrapper", [ReGraMa, ReDo])
def test_an_option_that_is_not_known_is_named(wrapper):
    probe = {"probe": lambda: X} if wrapper is ReDo else {}
    with pytest.raises(TypeError, match="max_frac"):
        wrapper(SGD(0.1), mlp(), layout=mlp_layout(), max_frac=0.1, **probe)


def test_redo_takes_the_options_of_regrama():
    options = {"every": 3, "max_fraction": 0.5, "reset_silent": True, "initializer": "snapshot", "seed": 4}
    redo = ReDo(SGD(0.1), mlp(), probe=lambda: X, layout=mlp_layout(), on_report=print, name="mine", **options)
    assert {name: getattr(redo, name) for name in options} == options
    assert (redo.tau, redo.on_report, redo.name) == (0.02, print, "mine")


@pytest.mark.counts(faults=3)
def test_what_can_be_told_is_told_when_the_wrapper_is_made():
    frozen = mlp()
    frozen.layers[-1].trainable = False
    with pytest.raises(ValueError, match="4/kernel"):
        ReGraMa(Adam(), frozen, layout=mlp_layout())
    with pytest.raises(ValueError, match="optimizer: expected a Keras optimizer, got None"):
        ReGraMa(None, mlp(), layout=mlp_layout())
    adam, model, kept = Adam(), mlp(), []
    try:
        ReDo(adam, model, layout=mlp_layout(), probe=lambda: np.zeros((4, 99), "float32"))
    except Exception as error:  # which holds the wrapper that could not be made
        kept.append(error)
    assert kept
    ReDo(adam, model, layout=mlp_layout(), probe=lambda: X)
