"""Options of a wrapper, its settings and those of the optimizer inside: what holds, and what is refused."""

import math

import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam, Lamb

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa
from tests.adapters.tensorflow.models import X, equal, fit, mlp, mlp_layout, step, values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every: expected a whole number of steps of 1 or more, got 0"),
        ({"tau": -1.0}, "tau: expected a finite number of 0 or more, got -1.0"),
        ({"tau": math.nan}, "tau: expected a finite number"),
        ({"max_fraction": 1.5}, r"max_fraction: expected a number in \[0, 1\] or None, got 1.5"),
        (
            {"initializer": "orthogonal"},
            "initializer: expected 'layer', 'snapshot' or a function from a key, got",
        ),
        ({"reset_silent": "no"}, "reset_silent: expected True or False, got 'no'"),
        ({"on_report": "print"}, "on_report: expected a function of a report or None, got 'print'"),
        ({"seed": 1.5}, "seed: expected a whole number, got 1.5"),
        ({"seed": None}, "seed: expected a whole number, got None"),
        (
            {"layout": na.Layout([na.dense("a", weight=("nope", "in neuron"))])},
            "group 'a': parameter 'nope' is missing",
        ),
        ({"layout": na.Layout([na.dense("a", weight=("0/bias", "in neuron"))])}, "expected 2 axes, got shape"),
        ({"layout": None}, "example_inputs: what the model is called with is needed"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ReGraMa(Adam(), mlp(), **{"layout": mlp_layout(), "example_inputs": (), **options})


def test_options_are_attributes_that_can_be_changed_and_are_checked():
    model, reports = mlp(), []
    regrama = ReGraMa(SGD(0.1), model, layout=mlp_layout(), tau=0.7, every=np.int64(5), seed=np.int64(3))
    assert (regrama.tau, regrama.every, regrama.max_fraction, regrama.reset_silent) == (0.7, 5, None, False)
    assert (regrama.seed, regrama.initializer, regrama.layout) == (3, "layer", mlp_layout())
    regrama.every, regrama.max_fraction, regrama.on_report = 1, 0.2, reports.append
    step(model, regrama)
    assert reports == [regrama.last_report]
    assert [reports[0][name].reset for name in ("0", "2")] == [3, 3]
    with pytest.raises(ValueError, match="every: expected a whole number of steps of 1 or more, got 0"):
        regrama.every = 0
    assert regrama.every == 1
    for name in ("seed", "initializer"):
        with pytest.raises(AttributeError, match=f"property '{name}' of 'ReGraMa' object has no setter"):
            setattr(regrama, name, None)


def test_an_option_that_is_changed_between_fits_holds_in_the_next_one():
    model, reports = mlp(), []
    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=0.0, every=2)
    fit(model, regrama, jit_compile=False)
    assert regrama.measurements == 1
    assert regrama.last_report["0"].reset < 16
    regrama.tau, regrama.every, regrama.on_report = 100.0, 1, reports.append
    model.fit(X, np.ones((len(X), 2)), batch_size=len(X), verbose=0)
    assert regrama.measurements == 2
    assert [report["0"].reset for report in reports] == [16]


def test_an_option_that_a_compiled_step_of_ones_own_would_not_see_is_refused():
    model = mlp()
    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=0.5, every=1)
    tf.function(lambda: step(model, regrama))()
    regrama.tau = 0.5
    with pytest.raises(ValueError, match="tau: a compiled step goes by the options that it was compiled with"):
        regrama.tau = 0.1
    assert regrama.tau == 0.5


SETTINGS = {"clipnorm": 0.1, "global_clipnorm": 0.1, "clipvalue": 0.1, "weight_decay": 0.1, "use_ema": True}
SETTINGS |= {"ema_momentum": 0.5, "ema_overwrite_frequency": 2, "gradient_accumulation_steps": 2}


@pytest.mark.counts(faults=len(SETTINGS))
@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_has_no_effect_on_the_wrapper_is_refused(name):
    inner = Adam()
    regrama = ReGraMa(inner, mlp(), layout=mlp_layout())
    with pytest.raises(ValueError, match=f"{name}: expected to be set on the optimizer inside"):
        setattr(regrama, name, SETTINGS[name])
    assert getattr(inner, name) != SETTINGS[name]


@pytest.mark.counts(faults=1)
def test_gradients_that_are_accumulated_from_some_step_on_are_refused():
    model = mlp()
    regrama = ReGraMa(SGD(0.1), model, layout=mlp_layout())
    step(model, regrama)
    regrama.inner_optimizer.gradient_accumulation_steps, before = 2, values(model)
    with pytest.raises(ValueError, match="optimizer SGD: gradient_accumulation_steps=2 is not supported"):
        step(model, regrama)
    assert equal(before, values(model))


def test_warnings_point_to_the_code_that_makes_or_builds_a_wrapper(recwarn):
    model, options = mlp(), {"layout": mlp_layout()}
    for layer in model.layers:
        layer.set_weights([3 * weight for weight in layer.get_weights()])
    ReGraMa(SGD(), model, **options, initializer="snapshot").build(model.trainable_variables)  # warns of nothing
    ReGraMa(SGD(), model, **options).build(model.trainable_variables)
    ReGraMa(Lamb(), model, **options)
    ReDo(Lamb(), model, **options, probe=lambda: X)
    found = [(str(warning.message)[:14], warning.filename) for warning in recwarn]
    assert found == [("fresh values h", __file__), ("optimizer Lamb", __file__), ("optimizer Lamb", __file__)]


def test_what_only_measures_or_goes_by_the_clock_of_the_run_warns_of_no_clock():
    model = mlp()
    ReGraMa(Lamb(), model, layout=mlp_layout(), max_fraction=0)
    ReGraMa(Lamb(), model, layout=mlp_layout(), clock="run")  # a warning would be an error


@pytest.mark.counts(faults=1)
def test_a_compiled_step_of_ones_own_is_told_that_an_option_has_changed():
    """The model is compiled with the wrapper, but fit is never called."""
    model = mlp()
    model.compile(ReGraMa(Adam(), model, layout=mlp_layout(), every=1000), "mse")

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(X) ** 2)
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    train()
    with pytest.raises(ValueError, match="tau: a compiled step goes by the options that it was compiled with"):
        model.optimizer.tau = 0.1


def test_an_option_may_be_changed_when_the_model_has_been_compiled_again():
    model = mlp()
    wrapper = ReGraMa(Adam(), model, layout=mlp_layout(), every=1000)
    fit(model, wrapper, jit_compile=False)
    model.compile(wrapper, "mae")
    wrapper.tau = 0.1
    assert wrapper.tau == 0.1
