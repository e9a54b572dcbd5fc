"""The engine around a Keras optimizer: when it measures, what it resets, what it leaves alone."""

import math
import random
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa
from tests.adapters.tensorflow.models import (
    TwoHeaded,
    X,
    built,
    equal,
    fit,
    kill,
    mlp,
    mlp_layout,
    step,
    values,
)


def test_equal_seeds_write_equal_values_whatever_the_global_generators_do():
    weights = []
    for seed, noise in ((4, 1), (4, 2), (5, 1)):
        model = mlp()
        keras.utils.set_random_seed(noise)
        step(model, ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=0.7, every=1, seed=seed))
        weights.append(values(model)["0/kernel"])
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_each_reset_takes_the_next_draw():
    """Counted by resets, whatever is measured between them and however many neurons they reset."""
    model = mlp()
    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=0.7, every=1)
    for event in (1, None, 2):
        before = values(model)["0/kernel"]
        if event:
            step(model, regrama)
        else:
            regrama.apply([tf.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
        now, drawn = values(model)["0/kernel"], regrama._state.fresh.draw(event or 0, ["0/kernel"])["0/kernel"].numpy()
        reset = (now != before).any(0)
        assert (reset.sum() > 0) == (event is not None)
        assert np.array_equal(now[:, reset], drawn[:, reset])
    assert (regrama.measurements, regrama.resets) == (3, 2)


def test_a_snapshot_is_taken_before_the_first_step_and_never_again():
    model = mlp()
    regrama = ReGraMa(SGD(0.1), model, layout=mlp_layout(), every=9, initializer="snapshot")
    regrama.build(model.trainable_variables)
    for variable in model.trainable_variables:
        variable.assign(tf.ones_like(variable))
    for _ in range(2):
        step(model, regrama)
    assert set(regrama._state.snapshot) == {"0/kernel", "0/bias", "2/kernel", "2/bias"}
    assert all((copy.numpy() == 1).all() for copy in regrama._state.snapshot.values())
    assert not (values(model)["0/kernel"] == 1).all()


def test_a_layer_that_is_frozen_amid_the_batches_of_a_score_is_left_out():
    model = mlp()
    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), every=2, batches=2, max_fraction=0)
    step(model, regrama)
    model.layers[0].trainable = False
    step(model, regrama)
    assert regrama.last_report.absent == ("0",)


def test_measurements_fall_on_every_nth_step_and_reports_are_passed_on():
    model, due = mlp(), []
    regrama = ReGraMa(
        SGD(0.1),
        model,
        layout=mlp_layout(),
        every=3,
        max_fraction=0.0,
        on_report=lambda report: due.append((regrama.steps, report["0"].neurons)),
    )
    fit(model, regrama, 5, jit_compile=False)
    assert due == [(3, 16), (6, 16), (9, 16)]
    assert regrama.neurons_reset == 0


def test_heads_and_groups_of_other_optimizers_are_left_alone():
    model = built(TwoHeaded())
    regrama = ReGraMa(Adam(), model, layout=model.layout(), tau=100.0, every=1)
    trained = [*model.trunk[2].variables, *model.mean.variables, *model.log_std.variables]
    before = values(model)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(X) ** 2)
    regrama.apply_gradients(zip(tape.gradient(loss, trained), trained, strict=True))
    after = values(model)
    assert regrama.last_report.absent == ("trunk/0",)
    assert np.array_equal(after["trunk/0/kernel"], before["trunk/0/kernel"])
    assert regrama.last_report["mean"].reset == 0
    assert regrama.last_report["trunk/2"].reset == 12
    assert (after["mean/kernel"] == 0).all()
    assert (after["mean/bias"] != 0).any()


def test_a_reset_that_would_write_into_another_optimizers_parameter_is_refused():
    model = built(TwoHeaded())
    regrama = ReGraMa(Adam(), model, layout=model.layout())
    message = "group 'trunk/2': a reset would write parameter 'log_std/kernel', which this optimizer does not train"
    with pytest.raises(ValueError, match=message):
        regrama.build([v for layer in (model.trunk[0], model.trunk[2], model.mean) for v in layer.variables])


def test_another_models_optimizer_is_refused():
    regrama = ReGraMa(Adam(), mlp(), layout=mlp_layout())
    with pytest.raises(ValueError, match="the optimizer trains none of the model's neuron groups"):
        regrama.build(mlp().trainable_variables)


