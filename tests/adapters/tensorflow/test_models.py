"""The functional route: a Keras model to arrays by name, and back; what the neurons put out."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812

import neuroactivity as na
from neuroactivity_tensorflow import activations, gradients, parameters, write
from tests.adapters.tensorflow.architectures import found
from tests.adapters.tensorflow.models import (
    IMAGES,
    TwoHeaded,
    X,
    Y,
    built,
    convnet,
    equal,
    mlp,
    mlp_layout,
    step,
    values,
)


class Nested(keras.Model):
    """Layers in lists, dictionaries and private attributes, a nested model, and weights with and without names."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [L.Dense(3), [L.Dense(3)]]
        self.heads = {"mean": L.Dense(2)}
        self._hidden = keras.Sequential([keras.Input((3,)), L.Dense(3), L.Dense(3, name="named")])
        self.again = self.heads["mean"]
        self.free = self.add_weight(shape=(3,))
        self.scale = self.add_weight(shape=(3,), name="gain")

    def call(self, x):
        x = self.blocks[1][0](self.blocks[0](x)) * self.scale + self.free
        return self.again(self._hidden(x))


NAMES = ["free", "gain"] + [
    f"{layer}/{own}"
    for layer in ("blocks/0", "blocks/1/0", "heads/mean", "hidden/0", "hidden/named")
    for own in ("kernel", "bias")
]


def test_a_parameter_is_named_by_where_it_stands():
    model = built(Nested(), X[:, :3])
    assert list(parameters(model)) == NAMES
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in model.weights}
    assert len(NAMES) == len(model.weights)
    assert [v.path for v in built(Nested(), X[:, :3]).weights] != [v.path for v in model.weights]
    assert list(parameters(built(Nested(), X[:, :3]))) == NAMES


def test_names_in_a_functional_model_are_positions_unless_the_layer_was_named():
    assert list(parameters(convnet())) == [f"{n}/{own}" for n in ("conv", "fc", "out") for own in ("kernel", "bias")]
    assert list(parameters(found("functional critic")[0])) == [
        "3/kernel",
        "3/bias",
        "4/kernel",
        "4/bias",
        "q/kernel",
        "q/bias",
    ]


def test_parameters_hold_frozen_ones_and_no_statistics():
    model = keras.Sequential([keras.Input((5,)), L.Dense(3), L.BatchNormalization()])
    model.layers[0].trainable = False
    assert list(parameters(model)) == ["0/kernel", "0/bias", "1/gamma", "1/beta"]
    assert set(gradients(model, [tf.zeros(3), tf.zeros(3)])) == set(parameters(model))
    assert gradients(model, [tf.zeros(3), tf.zeros(3)])["0/kernel"] is None


def test_a_model_without_variables_is_told_apart():
    with pytest.raises(na.LayoutError, match="Sequential has no variables yet: call it on example inputs first"):
        parameters(keras.Sequential([L.Dense(2)]))


def test_gradients_are_matched_with_the_trainable_variables():
    model = mlp()
    grads = step(model, keras.optimizers.SGD(0.1))
    named = gradients(model, grads)
    kernels = [named[name] for name in ("0/kernel", "2/kernel", "4/kernel")]
    assert all(a is b for a, b in zip(kernels, grads[::2], strict=True))
    with pytest.raises(na.LayoutError, match="expected a gradient for each of 6 trainable variables, got 5"):
        gradients(model, grads[1:])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_sparse_gradient_is_made_dense_and_keeps_its_shape_in_a_graph(compiled):
    model = keras.Sequential([keras.Input((2,), dtype="int32"), L.Embedding(6, 3)])

    def look_up(tokens):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(tokens))
        gradient = gradients(model, tape.gradient(loss, model.trainable_variables))["0/embeddings"]
        assert gradient.shape == (6, 3)
        return gradient

    gradient = (tf.function(look_up) if compiled else look_up)(tf.constant([[1, 4]]))
    expected = np.zeros((6, 3))
    expected[[1, 4]] = 1.0
    assert np.array_equal(gradient, expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_metrics_run_on_the_gradients_inside_a_graph(compiled):
    model, layout = mlp(), mlp_layout()

    def masks(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - Y) ** 2)
        grads = gradients(model, tape.gradient(loss, model.trainable_variables))
        return na.reset_masks(na.grama(grads, layout), tau=0.6)

    compiled, expected = tf.function(masks, jit_compile=compiled)(X), masks(X)
    assert all(np.array_equal(compiled[name], expected[name]) for name in layout)
    assert np.any(expected["0"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"nope": tf.zeros(2)}, "parameter 'nope' is not in the model; there are 0/kernel"),
        (
            {"2/bias": tf.zeros(3)},
            r"parameter '2/bias': expected shape \(16,\) and dtype float32, got \(3,\) and float32",
        ),
        ({"2/bias": np.zeros(16)}, r"parameter '2/bias': expected .* got \(16,\) and float64"),
    ],
)
def test_write_writes_all_or_nothing(bad, message):
    model = mlp()
    before = values(model)
    with pytest.raises(na.LayoutError, match=message):
        write(model, {"0/kernel": tf.zeros((5, 16)), **bad})
    assert equal(values(model), before)


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
    other = na.Layout([na.NeuronGroup(**{**vars(layout["attn/value"]), "outgoing": views})])
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


def test_another_thing_than_the_neurons_is_refused():
    model = built(TwoHeaded())
    wrong = na.dense("trunk/0", weight=("trunk/0/kernel", "in neuron"), outgoing=[("mean/kernel", "neuron out")])
    group = na.NeuronGroup("trunk/0", wrong.incoming, outgoing=wrong.outgoing, activation="batch time neuron")
    message = "group 'trunk/0', activation 'batch time neuron', read at the input of 'mean/kernel': expected 3 axes"
    with pytest.raises(na.LayoutError, match=message):
        activations(model, X, layout=na.Layout([group]))


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


def run(code: str, backend: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter on a backend of Keras."""
    setup = f"import os, sys; sys.path[:0] = {sys.path!r}; os.environ['KERAS_BACKEND'] = {backend!r}\n"
    return subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True)


def test_importing_the_adapter_loads_no_framework_that_keras_does_not():
    loaded = "{m.partition('.')[0] for m in sys.modules} & {'torch', 'jax', 'flax', 'optax', 'scipy'}"
    code = f"import keras, tensorflow; old = {loaded}; import neuroactivity_tensorflow; print('more:', *{loaded} - old)"
    can_fail = f"import optax; print('more:', *{loaded} - old)"
    assert run(f"{code}; {can_fail}", "tensorflow").stdout == "more:\nmore: optax\n"


def test_keras_on_another_backend_is_refused_at_import():
    message = (
        "ImportError: neuroactivity_tensorflow needs Keras on TensorFlow, got the backend 'jax': set KERAS_BACKEND="
    )
    assert message in run("import neuroactivity_tensorflow", "jax").stderr
