"""Fresh values: drawn as each layer draws them, from a snapshot, or by the user's function."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from keras.optimizers import SGD

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa, layout_of, parameters
from neuroactivity_tensorflow.initializers import FreshValues, RebuiltLayer, _brief, _SeedWords
from neuroactivity_tensorflow.parameters import owner_of, tf_variable, variables_of
from tests.adapters.tensorflow.models import built, equal, fit, mlp, mlp_layout, step, values


def resettable(model) -> na.Layout:
    """A layout in which each parameter is reset; what it feeds does not matter here."""
    named = parameters(model).items()
    axes = {name: [f"a{axis}" for axis in range(1, len(value.shape))] for name, value in named}
    return na.Layout([na.NeuronGroup(name, [(name, " ".join([*axes[name], "neuron"]))]) for name, _ in named])


def drawn(model, events, *, seed: int = 0):
    """Fresh values of all parameters, once for each event."""
    layers = {name.rpartition("/")[0]: RebuiltLayer.of(owner_of(model, name)) for name in parameters(model)}
    variables = {name: tf_variable(variable) for name, variable in variables_of(model).items()}
    fresh = FreshValues(variables, resettable(model), "layer", layers=layers, snapshot={}, seed=seed)
    return [{n: np.array(v) for n, v in fresh.draw(event, parameters(model)).items()} for event in events]


LAYERS = {
    "dense": (lambda: L.Dense(96, kernel_initializer="he_normal", bias_initializer="random_normal"), (8, 64)),
    "seeded": (lambda: L.Dense(96, kernel_initializer=keras.initializers.GlorotUniform(seed=7)), (8, 64)),
    "orthogonal": (lambda: L.Dense(64, kernel_initializer=keras.initializers.Orthogonal(gain=2.0)), (8, 64)),
    "einsum": (lambda: L.EinsumDense("abc,cde->abde", (None, 4, 24), bias_axes="de"), (2, 3, 64)),
    "convolution": (lambda: L.Conv2D(48, 3), (2, 8, 8, 12)),
    "separable": (lambda: L.SeparableConv2D(48, 3, depthwise_initializer="random_uniform"), (2, 8, 8, 12)),
    "transposed": (lambda: L.Conv2DTranspose(24, 3), (2, 8, 8, 24)),
    "attention": (lambda: L.MultiHeadAttention(4, 16), [(2, 5, 32), (2, 5, 32)]),
    "lstm": (lambda: L.LSTM(32, bias_initializer="random_normal"), (2, 5, 24)),
    "gru": (lambda: L.GRU(32), (2, 5, 24)),
    "embedding": (lambda: L.Embedding(100, 32), (2, 5)),
    "norms": (lambda: keras.Sequential([L.LayerNormalization(), L.RMSNormalization(), L.BatchNormalization()]), (4, 6)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_fresh_values_are_what_the_layer_itself_would_draw(kind):
    """The same spread and range as a newly made layer has, and the same constants; anew at each event."""
    make, shape = LAYERS[kind]
    layer, inputs = make(), [tf.zeros(s) for s in (shape if isinstance(shape, list) else [shape])]
    layer(*inputs)
    first, second = drawn(layer, [1, 2])
    for name, own in values(layer).items():
        fresh = first[name]
        assert fresh.dtype == own.dtype
        if own.std() == 0 or np.unique(own).size <= 2:
            np.testing.assert_array_equal(fresh, own)
            continue
        assert own.std() == pytest.approx(fresh.std(), rel=0.25 if own.size < 500 else 0.06), name
        assert np.abs(own).max() == pytest.approx(np.abs(fresh).max(), rel=0.6), name
        assert not np.array_equal(fresh, own)
        assert np.intersect1d(fresh, second[name]).size < own.size / 50
    assert equal(drawn(layer, [1])[0], first)


def test_the_bias_of_an_lstm_forgets_nothing_at_first():
    layer = L.LSTM(4)
    layer(tf.zeros((2, 3, 5)))
    assert drawn(layer, [1])[0]["cell/bias"].tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8


@pytest.mark.parametrize(
    ("key", "event", "expected"),
    [
        ((5 << 32) + 7, 3, [[7, 8], [7, 7927], [7, 15846]]),
        ((2**31 - 1 << 32) + 2**32 - 1, tf.constant(0, tf.int32), [[3, 1], [3, 7920]]),
        (2**31 - 3, 2**31 - 4, [[2**31 - 3, 2**31 - 4], [2**31 - 3, 7917]]),
    ],
)
def test_the_seeds_of_a_draw_are_numbers_that_keras_takes(key, event, expected):
    words = _SeedWords(key, event)
    assert [words.next().numpy().tolist() for _ in expected] == expected


def test_what_keras_explains_at_length_is_cut():
    assert _brief(ValueError("two  words\nin a line")) == "two words in a line"
    assert _brief(ValueError("w" * 159)) == "w" * 159
    assert _brief(ValueError("w" * 161)) == _brief(ValueError("w" * 160)) == "w" * 160 + " ..."


def test_no_two_parameters_events_or_seeds_share_their_values():
    """Published fault 13."""
    model = keras.Sequential([keras.Input((8,)), L.Dense(8), L.Dense(8)])
    one, two = drawn(model, [1, 2])
    blocks = [d[name] for d in (one, two, drawn(model, [1], seed=5)[0]) for name in ("0/kernel", "1/kernel")]
    assert np.unique(np.concatenate(blocks)).size == sum(block.size for block in blocks)


def test_drawing_leaves_the_global_generators_alone():
    model = mlp()
    state = random.getstate(), np.random.get_state()[1].tobytes()
    drawn(model, [1])
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == state


@keras.saving.register_keras_serializable("tests")
class Own(keras.Layer):
    """A layer of one's own, with a weight whose initialiser is no attribute."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 6), initializer=keras.initializers.RandomNormal(stddev=3.0))

    def call(self, x):
        return tf.nn.relu(x @ self.table)


