"""Neuron outputs, read where their consumers read them and arranged as a group's activation pattern says."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, activations, layout_of, parameters
from tests.adapters.tensorflow.architectures import found
from tests.adapters.tensorflow.models import IMAGES, X, built, convnet, mlp, mlp_layout


def test_activations_are_what_the_next_layer_reads():
    model = mlp(activation="tanh")
    seen = activations(model, X)
    outputs = [X]
    for layer in model.layers:
        outputs.append(layer(outputs[-1]))
    assert [np.array_equal(seen[name], outputs[place]) for name, place in (("0", 2), ("2", 4), ("4", 5))] == [True] * 3


def test_activations_behind_a_flatten_are_taken_apart():
    model, _, layout = found("conv and flatten")
    seen = activations(model, IMAGES, layout=layout)["conv"]
    shown = keras.Model(model.input, model.get_layer("keep1").output)(IMAGES)
    pooled = tf.nn.max_pool2d(shown, 2, 2, "VALID")
    np.testing.assert_array_equal(seen, tf.reshape(pooled, (32, 9, 6)))
    scores = na.tau_dormant({"conv": seen}, na.Layout([layout["conv"]]))["conv"]
    means = np.abs(pooled.numpy()).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(scores, means / means.mean(), rtol=1e-5)


def test_tensorflow_has_nothing_to_say_when_activations_are_read_many_times(caplog):
    model, _, layout = found("conv and flatten")
    tf.get_logger().addHandler(caplog.handler)  # it warns of a function that is traced five times
    try:
        for _ in range(6):
            activations(model, IMAGES[:2], layout=layout)
    finally:
        tf.get_logger().removeHandler(caplog.handler)
    assert caplog.messages == []


def test_activations_read_their_part_of_a_concatenation():
    model, inputs, layout = found("late action")
    seen = activations(model, *inputs, layout=layout)["a"]
    np.testing.assert_array_equal(seen, model.get_layer("a")(inputs[0][0]))


def test_activations_of_several_axes_follow_the_index_of_their_reader():
    model, inputs, layout = found("attention")
    plain = activations(model, *inputs, layout=layout)["attn/value"]
    order = (*range(6, 12), *range(6))  # the neuron that is read at each place
    views = [na.ParamView(view.param, view.pattern, index=order) for view in layout["attn/value"].outgoing]
    other = na.Layout([replace(layout["attn/value"], outgoing=tuple(views))])
    seen = tf.reshape(activations(model, *inputs, layout=other)["attn/value"], (4, 6, 12))
    np.testing.assert_array_equal(seen, tf.gather(tf.reshape(plain, (4, 6, 12)), order, axis=2))


SHAPES = {
    "attention": {"attn/query": (4, 6, 4, 3), "attn/value": (4, 6, 4, 3), "embed": (4, 6, 16), "head": (4, 3)},
    "attention heads": {"attn": (4, 6, 4, 3)},
    "embedding and lstm": {"e": (16, 6, 8), "r": (16, 12), "b": (16, 2)},
    "gru and rnn": {"g": (4, 6, 8), "s": (4, 6)},
    "both directions": {"d/forward_layer": (4, 4), "d/backward_layer": (4, 4)},
    "depthwise, separable, transposed": {"s/depthwise": None, "c": (4, 6, 6, 8), "t": (4, 6), "s": (4, 3, 3, 8)},
    "einsum": {"e": (64, 12), "f": (64, 8)},
    "twin critics in one array": {"hidden": (2, 64, 12), "out": (2, 64, 1)},
    "layer norm": {"a": (64, 12), "n": (64, 12)},
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", SHAPES)
def test_activations_of_every_layer_are_found_and_scored(name):
    model, inputs, layout = found(name)
    seen = activations(model, *inputs, layout=layout)
    shown = {group: value if value is None else tuple(value.shape) for group, value in seen.items()}
    assert shown | SHAPES[name] == shown
    scores = na.tau_dormant(seen, layout)
    shapes = {name: value.shape for name, value in parameters(model).items()}
    assert all(tuple(scores[group].shape) == layout[group].bind(shapes).shape for group in scores)


def test_activations_of_both_directions_are_told_apart():
    model, inputs, layout = found("both directions")
    seen, output = activations(model, *inputs, layout=layout), model.layers[0](*inputs)
    np.testing.assert_array_equal(seen["d/forward_layer"], output[:, :4])
    np.testing.assert_array_equal(seen["d/backward_layer"], output[:, 4:])


PATTERNS = {
    "neuron batch": ("mlp", "0", (16, 64), "neuron batch"),
    "batch time neuron": ("gru and rnn", "g", (4, 6, 8), "batch time neuron"),
    "a time axis that is missing": ("mlp", "0", (64, 1, 16), "batch time neuron"),
    "neuron time batch": ("gru and rnn", "g", (8, 4, 6), "neuron time batch"),
    "heads with their channels": ("attention heads", "attn", (4, 6, 12), "... (neuron dim)"),
    "channels first": ("conv and flatten", "conv", (32, 6, 9), "batch neuron ..."),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", PATTERNS)
def test_activations_are_arranged_as_the_pattern_says(case):
    """Other axes keep their order, and the scores are those of the usual pattern."""
    name, group, shape, pattern = PATTERNS[case]
    model, inputs, layout = found(name)
    arranged = na.Layout([replace(layout[group], activation=pattern)])
    usual, seen = (activations(model, *inputs, layout=one)[group] for one in (layout, arranged))
    assert seen.shape == shape
    axes = pattern.split().index("neuron") if "neuron" in pattern.split() else None
    if axes is not None:
        np.testing.assert_array_equal(tf.reshape(np.moveaxis(seen, axes, -1), (-1, usual.shape[-1])), flat(usual))
    else:
        np.testing.assert_array_equal(tf.reshape(seen, usual.shape), usual)
    expected = na.tau_dormant({group: usual}, na.Layout([layout[group]]))[group]
    np.testing.assert_allclose(na.tau_dormant({group: seen}, arranged)[group], expected, rtol=1e-6)


def flat(values):
    """All samples one after the other."""
    return tf.reshape(values, (-1, values.shape[-1]))


def test_activations_of_copies_that_are_not_the_first_axis():
    class Twins(L.Layer):
        def __init__(self):
            super().__init__()
            self.hidden = L.EinsumDense("bsi,sio->bso", (2, 12), bias_axes="so", activation="relu")
            self.out = L.EinsumDense("bsi,sio->bso", (2, 1), bias_axes="so")

        def call(self, x):
            return self.out(self.hidden(tf.stack([x, x], axis=1)))

    twins = Twins()
    twins(X)
    hidden = layout_of(twins, X)["hidden"]
    layout = na.Layout([replace(hidden, activation="stack batch neuron")])
    assert hidden.activation == "axis_b stack neuron"
    seen = activations(twins, X, layout=layout)["hidden"]
    np.testing.assert_array_equal(seen, tf.transpose(twins.hidden(tf.stack([X, X], axis=1)), (1, 0, 2)))
    usual = activations(twins, X, layout=na.Layout([hidden]))["hidden"]
    np.testing.assert_array_equal(usual, tf.transpose(seen, (1, 0, 2)))


def test_another_thing_than_the_neurons_is_refused():
    wrong = na.conv("conv", weight=("conv/kernel", "h w in neuron"), outgoing=[("out/kernel", "neuron out")])
    message = r"group 'conv', activation '\.\.\. neuron', read at the input of 'out/kernel': an axis of"
    with pytest.raises(na.LayoutError, match=message):
        activations(built(convnet(), IMAGES), IMAGES, layout=na.Layout([wrong]))


def test_a_pattern_without_an_axis_for_the_samples_is_refused():
    layout = na.Layout([replace(mlp_layout()["0"], activation="neuron")])
    with pytest.raises(na.LayoutError, match="read at the input of '2/kernel': expected an axis for the samples"):
        activations(mlp(), X, layout=layout)


def test_activations_leave_everything_as_it_was():
    model = keras.Sequential([keras.Input((5,)), L.Dense(8), L.BatchNormalization(), L.Dropout(0.5), L.Dense(2)])
    model(X, training=True)
    before = [variable.numpy() for variable in model.variables]
    layout = na.Layout([na.dense("0", weight=("0/kernel", "in neuron"), outgoing=[("3/kernel", "neuron out")])])
    assert activations(model, X, layout=layout)["0"].shape == (64, 8)
    assert all(np.array_equal(variable, value) for variable, value in zip(model.variables, before, strict=True))
    assert not any("call" in vars(layer) for layer in model.layers)
    with pytest.raises(na.LayoutError, match="activations are read at the layers of a Keras model, got a mapping"):
        activations({}, X)


class Sums(keras.Model):
    """Adds two layers' neurons, so that no layer behind reads one of them alone."""

    def __init__(self, function, layer=None) -> None:
        super().__init__()
        self.a, self.b, self.out, self.function = L.Dense(16), L.Dense(16), L.Dense(2), function
        self.layer = layer

    def build(self, shape):
        self.built = True

    def call(self, x):
        return self.out(self.function(self.layer or tf.nn.relu, self.a(x), self.b(x)))


