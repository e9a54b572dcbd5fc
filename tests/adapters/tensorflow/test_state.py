"""Saved and restored: a resumed run is the uninterrupted one."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import Adam

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa
from tests.adapters.tensorflow.models import TwoHeaded, X, Y, equal, fit, mlp, mlp_layout, step, values

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def regrama(model, **options):
    layout = TwoHeaded.layout() if isinstance(model, TwoHeaded) else mlp_layout()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, 2, 0.9)
    return ReGraMa(Adam(schedule), model, **{"layout": layout, "tau": 0.6, "every": 2, "seed": 3, **options})


def more(model, epochs: int) -> None:
    model.fit(X, Y, batch_size=32, epochs=epochs, shuffle=False, verbose=0)


def twoheaded():
    model = TwoHeaded()
    model(X)
    return model


@pytest.mark.parametrize(
    ("make", "initializer"), [pytest.param(mlp, "snapshot", marks=pytest.mark.slow), (twoheaded, "layer")]
)
def test_a_loaded_model_goes_on_as_if_nothing_had_happened(make, initializer, tmp_path):
    """A file of ``model.save``: the loaded optimizer knows no model but what its configuration remembers."""
    whole, part = make(), make()
    for model, epochs in ((whole, 4), (part, 2)):
        fit(model, regrama(model, initializer=initializer), epochs, run_eagerly=True)
    part.save(tmp_path / "part.keras")
    resumed = keras.models.load_model(tmp_path / "part.keras")
    assert resumed.optimizer.steps == 4
    assert resumed.optimizer.last_report == part.optimizer.last_report
    assert resumed.optimizer.layout == part.optimizer.layout
    resumed.run_eagerly, resumed.jit_compile = make is twoheaded, False  # on in a graph, which changes no number
    more(resumed, 2)
    assert resumed.optimizer.resets == whole.optimizer.resets >= 3
    assert resumed.optimizer.neurons_reset == whole.optimizer.neurons_reset
    assert equal(values(resumed), values(whole))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("built", "initializer"), [pytest.param(True, "layer", marks=pytest.mark.slow), (False, "snapshot")]
)
def test_a_checkpoint_goes_on_as_if_nothing_had_happened(initializer, built, tmp_path):
    """``tf.train.Checkpoint``, restored before or after the optimizer has its variables."""
    whole, part, resumed = mlp(), mlp(), mlp(seed=5)
    for model, epochs in ((whole, 4), (part, 2)):
        fit(model, regrama(model, initializer=initializer), epochs, run_eagerly=True)
    path = tf.train.Checkpoint(model=part, optimizer=part.optimizer).save(tmp_path / "part")
    again = regrama(resumed, initializer=initializer)
    resumed.compile(again, loss="mse", jit_compile=False, run_eagerly=not built)
    if built:
        again.build(resumed.trainable_variables)
    status = tf.train.Checkpoint(model=resumed, optimizer=again).restore(path)
    more(resumed, 2)
    status.assert_consumed()
    assert (again.steps, again.neurons_reset) == (8, whole.optimizer.neurons_reset)
    assert equal(values(resumed), values(whole))


def with_snapshot(seed: int = 0):
    model = mlp(seed)
    model.compile(regrama(model, initializer="snapshot"), loss="mse")
    return model


def loaded_from_a_file(model, train, path):
    model.save(path / "start.keras")
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        return keras.models.load_model(path / "start.keras")


def restored_from_a_checkpoint(model, train, path):
    """The optimizer has its variables already, and none of them are in the checkpoint."""
    loaded = with_snapshot(seed=5)
    loaded.optimizer.build(loaded.trainable_variables)
    tf.train.Checkpoint(model=loaded).restore(tf.train.Checkpoint(model=mlp()).save(path / "start")).expect_partial()
    return loaded


def given_weights_after_tracing(model, train, path):
    loaded = with_snapshot(seed=5)
    loaded.optimizer.build(loaded.trainable_variables)
    train.get_concrete_function(loaded, loaded.optimizer)
    loaded.set_weights(model.get_weights())
    return loaded


@pytest.mark.parametrize("load", [loaded_from_a_file, restored_from_a_checkpoint, given_weights_after_tracing])
def test_a_snapshot_is_of_the_weights_before_the_first_step(load, tmp_path):
    model, train = with_snapshot(), tf.function(step) if load is given_weights_after_tracing else step
    loaded = load(model, train, tmp_path)
    model.optimizer.build(model.trainable_variables)
    for _ in range(4):
        for network in (model, loaded):
            train(network, network.optimizer)
    assert loaded.optimizer.neurons_reset == model.optimizer.neurons_reset > 5
    assert equal(values(loaded), values(model))


def test_a_state_that_says_of_batches_only_whether_there_were_any_is_read():
    """As earlier versions saved it."""
    wrapper, store = regrama(mlp()), {}
    wrapper.build(wrapper._state.record.model.trainable_variables)
    wrapper._seen.assign([1, 0, 1])
    wrapper.save_own_variables(store)
    (key,) = [str(i) for i, variable in enumerate(wrapper.variables) if variable is wrapper._seen]
    wrapper._seen.assign([0, 0, 0])
    wrapper.load_own_variables({**store, key: np.asarray(store[key]) != 0})
    assert wrapper._seen.numpy().tolist() == [1, 0, 1]


def test_the_configuration_holds_options_layout_and_inner_optimizer_and_no_weights():
    model = mlp()
    optimizer = regrama(model, max_fraction=0.25, reset_silent=True, name="mine")
    config = json.dumps(optimizer.get_config())
    assert len(config) < 12_000
    again = ReGraMa.from_config(json.loads(config))
    assert json.dumps(again.get_config()) == config
    assert (again.name, again.tau, again.every, again.max_fraction, again.reset_silent) == ("mine", 0.6, 2, 0.25, True)
    assert isinstance(again.inner_optimizer, Adam)
    assert again._state.record.model is None
    cloned = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(cloned, ReGraMa)


LAYERS = {
    "0": {
        "module": "keras.layers", "class_name": "Dense", "registered_name": None,
        "config": {"name": "dense", "trainable": True, "units": 4, "activation": "relu", "use_bias": True},
        "build_config": {"input_shape": [None, 3]},
    }
}  # fmt: skip
EARLIER = {
    "name": "mine",
    "optimizer": {
        "module": "keras.optimizers", "class_name": "Adam", "registered_name": None, "config": {"learning_rate": 0.01},
    },
    "layout": {
        "groups": [
            {
                "name": "0", "incoming": [{"param": "0/kernel", "pattern": "in neuron"}],
                "restored": [{"param": "0/bias", "pattern": "neuron"}],
                "outgoing": [{"param": "1/kernel", "pattern": "neuron out"}],
                "status": "exclusive", "reason": "proved: feeds nothing else",
            },
            {
                "name": "1", "incoming": [{"param": "1/kernel", "pattern": "in neuron"}],
                "restored": [{"param": "1/bias", "pattern": "neuron"}],
                "resettable": False, "status": "head", "reason": "feeds the output",
            },
        ]
    },
    "tau": 0.25, "every": 2, "max_fraction": 0.5, "reset_silent": False, "seed": 3, "initializer": "layer",
    "subject": {
        "parameters": [
            ["0/kernel", [3, 4], "dense/kernel"], ["0/bias", [4], "dense/bias"],
            ["1/kernel", [4, 2], "dense/kernel"], ["1/bias", [2], "dense/bias"],
        ],
        "layers": LAYERS,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", ["ReGraMa", "ReDo"])
def test_a_configuration_that_an_earlier_version_wrote_is_read(kind):
    record = {"module": None, "class_name": kind, "registered_name": f"neuroactivity>{kind}", "config": EARLIER}
    again = keras.optimizers.deserialize(json.loads(json.dumps(record)))
    assert isinstance(again, {"ReGraMa": ReGraMa, "ReDo": ReDo}[kind])
    assert (again.name, again.tau, again.every, again.max_fraction, again.seed) == ("mine", 0.25, 2, 0.5, 3)
    assert again.layout["0"].unscored == (na.ParamView("0/bias", "neuron"),)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
    again.build(model.trainable_variables)
    assert list(again._state.variables) == ["0/kernel", "0/bias", "1/kernel", "1/bias"]
    now = again.get_config()
    assert "subject" not in now
    assert type(again).from_config(now).get_config() == now


def test_a_restored_optimizer_refuses_other_variables():
    again = ReGraMa.from_config(regrama(mlp()).get_config())
    with pytest.raises(na.LayoutError, match=r"parameter '0/kernel': expected the saved shape \(5, 16\), got \(5, 8\)"):
        again.build(mlp(width=8).trainable_variables)
    again = ReGraMa.from_config(regrama(mlp()).get_config())
    with pytest.raises(na.LayoutError, match="expected the 6 variables that were saved, got 4"):
        again.build(mlp().trainable_variables[:4])


def named(name: str | None = None, first: str = "f1"):
    hidden = [keras.layers.Dense(8, "relu", name=layer) for layer in (first, "f2", "f3")]
    return keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(1)], name=name)


def test_a_restored_optimizer_refuses_variables_in_another_order(tmp_path):
    model = named()
    wrapper = ReGraMa(Adam(), model, example_inputs=np.ones((4, 8), "float32"))
    model.compile(wrapper, loss="mse")
    wrapper.build(model.trainable_variables)
    config = wrapper.get_config()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.trainable_variables[0].path != model.trainable_variables[0].path
    for copy in (model, loaded, named("other")):
        ReGraMa.from_config(config).build(copy.trainable_variables)
        a, b, c, d, *others = copy.trainable_variables
        message = r"parameter 'f1/kernel': expected the saved variable 'f1/kernel', got '.*f2/kernel'; give the variab"
        with pytest.raises(na.LayoutError, match=message):
            ReGraMa.from_config(config).build([c, d, a, b, *others])


def test_other_numbers_and_new_names_of_layers_are_no_other_order():
    config = regrama(mlp()).get_config()
    ReGraMa.from_config(config).build(mlp().trainable_variables)
    model = named()
    config = ReGraMa(Adam(), model, example_inputs=np.ones((4, 8), "float32")).get_config()
    ReGraMa.from_config(config).build(named(first="renamed").trainable_variables)


def test_a_function_in_a_configuration_has_to_be_registered():
    @keras.saving.register_keras_serializable("tests")
    def twos(key):
        return {name: np.full_like(value, 2.0) for name, value in values(mlp()).items()}

    again = ReGraMa.from_config(regrama(mlp(), initializer=twos).get_config())
    assert again.initializer is twos


def test_a_loaded_redo_asks_for_its_model_and_probe(tmp_path):
    model = mlp()
    redo = ReDo(Adam(0.01), model, layout=mlp_layout(), every=2, tau=0.3, probe=lambda: X)
    fit(model, redo, run_eagerly=True)
    model.save(tmp_path / "redo.keras")
    loaded = keras.models.load_model(tmp_path / "redo.keras")
    loaded.run_eagerly = True
    with pytest.raises(
        ValueError, match=r"this ReDo was loaded without model and probe; call optimizer\.attach\(model,"
    ):
        more(loaded, 1)
    loaded.optimizer.attach(loaded, lambda: X)
    loaded.make_train_function(force=True)
    more(loaded, 1)
    assert loaded.optimizer.measurements == 2