@pytest.mark.parametrize("graph", [False, True])
def test_exactly_one_neuron_is_reset(graph):
    model = mlp()
    kill(model.layers[0], [7])
    regrama = ReGraMa(SGD(0.0), model, layout=na.Layout([mlp_layout()["0"]]), tau=0.0, every=1)
    before = values(model)
    (tf.function(step) if graph else step)(model, regrama)
    assert (regrama.measurements, regrama.resets, regrama.neurons_reset) == (1, 1, 1)
    changed = (values(model)["0/kernel"] != before["0/kernel"]).any(axis=0)
    assert np.flatnonzero(changed).tolist() == [7]
    assert (values(model)["2/kernel"] == 0).all(axis=1).nonzero()[0].tolist() == [7]


def partners(*names):
    """The layout with its hidden groups as partners, which in such a network stand for any two."""
    layout = mlp_layout()
    pairs = {"0": "2", "2": "0"}
    return na.Layout([replace(g, partners=(pairs[g.name],) if g.name in names else ()) for g in layout.values()])


def test_partners_that_the_optimizer_trains_are_kept_and_others_are_dropped():
    """When a layer is frozen before the build, or after it."""
    model, layout = mlp(), partners("0", "2")
    regrama = ReGraMa(SGD(0.0), model, layout=layout, every=1, max_fraction=0.0)
    regrama.build(model.trainable_variables)
    assert regrama._state.trained == layout
    model.layers[0].trainable = False
    step(model, regrama)
    left = regrama._groups_of_step(model.trainable_variables)
    assert {name: group.partners for name, group in left.items()} == {"2": (), "4": ()}
    assert regrama.last_report.absent == ("0",)
    frozen = ReGraMa(SGD(0.0), model, layout=layout, every=1, max_fraction=0.0)
    frozen.build(model.trainable_variables)
    assert frozen._state.trained == left
    step(model, frozen)
    assert frozen.last_report.absent == ("0",)


def test_at_most_a_fraction_is_reset():
    model = mlp()
    regrama = ReGraMa(Adam(), model, layout=mlp_layout(), tau=0.9, max_fraction=0.2, every=1)
    step(model, regrama)
    assert regrama.last_report["0"].inactive > 3
    assert [regrama.last_report[name].reset for name in ("0", "2", "4")] == [3, 3, 0]


def test_a_frozen_layer_is_left_out():
    model = mlp()
    model.layers[0].trainable = False
    before = values(model)
    regrama = ReGraMa(Adam(), model, layout=mlp_layout(), tau=100.0, every=1)
    step(model, regrama)
    assert regrama.last_report.absent == ("0",)
    assert np.array_equal(values(model)["0/kernel"], before["0/kernel"])


@pytest.mark.sampled(1)
@pytest.mark.filterwarnings("ignore:.*were reset last are inactive again")
@pytest.mark.parametrize("eagerly", [False, True])
def test_a_layer_frozen_after_the_build_is_left_out(eagerly):
    model = mlp()
    regrama = ReGraMa(Adam(), model, layout=mlp_layout(), tau=0.6, every=2)
    for frozen in (False, True, False):
        model.layers[0].trainable = not frozen
        before, reset = values(model), regrama.neurons_reset
        fit(model, regrama, run_eagerly=eagerly, jit_compile=False)
        after, report = values(model), regrama.last_report
        assert report.absent == (("0",) if frozen else ())
        assert regrama.neurons_reset - reset == report["2"].reset + (0 if frozen else report["0"].reset) > 0
        assert np.array_equal(after["0/kernel"], before["0/kernel"]) == frozen


@pytest.mark.parametrize("graph", [False, True])
def test_a_reset_into_a_layer_frozen_after_the_build_is_refused(graph):
    """Whether or not a measurement is due, and before anything is written."""
    model = mlp()
    regrama = ReGraMa(Adam(), model, layout=mlp_layout(), tau=100.0, every=3)
    step(model, regrama)
    model.layers[2].trainable = False
    before = values(model)
    train = tf.function(step) if graph else step
    message = "group '0': a reset would write parameter '2/kernel', which this step does not train; mark the group"
    with pytest.raises(ValueError, match=message):
        train(model, regrama)
    assert equal(values(model), before)
    measuring = ReGraMa(Adam(), model, layout=mlp_layout(), max_fraction=0.0, every=1)
    measuring.build([variable for layer in model.layers[::2] for variable in layer.variables])
    train(model, measuring)
    assert measuring.last_report.absent == ("2",)


