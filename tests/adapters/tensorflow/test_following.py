"""Groups that no parameter reads alone are followed from their layer to where they are read."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from keras import ops

import neuroactivity as na
from neuroactivity_tensorflow import activations, layout_of
from tests.adapters.tensorflow.models import IMAGES, X, built


class Telling(keras.Model):
    """A network made of layers by name and a function ``run(net, x)``; ``net.tell(a=values)`` tells the truth."""

    def __init__(self, run, **layers) -> None:
        super().__init__()
        self.run, self.truth = run, {}
        for name, layer in layers.items():
            setattr(self, name, layer)

    def call(self, x):
        return self.run(self, x)

    def tell(self, **values) -> None:
        """Keep what is read, the neurons in the last axis; several calls add samples."""
        for name, value in values.items():
            self.truth.setdefault(name, []).append(value)


def assert_reads(model, x=X, dead=("a",)):
    """What is measured is what the model tells, without any outgoing parameter known."""
    built(model, x)
    for name in dead:
        layer = getattr(model, name)
        layer.bias.assign(tf.where(tf.range(layer.bias.shape[0]) < 3, -100.0, layer.bias))
    layout = layout_of(model)
    seen = activations(model, x, layout=layout)
    model.truth = {}
    model(x)
    scores = na.tau_dormant(seen, layout)
    for name, values in model.truth.items():
        assert seen[name] is not None, name
        means = np.abs(np.concatenate([np.reshape(value, (-1, value.shape[-1])) for value in values])).mean(0)
        np.testing.assert_allclose(scores[name], means / means.mean(), rtol=1e-4, atol=1e-6, err_msg=name)


def added(function):
    def run(net, x):
        a, b = function(net.a(x)), tf.nn.relu(net.b(x))
        net.tell(a=a, b=b)
        return net.out(a + b)

    return run


def leaky(x):
    return tf.where(x > 0, x, 0.1 * x)


FUNCTIONS = {
    "ops.relu": ops.relu,
    "ops.silu": ops.silu,
    "ops.gelu": ops.gelu,
    "tf.nn.gelu, approximate": lambda x: tf.nn.gelu(x, approximate=True),
    "tf.nn.silu": tf.nn.silu,
    "ops.mish": ops.mish if hasattr(ops, "mish") else lambda x: x * ops.tanh(ops.softplus(x)),
    "ops.hard_silu": ops.hard_silu,
    "ops.log_softmax": ops.log_softmax,
    "ops.squareplus": lambda x: 0.5 * (x + ops.sqrt(x * x + 4.0)),
    "by hand": lambda x: x * tf.sigmoid(1.7 * x),
    "where": leaky,
    "a mask": lambda x: x * tf.cast(x > 0, x.dtype),
    "two halves": lambda x: tf.nn.relu(x) - 0.2 * tf.nn.relu(-x),
    "a flattened copy": lambda x: tf.reshape(tf.nn.relu(tf.reshape(x, (-1, 1, x.shape[-1]))), x.shape),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_followed_as_layers_are(name):
    assert_reads(Telling(added(FUNCTIONS[name]), a=L.Dense(16), b=L.Dense(16), out=L.Dense(2)))


def test_functions_in_functional_models_are_followed():
    x = keras.Input((5,))
    a, b = L.Dense(16, name="a"), L.Dense(16, name="b")
    hidden = ops.silu(a(x)), ops.gelu(b(x))
    model = keras.Model(x, [L.Dense(2, name="out")(hidden[0] + hidden[1]), hidden[0], hidden[1]])
    seen, (_, *expected) = activations(model, X, layout=layout_of(model)), model(X)
    np.testing.assert_allclose(seen["a"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(seen["b"], expected[1], rtol=1e-5)


def gated(net, x):
    product = tf.nn.relu(net.a(x)) * ops.silu(net.b(x))
    net.tell(a=product, b=product)
    return net.out(product)


def bilinear(net, x):
    product = net.a(x) * net.b(x)
    net.tell(a=product, b=product)
    return net.out(product)


def late_fusion(net, x):
    hidden = tf.nn.relu(net.a(x) + net.b(x))
    net.tell(a=hidden, b=hidden)
    return net.out(hidden)


def joined(net, x):
    hidden = ops.gelu(tf.concat([net.a(x), net.b(x)], axis=-1))
    net.tell(a=hidden[:, :16], b=hidden[:, 16:])
    return net.out(hidden)


def both_signs(net, x):
    a, b = net.a(x), net.b(x)
    hidden = tf.nn.relu(tf.concat([a, -a], axis=-1))
    net.tell(a=hidden[:, :16])
    net.tell(a=hidden[:, 16:], b=b)
    return net.out(tf.concat([hidden, b], axis=-1))


def normal(h):
    h = h - tf.reduce_mean(h, axis=-1, keepdims=True)
    return h * tf.math.rsqrt(tf.reduce_mean(h * h, axis=-1, keepdims=True) + 1e-6)


def normed_by_hand(net, x):
    a, b = tf.nn.relu(net.a(x)), tf.nn.elu(normal(net.b(x)))
    net.tell(a=a, b=b)
    return net.out(normal(a) + b)


def residual(net, x):
    b = net.b(x)
    inner = ops.gelu(net.a(normal(b)))
    down = net.down(inner)
    net.tell(a=inner, b=b, down=down)
    return net.out(tf.nn.relu(b + down))


@pytest.mark.parametrize("run", [gated, bilinear, late_fusion, joined, both_signs, normed_by_hand, residual])
def test_what_a_group_is_combined_with(run):
    down = {"down": L.Dense(16)} if run is residual else {}
    dead = () if run in (both_signs, bilinear) else ("a",)
    assert_reads(Telling(run, a=L.Dense(16), b=L.Dense(16), out=L.Dense(2), **down), dead=dead)


def test_a_graph_convolution_mixes_samples_before_its_activation_function():
    mixing = tf.constant(np.random.default_rng(0).uniform(size=(64, 64)).astype("float32"))

    def run(net, x):
        hidden = mixing @ tf.nn.relu(mixing @ net.a(x))
        net.tell(a=hidden)
        return net.out(hidden)

    assert_reads(Telling(run, a=L.Dense(16), out=L.Dense(2)), dead=())


def test_channels_behind_pooling():
    def run(net, x):
        hidden = tf.nn.relu(tf.nn.max_pool2d(net.a(x), 2, 2, "VALID"))
        net.tell(a=hidden)
        return net.out(tf.reshape(hidden, (32, -1)))

    assert_reads(Telling(run, a=L.Conv2D(6, 3), out=L.Dense(2)), IMAGES)


@pytest.mark.parametrize(
    "function", [lambda h: h[:, :16] * tf.sigmoid(h[:, 16:]), lambda h: tf.nn.relu(h[:, ::2]), lambda h: tf.sort(h)]
)
def test_parts_of_a_layer_that_are_told_apart_no_more_are_left_out(function):
    model = built(Telling(lambda net, x: net.out(function(net.a(x))), a=L.Dense(32), out=L.Dense(2)))
    assert activations(model, X, layout=layout_of(model))["a"] is None


class Compiled(keras.Model):
    """A network whose call is compiled, and which branches in Python on numbers if it is not traced."""

    def __init__(self, *, branches=False) -> None:
        super().__init__()
        self.a, self.b, self.out, self.branches = L.Dense(16), L.Dense(16), L.Dense(2), branches

    @tf.function(jit_compile=True)
    def both(self, x):
        return ops.silu(self.a(x)) + tf.nn.relu(self.b(x))

    def call(self, x):
        hidden = self.both(x)
        return self.out(hidden) * (2.0 if self.branches and float(tf.reduce_max(x)) > 1 else 1.0)


def test_layers_inside_compiled_functions_are_seen():
    model = built(Compiled())
    seen = activations(model, X, layout=layout_of(model))
    np.testing.assert_allclose(seen["a"], ops.silu(model.a(X)), rtol=1e-5)
    np.testing.assert_allclose(seen["b"], tf.nn.relu(model.b(X)), rtol=1e-5)


def test_models_that_cannot_be_traced_are_left_out():
    model = built(Compiled(branches=True))
    seen = activations(model, X, layout=layout_of(model))
    assert (seen["a"], seen["b"]) == (None, None)
