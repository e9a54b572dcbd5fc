"""Each framework's own attention layer, with the same weights: channels and heads have the same scores."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch import nn

import neuroactivity as na
import neuroactivity_jax
import neuroactivity_tensorflow
import neuroactivity_torch

HEADS, DIM, TOKENS = 4, 3, 5
WIDTH = HEADS * DIM
PARTS = ("query", "key", "value")
RNG = np.random.default_rng(0)
WEIGHTS = {part: RNG.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32) for part in (*PARTS, "out")}  # in, out
BIASES = {part: RNG.normal(0, 0.1, WIDTH).astype(np.float32) for part in (*PARTS, "out")}
X = RNG.normal(size=(7, TOKENS, WIDTH)).astype(np.float32)


class TorchAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        values = {
            "in_proj_weight": np.concatenate([WEIGHTS[part].T for part in PARTS]),
            "in_proj_bias": np.concatenate([BIASES[part] for part in PARTS]),
            "out_proj.weight": WEIGHTS["out"].T,
            "out_proj.bias": BIASES["out"],
        }
        self.attn.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in values.items()})

    def forward(self, x):
        return self.attn(x, x, x, need_weights=False)[0]


def of_torch(attention):
    model, x = TorchAttention(), torch.from_numpy(X)
    layout = neuroactivity_torch.layout_of(model, x, attention=attention)
    model(x).square().sum().backward()
    return na.grama(neuroactivity_torch.gradients(model), layout), layout, neuroactivity_torch.parameters(model)


def divided(part):
    """Weights and bias with an axis for heads: before the channels of each, or after them for the output."""
    shape = (HEADS, DIM, WIDTH) if part == "out" else (WIDTH, HEADS, DIM)
    return WEIGHTS[part].reshape(shape), BIASES[part] if part == "out" else BIASES[part].reshape(HEADS, DIM)


class FlaxAttention(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.MultiHeadDotProductAttention(HEADS, name="attn")(x)


def of_jax(attention):
    model, x = FlaxAttention(), jnp.asarray(X)
    layers = {part: dict(zip(("kernel", "bias"), map(jnp.asarray, divided(part)), strict=True)) for part in WEIGHTS}
    params = {"params": {"attn": layers}}
    layout = neuroactivity_jax.layout_of(params, lambda params: model.apply(params, x), attention=attention)
    grads = jax.jit(jax.grad(lambda params: jnp.square(model.apply(params, x)).sum()))(params)
    return na.grama(neuroactivity_jax.gradients(grads), layout), layout, neuroactivity_jax.parameters(params)


def of_tensorflow(attention):
    inputs = keras.Input((TOKENS, WIDTH))
    layer = keras.layers.MultiHeadAttention(HEADS, DIM, name="attn")
    model = keras.Model(inputs, layer(inputs, inputs))
    projections = (layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense)
    for part, projection in zip(WEIGHTS, projections, strict=True):
        projection.kernel.assign(divided(part)[0])
        projection.bias.assign(divided(part)[1])
    layout = neuroactivity_tensorflow.layout_of(model, X, attention=attention)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(X)))
    grads = neuroactivity_tensorflow.gradients(model, tape.gradient(loss, model.trainable_variables))
    return na.grama(grads, layout), layout, neuroactivity_tensorflow.parameters(model)


GROUPS = {"channels": dict.fromkeys(PARTS, (WIDTH,)), "heads": {"attn": (HEADS,)}}


@pytest.mark.sampled(1)
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("attention", GROUPS)
def test_own_attention_layers_have_the_same_scores(attention):
    expected, layout, _ = of_torch(attention)
    first = {plain(name): score for name, score in expected.items()}
    statuses = {plain(name): group.status for name, group in layout.items()}
    for found, other, params in (of_jax(attention), of_tensorflow(attention)):
        scores = {plain(name): np.asarray(score) for name, score in found.items()}
        for group, shape in GROUPS[attention].items():
            assert scores[group].shape == shape
            np.testing.assert_allclose(scores[group], first[group], rtol=1e-4)
        named = {plain(name): group for name, group in other.items()}
        assert {name: named[name].status for name in GROUPS[attention]} == {
            name: statuses[name] for name in GROUPS[attention]
        }
        other.validate(params)


def plain(name):
    """The last part of a group's name."""
    return name.replace("/", ".").rpartition(".")[2]