def test_a_variable_without_a_gradient_is_not_a_frozen_one():
    model = mlp()
    regrama = ReGraMa(SGD(0.1), model, layout=mlp_layout(), tau=100.0, every=1)
    grads = [tf.ones(variable.shape) for variable in model.trainable_variables]
    with pytest.warns(UserWarning, match="Gradients do not exist for variables"):
        regrama.apply([*grads[:2], None, None, *grads[4:]], model.trainable_variables)
    assert regrama.last_report["0"].reset == 16
    assert (values(model)["2/kernel"] == 0).all()


def test_nan_gradients_reset_nothing_and_warn_once():
    """Published fault 1, and one warning however often the report is read."""
    model = mlp()
    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=0.5, every=1)
    grads = [np.ones(variable.shape, "float32") for variable in model.trainable_variables]
    grads[0][1, 1] = math.nan
    before = values(model)
    regrama.apply([tf.constant(gradient) for gradient in grads], model.trainable_variables)
    with pytest.warns(na.ActivityWarning, match=r"0 \(not finite: NaN or Inf\)"):
        report = regrama.last_report
    assert report["0"].reset == 0
    assert regrama.last_report == report  # a second warning would be an error
    assert np.array_equal(values(model)["0/kernel"][:, 2], before["0/kernel"][:, 2])


def test_a_silent_group_is_reset_only_if_asked():
    for asked in (False, True):
        model = mlp()
        regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), every=1, reset_silent=asked)
        grads = [tf.zeros(variable.shape) for variable in model.trainable_variables]
        regrama.apply(grads, model.trainable_variables)
        assert regrama.neurons_reset == (32 if asked else 0)


def test_a_measurement_leaves_no_trace():
    """Published fault 9."""
    model = mlp()
    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=0.7, every=1)
    state = random.getstate(), np.random.get_state()[1].tobytes()
    step(model, regrama)
    assert regrama.neurons_reset > 0
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == state
    assert not any("call" in vars(layer) for layer in model.layers)
    assert all(variable.trainable for variable in model.layers[0].variables)


def test_it_passes_on_what_it_is_asked_about_the_inner_optimizer():
    inner = Adam(0.01, loss_scale_factor=8.0, use_ema=True, weight_decay=0.1)
    model = mlp()
    regrama = ReGraMa(inner, model, layout=mlp_layout())
    regrama.exclude_from_weight_decay(var_names=["bias"])
    regrama.learning_rate = 0.25
    assert float(regrama.learning_rate) == float(inner.learning_rate) == 0.25
    assert float(regrama.scale_loss(tf.constant(1.0))) == 8.0
    fit(model, regrama, run_eagerly=True)
    assert not inner._use_weight_decay(model.layers[0].bias)
    assert np.array_equal(
        model.layers[0].kernel, inner._model_variables_moving_average[0]
    )  # fit ends with the averages
    assert int(regrama.iterations) == 2
    assert [id(variable) for variable in inner.variables] == [id(v) for v in regrama.variables][-len(inner.variables) :]
    assert "adam" in ReGraMa("adam", model, layout=mlp_layout()).inner_optimizer.name


def test_scalars_have_their_keys_from_the_start(tmp_path):
    """A CSV logger fixes its columns at the end of the first epoch."""
    model = mlp()
    model.layers[0].trainable = False
    regrama = ReGraMa(SGD(0.1), model, layout=mlp_layout(), tau=0.6, every=3)
    keys = set(regrama.scalars("critic"))
    assert all(map(math.isnan, regrama.scalars("critic").values()))
    log = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(regrama.scalars("critic")))
    model.compile(regrama, loss="mse")
    model.fit(X, X[:, :2], 32, 2, verbose=0, callbacks=[log, keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    header, first, second = ((tmp_path / "log.csv").read_text()).splitlines()
    assert keys <= set(header.split(","))
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in (first, second)]
    assert [row["critic/2/inactive_fraction"] == "nan" for row in rows] == [True, False]
    assert float(rows[1]["critic/neurons"]) == 18
    assert math.isnan(regrama.scalars("critic")["critic/0/inactive_fraction"])
    assert set(regrama.scalars("critic")) == keys