SUMS = {
    "functions": (lambda f, a, b: f(a) + f(b), None),
    "a layer": (lambda f, a, b: f(a) + f(b), L.Activation("gelu")),
    "a function of the sum": (lambda f, a, b: f(a + b), None),
    "behind a pooling of one": (lambda f, a, b: f(tf.identity(a)) + b, None),
    "a maximum": (lambda f, a, b: tf.maximum(a, 0.0) + f(b), None),
}


def sums(name):
    model = built(Sums(*SUMS[name]))
    model.a.bias.assign(tf.where(tf.range(16) < 3, -100.0, 0.5))
    return model


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", SUMS)
def test_dead_neurons_of_shared_groups_are_dead(name):
    """Not the liveliest of all, as their values before the activation function would have it."""
    model = sums(name)
    layout = layout_of(model, X)
    assert layout["a"].status == "shared"
    scores = na.tau_dormant(activations(model, X, layout=layout), layout)["a"]
    assert (scores[:3].numpy() == 0).all()
    assert (scores[3:].numpy() > 0.02).all()


def test_what_cannot_be_followed_is_left_out():
    model = built(Sums(lambda f, a, b: tf.sort(a, axis=-1) + tf.nn.relu(tf.reverse(b, [1]))))
    layout = layout_of(model, X)
    seen = activations(model, X, layout=layout)
    assert (seen["a"], seen["b"]) == (None, None)
    assert seen["out"] is not None


