"""Keras models with the truth of their layouts, written by hand."""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L  # noqa: N812

from neuroactivity_tensorflow import layout_of
from tests.adapters.tensorflow.models import IMAGES, TwoHeaded, X, convnet, mlp

OBSERVATION, ACTION = X[:8, :3], X[:8, 3:]
SEQUENCE = np.random.default_rng(3).normal(size=(4, 6, 8)).astype("float32")
TOKENS = np.random.default_rng(4).integers(0, 20, (16, 6))
HEAD = ("head", {})


def exclusive(**feeds: str):
    """The entries that a group feeds, as ``parameter__kernel="pattern"``."""
    return "exclusive", {name.replace("__", "/"): pattern for name, pattern in feeds.items()}


def through(**feeds: str):
    return "through_norm", exclusive(**feeds)[1]


def chain(*hidden, inputs=(5,)):
    return keras.Sequential([keras.Input(inputs), L.Dense(12, name="a"), *hidden, L.Dense(2, name="b")])


def bro():
    """Two residual blocks as in BRO: the stream is written by the first and by each block's last norm."""
    x = keras.Input((5,))
    stream = L.ReLU()(L.LayerNormalization(name="ln")(L.Dense(32, name="enc")(x)))
    for block in "pq":
        hidden = L.ReLU()(L.LayerNormalization(name=f"{block}1ln")(L.Dense(32, name=f"{block}1")(stream)))
        stream = L.Add()([stream, L.LayerNormalization(name=f"{block}2ln")(L.Dense(32, name=f"{block}2")(hidden))])
    return keras.Model(x, L.Dense(3, name="head")(stream))


def attention(bias: bool = True):
    x = keras.Input((6, 8))
    stream = L.Dense(16, name="embed")(x)
    stream = L.Add()([stream, L.MultiHeadAttention(4, 3, use_bias=bias, name="attn")(stream, stream)])
    return keras.Model(x, L.Dense(3, name="head")(L.GlobalAveragePooling1D()(stream)))


def critic():
    """A functional critic of two inputs, whose unnamed layers are named by their positions."""
    observation, action = keras.Input((3,), name="observation"), keras.Input((2,), name="action")
    hidden = L.Dense(12, "relu")(L.Concatenate()([observation, action]))
    return keras.Model([observation, action], L.Dense(1, name="q")(L.Dense(12, "relu")(hidden)))


def skewed():
    """The action joins late: the second layer reads the first behind two other columns."""
    observation, action = keras.Input((3,)), keras.Input((2,))
    hidden = L.Concatenate()([action, L.Dense(8, "relu", name="a")(observation)])
    return keras.Model([observation, action], L.Dense(1, name="q")(hidden))


