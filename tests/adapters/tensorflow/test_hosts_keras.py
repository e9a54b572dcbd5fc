"""In Keras's fit: the callback wraps the optimizer, and its figures are in every logger, file and later training."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa
from neuroactivity_tensorflow.hosts.keras import ActivityCallback, detach

X = np.random.default_rng(0).standard_normal((64, 5)).astype("float32")
Y = X[:, :1] * X[:, 1:2]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras
ROOT = Path(__file__).parents[3]
KEY = "neuroactivity/hidden/inactive_fraction"


def make(optimizer="adam", *, run_eagerly=True, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    outputs = keras.layers.Dense(1, name="out")(keras.layers.Dense(12, "relu", name="hidden")(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(optimizer, "mse", run_eagerly=run_eagerly, **options)
    return model


LAYOUT = na.Layout(
    [
        na.dense(
            "hidden", weight=("hidden/kernel", "in neuron"), bias="hidden/bias", outgoing=[("out/kernel", "neuron out")]
        ),
        na.dense("out", weight=("out/kernel", "in neuron"), bias="out/bias", resettable=False),
    ]
)
OPTIONS = {"every": 2, "tau": 0.5, "layout": LAYOUT}


def fit(model, *callbacks, epochs=1, **options):
    return model.fit(X, Y, batch_size=16, epochs=epochs, callbacks=list(callbacks), verbose=0, shuffle=False, **options)


def recording(optimizer):
    """Let an optimizer keep the gradients of its last step."""
    apply, seen = optimizer.apply, {}

    def record(grads, trainable_variables=None):
        seen.update(enumerate([tf.convert_to_tensor(grad).numpy() for grad in grads]))
        apply(grads, trainable_variables)

    object.__setattr__(optimizer, "apply", record)
    return seen


def test_scores_are_those_of_the_steps_own_gradients_and_its_neurons_alone_are_reset():
    optimizer, callback = keras.optimizers.SGD(1e-2, momentum=0.9), ActivityCallback(every=4, tau=0.5)
    seen = recording(optimizer)
    model = make(optimizer)
    twin = make(keras.optimizers.SGD(1e-2, momentum=0.9))
    fit(model, callback)
    fit(twin)
    layout = callback.wrapper.layout
    names = [f"{layer}/{kind}" for layer in ("hidden", "out") for kind in ("kernel", "bias")]
    scores = na.grama(dict(zip(names, seen.values(), strict=True)), layout)
    report = callback.wrapper.last_report
    np.testing.assert_allclose(report["hidden"].scores[0], scores["hidden"], rtol=1e-5)
    mask = scores["hidden"] <= 0.5
    assert 0 < report["hidden"].reset == mask.sum() < 12
    kernel, out = model.get_layer("hidden").kernel.numpy(), model.get_layer("out").kernel.numpy()
    np.testing.assert_array_equal((out == 0)[:, 0], mask)
    np.testing.assert_array_equal(kernel[:, ~mask], twin.get_layer("hidden").kernel.numpy()[:, ~mask])
    assert (kernel[:, mask] != twin.get_layer("hidden").kernel.numpy()[:, mask]).all()
    momentum = optimizer.momentums[0].numpy()
    assert not momentum[:, mask].any()
    assert momentum[:, ~mask].any()


def test_a_logger_behind_it_has_the_same_columns_from_the_first_epoch(tmp_path):
    callback = ActivityCallback(**{**OPTIONS, "every": 6}, details=True)
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = fit(make(), callback, logger, epochs=3, validation_data=(X, Y)).history
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    values = [float(row[KEY]) for row in rows]
    assert np.isnan(values[0])
    assert values[1:] == history[KEY][1:] == [callback.wrapper.last_report["hidden"].inactive_fraction] * 2


def test_tensorboard_behind_it_has_its_figures(tmp_path):
    fit(make(), ActivityCallback(**OPTIONS, details=True), keras.callbacks.TensorBoard(tmp_path))
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("events*"))
    assert f"epoch_{KEY}".encode() in written


def test_the_progress_bar_shows_two_figures(capsys):
    callback = ActivityCallback(**OPTIONS)
    make().fit(X, Y, batch_size=16, callbacks=[callback], verbose=2)
    shown = re.findall(r"(neuroactivity\S+): (\S+)", capsys.readouterr().out)
    total = callback.wrapper.last_report.total
    expected = {"neuroactivity/inactive_fraction": total.inactive_fraction, "neuroactivity/reset": total.reset}
    assert {name: float(value) for name, value in shown} == pytest.approx(expected, abs=1e-3)


MODES = [{"run_eagerly": True}, {"jit_compile": True}, {"jit_compile": False, "steps_per_execution": 2}]


@pytest.mark.parametrize(
    "mode", [pytest.param(MODES[1], marks=pytest.mark.slow), MODES[2]], ids=["XLA", "several steps at once"]
)
def test_it_finds_the_same_however_keras_compiles_the_step(mode, tmp_path):
    reports = []
    for options in (MODES[0], mode):
        callback = ActivityCallback(**OPTIONS | {"every": 4})  # what is drawn at a reset depends on the compiler
        logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
        history = fit(make(**{"run_eagerly": False} | options), callback, logger).history
        assert callback.wrapper.steps == 4
        assert callback.wrapper.neurons_reset > 0
        reports.append((callback.wrapper.last_report, history["neuroactivity/reset"]))
    (eager, logged), (compiled, logged_compiled) = reports
    np.testing.assert_allclose(compiled["hidden"].scores, eager["hidden"].scores, rtol=1e-4)
    assert logged == logged_compiled == [eager.total.reset]


SCRIPT = """
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from tests.adapters.tensorflow.test_hosts_keras import OPTIONS, ActivityCallback, detach, fit, make

