"""Layouts hold in both modes, and for all that reads the model; the model is left as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa, layout_of
from tests.adapters.tensorflow.models import X, built, mlp


class Noisy(L.Layer):
    """A layer whose weights are noisy in training mode; the noise is off at first."""

    def build(self, shape):
        self.mu = self.add_weight(shape=(shape[-1], 8), name="mu")
        self.sigma = self.add_weight(shape=(shape[-1], 8), initializer="zeros", name="sigma")
        self.bias = self.add_weight(shape=(8,), initializer="zeros", name="bias")
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        noise = keras.random.normal(self.sigma.shape, seed=self.seeds) if training else 0.0
        return x @ (self.mu + self.sigma * noise) + self.bias


class Auxiliary(keras.Model):
    """Returns an auxiliary head in training mode, behind dropout and a batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out, self.aux = L.Dense(16, "relu"), L.Dense(16, "relu"), L.Dense(2), L.Dense(3)
        self.norm, self.drop = L.BatchNormalization(), L.Dropout(0.5)

    def build(self, shape):
        self.built = True

    def call(self, x, training=False):
        hidden = self.drop(self.norm(self.a(x)))
        y = self.out(self.b(hidden))
        return (y, self.aux(hidden)) if training else y


def state_of(model):
    state = [variable.numpy().tobytes() for variable in model.variables]
    return (
        state,
        [vars(layer).get("rate") for layer in model._flatten_layers()],
        ["call" in vars(layer) for layer in model._flatten_layers()],
    )


def test_a_head_that_only_training_returns_is_a_reader():
    model = built(Auxiliary())
    model(X, training=True)
    before = state_of(model)
    layout = layout_of(model, X)
    assert state_of(model) == before
    assert {view.param for view in layout["norm"].outgoing} == {"aux/kernel", "b/kernel"}
    assert layout["aux"].status == "head"
    assert {view.param for view in layout_of(Auxiliary(), X)["norm"].outgoing} == {"aux/kernel", "b/kernel"}


class Remembering(L.Layer):
    """Keeps the mean of what it is called with, and returns it beside the input when it is called again."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False, name="mean")

    def call(self, x):
        both = tf.concat([x, tf.zeros_like(x) + self.mean], -1)
        self.mean.assign(tf.reduce_mean(x, 0))
        return both


def test_what_a_later_call_reads_is_outgoing():
    layers = [L.Dense(6, "relu", name="a"), Remembering(name="r"), L.Dense(2, name="z")]
    model = keras.Sequential([keras.Input((5,)), *layers])
    before = state_of(model)
    layout = layout_of(model, X)
    assert layout["a"].outgoing == (na.ParamView("z/kernel", "(hw neuron) out"),)
    assert state_of(model) == before


def test_weights_that_only_training_multiplies_are_outgoing():
    model = keras.Sequential([keras.Input((5,)), L.Dense(12, "relu", name="a"), Noisy(name="z")])
    before = state_of(model)

    def rule(name, variable):
        weights = [(f"z/{label}", "in neuron") for label in ("mu", "sigma")]
        return na.NeuronGroup("z", weights, [("z/bias", "neuron")]) if name == "z/mu" else None

    found = layout_of(model, X, rule=rule)["a"].outgoing
    assert {view.param for view in found} == {"z/mu", "z/sigma"}
    assert state_of(model) == before


def test_a_model_that_cannot_be_called_in_training_mode_is_remarked():
    class Picky(L.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = L.Dense(8, "relu"), L.Dense(2)

        def call(self, x, training=False):
            if training:
                raise ValueError("no labels")
            return self.b(self.a(x))

    model = built(Picky())
    with pytest.warns(na.ActivityWarning, match=r"cannot be called in training mode .* is unknown: .*no labels"):
        assert layout_of(model, X)["a"].status == "exclusive"


@pytest.mark.parametrize("function", [False, True])
def test_a_trunk_that_another_network_reads_is_not_the_heads_own(function):
    trunk = keras.Sequential([keras.Input((5,)), L.Dense(12, "relu", name="t")])
    actor = built(keras.Sequential([trunk, L.Dense(2, name="policy")]))
    value = built(keras.Sequential([trunk, L.Dense(1, kernel_initializer="zeros" if not function else "ones")]))
    before = [variable.numpy() for variable in value.variables]
    assert layout_of(actor, X)["0/t"].status == "exclusive"
    group = layout_of(actor, X, readers=[(lambda x: value(x)) if function else value])["0/t"]
    assert (group.status == "exclusive", group.resettable) == (False, False)
    assert all(np.array_equal(variable, old) for variable, old in zip(value.variables, before, strict=True))
    with pytest.raises(na.LayoutError, match="readers: expected models or functions that are called with the example"):
        layout_of(actor, X, readers=["value"])


def test_without_inputs_groups_are_listed():
    layout = layout_of(mlp())
    assert {group.status for group in layout.values()} == {"listed"}
    assert not any(group.resettable for group in layout.values())
    assert list(layout) == list(layout_of(mlp(), X))
    with pytest.raises(na.LayoutError, match="Sequential has no variables yet: call it on example inputs first"):
        layout_of(keras.Sequential([L.Dense(2)]))


@pytest.mark.parametrize("inputs", [(), (np.zeros((4, 0), "float32"),)])
def test_layers_without_neurons_or_inputs_are_refused(inputs):
    empty = keras.Sequential([keras.Input((0,)), L.Dense(3), L.Dense(2)])
    with pytest.raises(na.LayoutError, match=r"group '0': expected neurons, got .* of shape \(0, 3\)"):
        layout_of(empty, *inputs)


def test_layers_that_are_not_used_are_left_out():
    assert "aux" not in layout_of(built(Auxiliary()))


def test_sparse_gradients_of_an_embedding_are_measured_and_reset():
    tokens = np.random.default_rng(0).integers(0, 9, (16, 4))
    model = keras.Sequential([L.Embedding(9, 6, name="e"), L.Flatten(), L.Dense(2, name="o")])
    model(tokens)
    regrama = ReGraMa(keras.optimizers.Adam(), model, example_inputs=tokens, tau=0.9, every=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(tokens) ** 2)
    grads = tape.gradient(loss, model.trainable_variables)
    assert isinstance(grads[0], tf.IndexedSlices)
    regrama.apply(grads, model.trainable_variables)
    assert 0 < regrama.last_report["e"].reset < 6


class Kept:
    """What a layer kept, in a slot."""

    __slots__ = ("hidden",)

    def __init__(self, hidden):
        self.hidden = hidden


class Sampled(keras.Model):
    """Returns a sample that is another at every call, and what its neurons are."""

    def __init__(self, kept):
        super().__init__()
        self.a, self.out, self.kept = L.Dense(16, "relu"), L.Dense(2), kept

    def build(self, shape):
        self.built = True

    def call(self, x):
        hidden = self.a(x)
        mean = self.out(hidden)
        return mean + 0.1 * tf.random.normal(tf.shape(mean)), self.kept(hidden)


@pytest.mark.parametrize(
    ("kept", "status"), [(lambda _: 0, "exclusive"), (tf.stop_gradient, "unproved"), (Kept, "head")]
)
def test_a_sampled_output_does_not_hide_others(kept, status):
    assert layout_of(built(Sampled(kept)), X)["a"].status == status