class TwinCritics(keras.Layer):
    """An ensemble in one array."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = L.EinsumDense("sbi,sio->sbo", (None, 12), bias_axes="so", activation="relu")
        self.out = L.EinsumDense("sbi,sio->sbo", (None, 1), bias_axes="so")

    def call(self, x):
        return self.out(self.hidden(tf.stack([x, x])))


RESIDUAL = {name: ("through_norm", {}) for name in ("enc", "p2", "q2")} | {
    n: ("shared", {}) for n in ("ln", "p2ln", "q2ln")
}
STREAM = {"embed": ("shared", {}), "attn/output_dense": ("shared", {}), "head": HEAD}
CASES = {
    "mlp": (
        mlp, (X,),
        {"0": exclusive(**{"2__kernel": "neuron out"}), "2": exclusive(**{"4__kernel": "neuron out"}), "4": HEAD},
    ),
    "conv and flatten": (
        convnet, (IMAGES,),
        {"conv": exclusive(fc__kernel="(hw neuron) out"), "fc": exclusive(out__kernel="neuron out"), "out": HEAD},
    ),
    "actor": (
        TwoHeaded, (X,),
        {
            "trunk/0": exclusive(trunk__2__kernel="neuron out"),
            "trunk/2": exclusive(mean__kernel="neuron out", log_std__kernel="neuron out"),
            "mean": HEAD, "log_std": HEAD,
        },
    ),
    "batch norm": (
        lambda: chain(L.BatchNormalization(name="n"), L.ReLU()), (X,),
        {"a": exclusive(b__kernel="neuron out"), "n": exclusive(b__kernel="neuron out"), "b": HEAD},
    ),
    "layer norm": (
        lambda: chain(L.LayerNormalization(name="n"), L.ReLU()), (X,),
        {"a": through(b__kernel="neuron out"), "n": exclusive(b__kernel="neuron out"), "b": HEAD},
    ),
    "rms norm": (
        lambda: chain(L.RMSNormalization(name="n"), L.ReLU()), (X,),
        {"a": through(b__kernel="neuron out"), "n": exclusive(b__kernel="neuron out"), "b": HEAD},
    ),
    "group norm": (
        lambda: keras.Sequential([
            L.Conv2D(8, 3, name="a"), L.GroupNormalization(2, name="n"), L.Flatten(), L.Dense(2, name="b"),
        ]),
        (IMAGES[:4],),
        {"a": through(b__kernel="(hw neuron) out"), "n": exclusive(b__kernel="(hw neuron) out"), "b": HEAD},
    ),
    "dropout": (lambda: chain(L.ReLU(), L.Dropout(0.5)), (X,), {"a": exclusive(b__kernel="neuron out"), "b": HEAD}),
    "bro": (
        bro, (X,),
        RESIDUAL | {
            "p1": through(p2__kernel="neuron out"), "p1ln": exclusive(p2__kernel="neuron out"),
            "q1": through(q2__kernel="neuron out"), "q1ln": exclusive(q2__kernel="neuron out"), "head": HEAD,
        },
    ),
    "attention": (
        attention, (SEQUENCE,),
        STREAM | {
            "attn/query": ("partner", {}), "attn/key": ("partner", {}),
            "attn/value": exclusive(attn__output_dense__kernel="neuron neuron out"),
        },
    ),
    "attention heads": (
        lambda: attention(bias=False), (SEQUENCE,),
        STREAM | {"attn": exclusive(attn__output_dense__kernel="neuron dim out")},
    ),
    "embedding and lstm": (
        lambda: keras.Sequential([L.Embedding(20, 8, name="e"), L.LSTM(12, name="r"), L.Dense(2, name="b")]), (TOKENS,),
        {
            "e": exclusive(r__cell__kernel="neuron (gate out)"),
            "r": exclusive(r__cell__recurrent_kernel="neuron (gate other)", b__kernel="neuron out"), "b": HEAD,
        },
    ),
    "gru and rnn": (
        lambda: keras.Sequential([
            L.GRU(8, return_sequences=True, name="g"), L.SimpleRNN(6, name="s"), L.Dense(2, name="b"),
        ]),
        (SEQUENCE,),
        {
            "g": exclusive(g__cell__recurrent_kernel="neuron (gate other)", s__cell__kernel="neuron out"),
            "s": exclusive(s__cell__recurrent_kernel="neuron other", b__kernel="neuron out"), "b": HEAD,
        },
    ),
    "both directions": (
        lambda: keras.Sequential([L.Bidirectional(L.GRU(4, reset_after=False), name="d"), L.Dense(2, name="b")]),
        (SEQUENCE,),
        {
            "d/forward_layer": exclusive(
                d__forward_layer__cell__recurrent_kernel="neuron (gate other)", b__kernel="neuron@0-3 out"
            ),
            "d/backward_layer": exclusive(
                d__backward_layer__cell__recurrent_kernel="neuron (gate other)", b__kernel="neuron@4-7 out"
            ),
            "b": HEAD,
        },
    ),
    "functional critic": (
        critic, (OBSERVATION, ACTION),
        {"3": exclusive(**{"4__kernel": "neuron out"}), "4": exclusive(q__kernel="neuron out"), "q": HEAD},
    ),
    "late action": (skewed, ([OBSERVATION, ACTION],), {"a": exclusive(q__kernel="neuron@2-9 out"), "q": HEAD}),
    "depthwise, separable, transposed": (
        lambda: keras.Sequential([
            L.Conv2D(8, 3, activation="relu", name="c"), L.DepthwiseConv2D(3, activation="relu", name="d"),
            L.SeparableConv2D(8, 2, activation="relu", name="s"), L.Conv2DTranspose(6, 3, activation="relu", name="t"),
            L.GlobalMaxPooling2D(), L.Dense(3, name="b"),
        ]),
        (IMAGES[:4],),
        {
            "c": exclusive(d__kernel="h w neuron one"), "d": exclusive(s__depthwise_kernel="h w neuron one"),
            "s/depthwise": exclusive(s__pointwise_kernel="h w neuron out"), "s": exclusive(t__kernel="h w out neuron"),
            "t": exclusive(b__kernel="neuron out"), "b": HEAD,
        },
    ),
    "depthwise with copies": (
        lambda: keras.Sequential([
            L.Conv1D(8, 3, activation="relu", name="c"),
            L.DepthwiseConv1D(3, depth_multiplier=2, activation="relu", name="d"),
            L.GlobalMaxPooling1D(), L.Dense(3, name="b"),
        ]),
        (SEQUENCE,),
        {"c": exclusive(d__kernel="k neuron copy"), "d": exclusive(b__kernel="(neuron hw) out"), "b": HEAD},
    ),
    "einsum": (
        lambda: keras.Sequential([
            L.EinsumDense("ab,bc->ac", 12, bias_axes="c", activation="relu", name="e"),
            L.EinsumDense("...b,bc->...c", 8, activation="relu", name="f"), L.Dense(2, name="b"),
        ]),
        (X,),
        {"e": exclusive(f__kernel="neuron out"), "f": exclusive(b__kernel="neuron out"), "b": HEAD},
    ),
    "twin critics in one array": (
        TwinCritics, (X,), {"hidden": exclusive(out__kernel="stack neuron out"), "out": HEAD},
    ),
}  # fmt: skip


@functools.cache
def found(name: str):
    """A case's model, what it is called with, and its layout, found once for all tests."""
    make, inputs, _ = CASES[name]
    model = make()
    return model, inputs, layout_of(model, *inputs, attention="heads" if name == "attention heads" else "channels")