def test_a_writer_of_a_stream_is_read_as_it_writes():
    stream, norm = L.Dense(12, name="a"), L.LayerNormalization(name="n")
    x = keras.Input((5,))
    hidden = stream(x)
    model = keras.Model(x, L.Dense(2, name="o")(norm(L.Add()([hidden, L.Dense(12, name="b")(norm(hidden))]))))
    layout = layout_of(model, X)
    np.testing.assert_array_equal(activations(model, X, layout=layout)["a"], stream(X))


def test_a_head_is_read_behind_its_own_activation_function():
    x = keras.Input((5,))
    model = keras.Model(x, keras.ops.tanh(L.Dense(2, name="o")(L.Dense(8, "relu", name="a")(x))))
    np.testing.assert_allclose(activations(model, X)["o"], model(X), rtol=1e-6)


class Cross(L.Layer):
    """Cross attention called by keywords, over three inputs of one width."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = L.Dense(8, "relu"), L.Dense(8, "relu"), L.Dense(8, "relu")
        self.attention, self.out = L.MultiHeadAttention(2, 4), L.Dense(2)

    def call(self, x):
        query, key, value = self.query(x[:, :1]), self.key(x[:, 1:3]), self.value(x[:, 3:])
        return self.out(self.attention(value=value, query=query, key=key, use_causal_mask=False))


def test_each_input_of_a_layer_is_told_from_the_others():
    x = np.random.default_rng(0).normal(size=(16, 5, 3)).astype("float32")
    model = built(Cross(), x)
    seen = activations(model, x)
    for name, part in (("query", x[:, :1]), ("key", x[:, 1:3]), ("value", x[:, 3:])):
        np.testing.assert_array_equal(seen[name], getattr(model, name)(part))


def test_a_recurrent_state_is_not_taken_for_the_sequence():
    class Started(L.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.start, self.core, self.out = L.Dense(5, "relu"), L.GRU(5), L.Dense(2)

        def call(self, x):
            return self.out(self.core(x, initial_state=self.start(x[:, 0])))

    x = np.random.default_rng(0).normal(size=(16, 3, 5)).astype("float32")
    model = built(Started(), x)
    layout = layout_of(model, x)
    start = replace(layout["start"], outgoing=(na.ParamView("core/cell/recurrent_kernel", "neuron gates"),))
    for group in (layout["start"], start):
        seen = activations(model, x, layout=na.Layout([group]))["start"]
        np.testing.assert_array_equal(seen, model.start(x[:, 0]))


def test_padding_counts_for_nothing():
    tokens = np.array([[1, 2, 0, 0], [3, 4, 5, 0]])
    embed, dense = L.Embedding(9, 4, mask_zero=True, name="e"), L.Dense(6, "relu", name="d")
    model = keras.Sequential([embed, dense, L.LSTM(3, name="r"), L.Dense(2, name="o")])
    model(tokens)
    seen = activations(model, tokens)["d"]
    expected = np.where(tokens[..., None] > 0, dense(embed(tokens)), 0)
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_calls_of_a_shared_layer_are_taken_together():
    class Twice(L.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.enc, self.out = L.Dense(8, "relu"), L.Dense(2)

        def call(self, x):
            return self.out(self.enc(x)) + tf.reduce_sum(self.out(self.enc(tf.stack([x, -x, x], axis=1))), axis=1)

    model = built(Twice())
    seen = activations(model, X)["enc"]
    expected = np.concatenate([model.enc(X), np.reshape(model.enc(np.stack([X, -X, X], axis=1)), (-1, 8))])
    np.testing.assert_allclose(np.sort(seen.numpy().reshape(-1, 8), 0), np.sort(expected, 0), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:no neuron group has the trained weights of p")
def test_a_layer_of_ones_own_may_apply_a_function_before_its_weights():
    class PreActivated(L.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 2), name="w")

        def call(self, x):
            return tf.nn.relu(x) @ self.w

    model = keras.Sequential([keras.Input((5,)), L.Dense(8, name="a"), PreActivated(name="p")])
    np.testing.assert_allclose(activations(model, X)["a"], tf.nn.relu(model.layers[0](X)), rtol=1e-6)


class Duel(keras.Model):
    """Two heads that each read one half of a trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.v, self.a = L.Dense(16, "relu"), L.Dense(1), L.Dense(4)

    def call(self, x):
        v, a = tf.split(self.fc(x), 2, -1)
        return self.v(v) + self.a(a)


