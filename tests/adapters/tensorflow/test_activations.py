"""Neuron outputs, read where their consumers read them and arranged as a group's activation pattern says."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812

import neuroactivity as na
from neuroactivity_tensorflow import activations, layout_of, parameters
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