found = []
for strategy in (tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tf.distribute.get_strategy()):
    with strategy.scope():
        model = make(run_eagerly=False, jit_compile=False)
    callback = ActivityCallback(**OPTIONS)
    history = fit(model, callback).history
    assert callback.wrapper.steps == 4
    found.append((callback.wrapper.neurons_reset, history["neuroactivity/reset"]))
    detach(model)
    fit(model)
assert found[0] == found[1], found
assert found[0][0] > 0
"""


@pytest.mark.slow
def test_a_mirrored_strategy_finds_what_one_device_does():
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("method", ["regrama", "redo", "measure"])
def test_each_method_counts_and_only_two_of_them_reset(method):
    options = {"probe": lambda: X} if method == "redo" else {}
    callback = ActivityCallback(method, **OPTIONS, **options)
    fit(make(run_eagerly=False, jit_compile=False), callback)
    wrapper = callback.wrapper
    assert type(wrapper) is (ReDo if method == "redo" else ReGraMa)
    assert (wrapper.steps, wrapper.measurements) == (4, 2)
    assert (wrapper.neurons_reset > 0) == (method != "measure")


def test_slots_and_steps_of_the_optimizer_go_on_and_detaching_leaves_nothing():
    model = make()
    fit(model)
    adam, before = model.optimizer, [variable.numpy() for variable in model.optimizer.variables]
    callback = ActivityCallback("measure")
    callback.set_model(model)
    callback.on_train_begin()
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, adam.variables, strict=True))
    fit(model, callback)
    assert (int(adam.iterations), callback.wrapper.steps) == (8, 4)
    detach(model)
    plain = make()
    fit(plain, epochs=2)
    assert model.optimizer is adam
    config = model.get_compile_config()["optimizer"]
    assert (config["class_name"], config["config"]["name"]) == ("Adam", adam.name)
    fit(model)
    fit(plain)
    assert callback.wrapper.steps == 4
    for one, other in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="expected a wrapper around its optimizer, got Adam"):
        detach(model)


@pytest.mark.slow
def test_the_next_fit_of_a_saved_model_goes_on_where_the_last_one_ended(tmp_path):
    model, callback = make(), ActivityCallback(**OPTIONS)
    fit(model, callback)
    model.save(tmp_path / "model.keras")
    loaded, again = keras.models.load_model(tmp_path / "model.keras"), ActivityCallback(**OPTIONS)
    fit(model, callback)
    fit(loaded, again)
    assert again.wrapper.measurements == callback.wrapper.measurements == 4
    assert again.wrapper.neurons_reset == callback.wrapper.neurons_reset > 0
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_second_wrapper_with_other_options_is_refused():
    model = make()
    fit(model, ActivityCallback(**OPTIONS))
    with pytest.raises(ValueError, match=r"a ReGraMa with other options is around it already; .* call detach\(model\)"):
        fit(model, ActivityCallback(**{**OPTIONS, "tau": 0.25}))
    with pytest.raises(ValueError, match="a ReGraMa with other options"):
        fit(model, ActivityCallback("redo", probe=lambda: X))
    detach(model)
    fit(model, ActivityCallback(**{**OPTIONS, "tau": 0.25}))


def test_two_callbacks_in_one_fit_are_refused():
    model, one = make(), ActivityCallback(**OPTIONS)
    for two in ([one, ActivityCallback(**OPTIONS)], [one, one]):
        with pytest.raises(ValueError, match=r"^callback: two ActivityCallbacks in one fit"):
            fit(model, *two)
    fit(model, one)
    assert one.wrapper.measurements == 2


@pytest.mark.slow
def test_the_functions_of_the_next_callback_are_called_in_the_next_fit():
    model, calls = make(), []
    for number in (1, 2):
        probe = lambda number=number: (calls.append(number), X)[1]  # noqa: E731
        fit(model, ActivityCallback("redo", probe=probe, every=2))
    assert calls == [1, 1, 1, 2, 2, 2]
    calls.clear()
    detach(model)
    for number in (1, 2):
        fit(model, ActivityCallback(every=2, on_report=lambda report, number=number: calls.append(number)))
    assert calls == [1, 1, 2, 2]


def test_options_are_checked_when_the_callback_is_made():
    with pytest.raises(ValueError, match="method: expected 'regrama', 'redo' or 'measure', got 'gramma'"):
        ActivityCallback("gramma")
    with pytest.raises(TypeError, match="evry"):
        ActivityCallback(evry=2)
    with pytest.raises(ValueError, match="every: expected a whole number of steps of 1 or more, got 0"):
        ActivityCallback(every=0)
    with pytest.raises(ValueError, match="probe: expected a function that returns the model's inputs, got None"):
        fit(make(), ActivityCallback("redo"))


def test_mixed_precision_keeps_its_loss_scale_outside():
    model = make(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()))
    fit(model)
    callback = ActivityCallback(**OPTIONS)
    fit(model, callback)
    assert model.optimizer.inner_optimizer is callback.wrapper
    assert callback.wrapper.steps == 4
    detach(model)
    assert type(model.optimizer.inner_optimizer) is keras.optimizers.Adam


class Sequences(keras.Model):
    """Two inputs by name, of which one is of whole numbers."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(6, "relu"), keras.layers.Dense(1)

    def call(self, inputs):
        return self.out(self.hidden(keras.ops.concatenate([inputs["a"], inputs["b"]], axis=-1)))