@pytest.mark.counts(faults=1)
def test_a_trunk_whose_readers_read_a_part_each_is_followed_from_where_it_is_made():
    model = built(Duel())
    layout = layout_of(model, X)
    assert [view.index is None for view in layout["fc"].outgoing] == [False, False]
    np.testing.assert_allclose(activations(model, X, layout=layout)["fc"], model.fc(X), rtol=1e-6)
    redo = ReDo(keras.optimizers.Adam(), model, layout=layout, probe=lambda: X, max_fraction=0)
    assert redo.steps == 0


@pytest.mark.counts(faults=1)
def test_a_layer_that_reads_two_trunks_does_not_mix_them_up():
    class Two(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.h = L.Dense(16, "relu"), L.Dense(16, "relu"), L.Dense(2)

        def call(self, x):
            return self.h(self.a(x)) + self.h(self.b(x))

    model = built(Two())
    model.a.bias.assign(tf.tensor_scatter_nd_update(model.a.bias, [[3]], [-100.0]))
    out = [("h/kernel", "neuron out")]
    layout = na.Layout([na.dense(name, weight=(f"{name}/kernel", "in neuron"), outgoing=out) for name in "ab"])
    seen = activations(model, X, layout=layout)
    for name in "ab":
        np.testing.assert_allclose(seen[name], getattr(model, name)(X), rtol=1e-6)
    scores = na.tau_dormant(seen, layout)
    assert scores["a"][3] == 0 < scores["b"][3]