class Wild(Own):
    """Its initialiser draws from TensorFlow's global generator."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 6), initializer=lambda shape, dtype: tf.random.normal(shape))


class Closed(Own):
    """It has no configuration."""

    def __init__(self, function, **options) -> None:
        super().__init__(**options)
        self.function = function


class Forgetful(Closed):
    """It cannot be made again from its configuration, which leaves an argument out."""

    def get_config(self):
        return keras.layers.Layer.get_config(Own(name=self.name))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Wild(name="mine"), "parameter 'mine/table': its initializer draws other values each time that it is called"),
        (
            Closed(lambda x: x, name="mine"),
            r"parameter 'mine/table': initializer='layer' cannot draw fresh values for it: "
            r"Closed has no configuration: .* use initializer=",
        ),
        (
            Forgetful(lambda x: x, name="mine"),
            r"parameter 'mine/table': initializer='layer' cannot draw fresh values for it: "
            r"Forgetful cannot be built again from its configuration: .* use initializer=",
        ),
    ],
)
def test_a_layer_that_cannot_be_drawn_from_is_refused_before_the_first_step(layer, message):
    model = built(keras.Sequential([layer, L.Dense(2)]))
    layout = na.Layout([na.dense("mine", weight=("mine/table", "in neuron"))])
    with pytest.raises(ValueError, match=message):
        ReGraMa(SGD(0.1), model, layout=layout).build(model.trainable_variables)
    snapshot = ReGraMa(SGD(0.1), model, layout=layout, initializer="snapshot", tau=0.9, every=1)
    step(model, snapshot)
    assert snapshot.neurons_reset > 0


def test_a_layer_of_ones_own_draws_as_it_did():
    model = built(keras.Sequential([Own(name="mine"), L.Dense(2)]), np.zeros((2, 200), "float32"))
    fresh = drawn(model, [1])[0]["mine/table"]
    assert fresh.std() == pytest.approx(3.0, rel=0.1)


def test_bare_variables_have_no_layer():
    variables = {"w": tf.Variable(tf.ones((3, 8)))}
    layout = na.Layout([na.dense("w", weight=("w", "in neuron"))])
    with pytest.raises(
        ValueError, match=r"parameter 'w': initializer='layer' cannot draw .*: it is in no layer; use init"
    ):
        ReGraMa(SGD(0.1), variables, layout=layout)
    regrama = ReGraMa(SGD(0.1), variables, layout=layout, initializer="snapshot", tau=0.6, every=1)
    regrama.apply([tf.constant(np.outer(np.ones(3), np.arange(8)), tf.float32)], list(variables.values()))
    assert variables["w"][:, :3].numpy().tolist() == [[1.0] * 3] * 3
    assert regrama.neurons_reset == 3


def test_a_snapshot_gives_each_neuron_a_whole_row_of_the_start():
    model = keras.Sequential([keras.Input((6, 5)), L.LSTM(16), L.Dense(2)])
    layout, start = layout_of(model, np.zeros((4, 6, 5), "float32")), values(model)
    regrama = ReGraMa(SGD(0.5), model, layout=layout, tau=0.8, every=2, initializer="snapshot")
    x = np.random.default_rng(0).normal(size=(16, 6, 5)).astype("float32")
    step(model, regrama, x), step(model, regrama, x)
    reset = np.flatnonzero((values(model)["1/kernel"] == 0).all(axis=1))
    assert len(reset) == regrama.neurons_reset > 3
    rows, starts = (v["0/cell/kernel"].reshape(5, 4, 16) for v in (values(model), start))
    for neuron in reset:
        assert any(np.array_equal(rows[..., neuron], starts[..., other]) for other in range(16))
    assert sum(np.array_equal(rows[..., neuron], starts[..., neuron]) for neuron in reset) < len(reset) / 2
    assert len({rows[..., neuron].tobytes() for neuron in reset}) > 1


def test_a_function_is_called_at_every_reset_with_a_key_of_its_own():
    model, keys = mlp(), []

    def initializer(key: int):
        keys.append(key)
        return parameters(keras.Sequential([keras.Input((5,)), *[L.Dense(n) for n in (16, 2, 16, 2, 2)]])) | fresh()

    def fresh():
        layers = [L.Dense(16), L.Dense(16)]
        layers[0].build((None, 5)), layers[1].build((None, 16))
        return {f"{2 * i}/{n}": getattr(layer, n).value for i, layer in enumerate(layers) for n in ("kernel", "bias")}

    regrama = ReGraMa(
        SGD(0.0), model, layout=mlp_layout(), tau=0.7, every=1, max_fraction=0.2, initializer=initializer, seed=3
    )
    drawn_before = values(model)["0/kernel"]
    fit(model, regrama, 2, jit_compile=False)
    assert regrama.resets == 4
    assert len(set(keys)) == len(keys) == 5  # one to check the function, one a reset
    changed = values(model)["0/kernel"] != drawn_before
    assert np.unique(values(model)["0/kernel"][changed]).size > 0.9 * changed.sum()


def test_a_failing_function_leaves_everything_as_the_step_left_it():
    model, calls = mlp(), []

    def initializer(key: int):
        calls.append(key)
        if len(calls) > 1:
            raise RuntimeError("no fresh values today")
        return parameters(model)

    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=0.7, every=1, initializer=initializer)
    before = values(model)
    with pytest.raises(RuntimeError, match="no fresh values today"):
        step(model, regrama)
    assert equal(values(model), before)
    assert regrama.neurons_reset == 0


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({}, r"initializer: expected a fresh value for parameter '0/kernel', got nothing"),
        (
            {"0/kernel": tf.zeros((16, 5))},
            r"initializer, parameter '0/kernel': expected shape \(5, 16\) and dtype float32, got \(16, 5\) and float32",
        ),
    ],
)
def test_what_a_function_returns_is_checked(returned, message):
    model = mlp()
    regrama = ReGraMa(
        SGD(0.1), model, layout=mlp_layout(), initializer=lambda key: parameters(model) | returned if returned else {}
    )
    with pytest.raises(ValueError, match=message):
        regrama.build(model.trainable_variables)