TOKENS = np.arange(40).reshape(8, 5) % 7


def sequential():
    return keras.Sequential([keras.layers.Dense(6, "relu"), keras.layers.Dense(1)])


def tokens():
    inputs = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(7, 6, name="embedding")(inputs)
    return keras.Model(
        inputs, keras.layers.Dense(1, name="out")(keras.layers.Dense(8, "relu", name="hidden")(embedded))
    )


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["sequential", "tokens", "by_name"])
def test_example_inputs_are_made_up_of_what_the_model_was_built_for(kind):
    x, y = {"sequential": (X, Y), "tokens": (TOKENS, np.ones((8, 5, 1))), "by_name": ({"a": X, "b": X}, Y)}[kind]
    model = {"sequential": sequential, "tokens": tokens, "by_name": Sequences}[kind]()
    model.compile("adam", "mse", run_eagerly=True)
    model(x)
    callback = ActivityCallback(every=1, tau=0.5)
    model.fit(x, y, batch_size=64, callbacks=[callback], verbose=0)
    statuses = [group.status for group in callback.wrapper.layout.values()]
    assert statuses == ["exclusive"] * (kind == "tokens") + ["exclusive", "head"]
    assert callback.wrapper.measurements == 1


def test_inputs_that_cannot_be_made_up_are_asked_for():
    model = Sequences()
    model.compile("adam", "mse", run_eagerly=True)
    x = {"a": X, "b": X}
    with pytest.raises(na.LayoutError, match=r"example_inputs: .* cannot be made up; give a few samples"):
        model.fit(x, Y, callbacks=[ActivityCallback()], verbose=0)
    model.fit(
        x, Y, callbacks=[ActivityCallback(example_inputs={name: part[:8] for name, part in x.items()})], verbose=0
    )


@pytest.mark.counts(faults=1)
def test_a_model_that_steps_with_another_optimizer_is_named():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = keras.layers.Dense(12, "relu"), keras.layers.Dense(1)
            self.own = keras.optimizers.Adam()

        def call(self, x):
            return self.out(self.hidden(x))

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x) - y) ** 2)
            self.own.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return {"loss": loss}

    model = Own()
    model(X)
    model.compile(loss="mse", run_eagerly=True)
    with pytest.warns(na.ActivityWarning, match="takes no step of model.optimizer, so nothing is measured"):
        fit(model, ActivityCallback(every=1, example_inputs=X[:8]))
