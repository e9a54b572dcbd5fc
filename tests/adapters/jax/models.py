"""Small models of every library that the JAX tests share: parameters, and a function from them to the outputs."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (16, 5))
IMAGES = jax.random.normal(jax.random.key(2), (8, 8, 8, 2))
SEQUENCES = jax.random.normal(jax.random.key(3), (4, 3, 3))
TOKENS = jax.random.randint(jax.random.key(4), (6, 3), 0, 7)


class LinenMLP(nn.Module):
    width: int = 16

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width)(x))
        x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(2)(x)


class LinenImages(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3), padding="VALID")(x))
        x = nn.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)
        return nn.Dense(3)(nn.tanh(nn.Dense(12)(x)))


class LinenResidual(nn.Module):
    """One block as in BRO, with normalisations, and a shared trunk with two heads."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.LayerNorm()(nn.Dense(12)(x)))
        y = nn.relu(nn.LayerNorm()(nn.Dense(12)(x)))
        x = x + nn.LayerNorm()(nn.Dense(12)(y))
        return nn.Dense(2)(x), nn.Dense(1)(x)


class LinenAttention(nn.Module):
    normalised: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        attended = nn.MultiHeadDotProductAttention(num_heads=3, qkv_features=12, name="attn")(nn.LayerNorm()(x))
        return nn.Dense(2)(x + attended)


class LinenTwins(nn.Module):
    """Two critics in one array, behind a layer that they share."""

    @nn.compact
    def __call__(self, x):
        critics = nn.vmap(
            LinenMLP, in_axes=None, out_axes=0, axis_size=2, variable_axes={"params": 0}, split_rngs={"params": True}
        )
        return critics(width=10, name="critics")(x)


class LinenRecurrent(nn.Module):
    cell: type[nn.Module]

    @nn.compact
    def __call__(self, x):
        x = nn.RNN(self.cell(features=6, name="cell"), name="rnn")(nn.Dense(4)(x))
        return nn.Dense(2)(x)


class LinenTokens(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(7, 8)(tokens)
        x = nn.relu(nn.Conv(5, (3,))(x))
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(6)(x))
        return nn.Dense(2)(nn.relu(x))


class NNXModel(nnx.Module):
    """Dense layers in a list, attention, and a recurrent cell, in Flax NNX."""

    def __init__(self, seed: int = 0) -> None:
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(3, 12, rngs=rngs), nnx.Linear(12, 8, rngs=rngs)])
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attn = nnx.MultiHeadAttention(num_heads=2, in_features=8, qkv_features=12, decode=False, rngs=rngs)
        self.cell = nnx.GRUCell(8, 6, rngs=rngs)
        self.out = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.layers[0](x))
        x = self.attn(nnx.relu(self.norm(self.layers[1](x))))
        hidden = jnp.zeros((x.shape[0], 6))
        for step in range(x.shape[1]):
            hidden, _ = self.cell(hidden, x[:, step])
        return self.out(hidden)


class EquinoxImages(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm
    layers: list[eqx.nn.Linear]

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.conv = eqx.nn.Conv2d(2, 8, 3, key=keys[0])
        self.norm = eqx.nn.GroupNorm(2, 8)
        self.layers = [eqx.nn.Linear(8 * 9, 12, key=keys[1]), eqx.nn.Linear(12, 3, key=keys[2])]

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.conv(jnp.moveaxis(x, -1, 0))))
        x = eqx.nn.MaxPool2d(2, 2)(x).reshape(-1)
        return self.layers[1](jax.nn.relu(self.layers[0](x)))


class EquinoxGated(eqx.Module):
    """Two convolutions of which one multiplies the other."""

    left: eqx.nn.Conv1d
    right: eqx.nn.Conv1d
    out: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.left, self.right = (eqx.nn.Conv1d(3, 6, 1, key=key) for key in keys[:2])
        self.out = eqx.nn.Linear(18, 2, key=keys[2])

    def __call__(self, x):
        return self.out((jnp.tanh(self.left(x.T)) * jax.nn.sigmoid(self.right(x.T))).reshape(-1))


class EquinoxSequence(eqx.Module):
    embedding: eqx.nn.Embedding
    attn: eqx.nn.MultiheadAttention
    cell: eqx.Module
    out: eqx.nn.Linear

    def __init__(self, cell, key):
        keys = jax.random.split(key, 4)
        self.embedding = eqx.nn.Embedding(7, 8, key=keys[0])
        self.attn = eqx.nn.MultiheadAttention(2, 8, use_value_bias=True, use_output_bias=True, key=keys[1])
        self.cell = cell(8, 6, key=keys[2])
        self.out = eqx.nn.Linear(6, 2, key=keys[3])

    def __call__(self, tokens):
        x = jax.vmap(self.embedding)(tokens)
        x = jnp.tanh(self.attn(x, x, x))
        state = (jnp.zeros(6), jnp.zeros(6)) if isinstance(self.cell, eqx.nn.LSTMCell) else jnp.zeros(6)
        for step in x:
            state = self.cell(step, state)
        return self.out(state[0] if isinstance(state, tuple) else state)


def haiku_images(x):
    x = jax.nn.relu(hk.Conv2D(6, 3, padding="VALID")(x))
    x = jax.nn.relu(hk.Conv2DTranspose(5, 3)(x))
    x = hk.BatchNorm(True, True, 0.9)(x, is_training=True)
    return hk.nets.MLP([12, 3])(hk.Flatten()(jax.nn.relu(x)))


def haiku_sequence(cell):
    def forward(tokens):
        x = jnp.swapaxes(hk.Embed(7, 8)(tokens), 0, 1)
        core = cell(6)
        x, _ = hk.dynamic_unroll(core, x, core.initial_state(x.shape[1]))
        return hk.Linear(2)(x)

    return forward


def linen(model, inputs):
    """Parameters of a Flax Linen module, and what it returns."""
    variables = jax.jit(model.init)(KEY, inputs)
    mutable = [name for name in variables if name != "params"]
    return variables, lambda variables: model.apply(variables, inputs, mutable=mutable)[0]


def nnx_state(model, inputs):
    """State of a Flax NNX module, and what it returns."""
    graph, state = nnx.split(model, nnx.Param)
    return state, lambda state: nnx.merge(graph, state)(inputs)


def equinox(model, inputs):
    """An Equinox module for single samples, and what it returns for several."""
    return model, lambda model: jax.vmap(model)(inputs)


def equinox_twins(inputs):
    """Two Equinox modules in one, and what both return."""
    twins = eqx.filter_vmap(lambda key: eqx.nn.MLP(5, 1, 10, 2, key=key))(jax.random.split(KEY, 2))
    apply = eqx.filter_vmap(lambda model, x: jax.vmap(model)(x), in_axes=(eqx.if_array(0), None))
    return twins, lambda twins: apply(twins, inputs)


def haiku(function, inputs):
    """Parameters of a Haiku function, and what it returns."""
    model = hk.without_apply_rng(hk.transform_with_state(function))
    params, state = jax.jit(model.init)(KEY, inputs)
    return params, lambda params: model.apply(params, state, inputs)[0]
