"""A score of the user's in compiled code, and in files."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa, parameters
from tests.adapters.tensorflow.models import X, mlp, mlp_layout, step


@keras.saving.register_keras_serializable("tests")
def size(grads, layout, params):
    return na.magnitudes(params, layout)


def below(grads, layout):
    """Return zeros of zeros, and numbers below zero of all others."""
    return {name: -value for name, value in na.magnitudes(grads, layout).items()}


def wrapped(score, **options):
    model = mlp()
    return model, ReGraMa(keras.optimizers.SGD(0.0), model, layout=mlp_layout(), every=1, score=score, **options)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_what_is_below_zero_in_compiled_code_leaves_its_group_alone(compiled):
    model, regrama = wrapped(below)
    model.compile(regrama, loss="mse", jit_compile=compiled)
    model.fit(X, tf.zeros((len(X), model.output_shape[-1])), batch_size=len(X), verbose=0)
    assert regrama.neurons_reset == 0
    with pytest.warns(na.ActivityWarning, match="not finite"):
        assert regrama.last_report.total.nonfinite == regrama.last_report.total.neurons


def test_eager_code_names_what_is_below_zero():
    model, regrama = wrapped(below)
    with pytest.raises(ValueError, match="expected scores of 0 or more, got -"):
        step(model, regrama)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_file_keeps_the_score(tmp_path):
    model, regrama = wrapped(size)
    model.compile(regrama, loss="mse")
    model.fit(X, tf.zeros((len(X), model.output_shape[-1])), batch_size=len(X), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert loaded.score is size
    assert loaded.measurements == regrama.measurements == 1


def test_a_configuration_of_an_earlier_version_has_no_score():
    _, regrama = wrapped(None)
    config = regrama.get_config()
    assert config.pop("score") is None
    assert ReGraMa.from_config(config).score is None


def test_a_rule_s_score_needs_no_registration():
    _, regrama = wrapped(na.rules.GRAMA.options["score"])
    assert ReGraMa.from_config(regrama.get_config()).score is na.rules.grama_1e9


def test_the_score_of_a_wrapper_does_not_change():
    _, regrama = wrapped(size)
    with pytest.raises(AttributeError, match="score"):
        regrama.score = below


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 2.0}, {"clipnorm": 2.0}, {"clipvalue": 0.5}], ids=str)
def test_a_score_is_given_the_gradients_that_the_step_uses(options):
    """Without the scale of the loss, and clipped."""
    given = []

    def score(grads, layout):
        given.append(grads)
        return na.magnitudes(grads, layout)

    model = mlp()
    inner = keras.optimizers.SGD(1.0, loss_scale_factor=8.0, **options)
    regrama = ReGraMa(inner, model, layout=mlp_layout(), every=1, max_fraction=0, score=score)
    before = parameters(model)
    regrama.apply([tf.fill(variable.shape, 24.0) for variable in model.trainable_variables], model.trainable_variables)
    for name, value in parameters(model).items():
        if value.shape.rank == 2:
            np.testing.assert_allclose(given[-1][name], before[name] - value, rtol=1e-4)
