"""A layout needs no values: shapes, traced parameters, no function at all; and it may need several functions."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import layout_of, regrama, report
from tests.adapters.jax.models import KEY, X


class Net(nn.Module):
    """A trunk with a head, running statistics, and a bare parameter beside."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(8)(x))
        x = nn.BatchNorm(use_running_average=True)(x)
        return nn.Dense(2)(x) * jnp.exp(self.param("temperature", nn.initializers.zeros, ()))


NET = Net()
SHAPES = {"trunk": (3, 8), "actor": (8, 2), "critic": (8, 1)}
INPUTS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def apply(params):
    return NET.apply(params, X)


@pytest.fixture(scope="module")
def expected():
    return layout_of(NET.init(KEY, X), apply)


def test_shapes_are_enough(expected):
    assert layout_of(jax.eval_shape(NET.init, KEY, X), apply) == expected
    assert expected["params/BatchNorm_0"].status == "exclusive"


@pytest.mark.parametrize("transform", [jax.jit, lambda f: jax.vmap(f), lambda f: jax.jit(jax.vmap(f))])
def test_parameters_may_be_traced(expected, transform):
    found = []

    def train(key):
        params = NET.init(key, X)
        found.append(layout_of(params, apply))
        return regrama(optax.sgd(0.1), found[0]).init(params).steps

    assert (transform(train)(jax.random.split(KEY, 2) if transform is not jax.jit else KEY) == 0).all()
    assert found == [expected]


def test_traced_inputs_are_refused():
    @jax.jit
    def train(x):
        layout_of(NET.init(KEY, x), lambda params: NET.apply(params, x))

    with pytest.raises(na.LayoutError, match="apply uses values that are traced"):
        train(X)


def test_shapes_of_a_module_with_keys_and_integers():
    class Model(eqx.Module):
        layer: eqx.nn.Linear
        out: eqx.nn.Linear
        key: jax.Array
        counts: jax.Array

        def __init__(self, key):
            self.layer, self.out = eqx.nn.Linear(3, 8, key=key), eqx.nn.Linear(8, 2, key=key)
            self.key, self.counts = key, jnp.zeros(2, jnp.int32)

        def __call__(self, x):
            noise = 0 * jax.random.normal(self.key)
            return self.out(jax.nn.relu(self.layer(x))) + self.counts + noise

    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    layout = layout_of(eqx.filter_eval_shape(Model, KEY), lambda model: jax.vmap(model)(x))
    assert {name: group.status for name, group in layout.items()} == {"layer": "exclusive", "out": "head"}


def test_without_a_function_groups_are_listed_and_measured():
    params = NET.init(KEY, X)
    layout = layout_of(params)
    assert {group.status for group in layout.values()} == {"listed"}
    assert not any(group.resettable or group.outgoing for group in layout.values())
    tx = regrama(optax.sgd(0.1), layout, every=1, max_fraction=0)
    grads = jax.grad(lambda params: jnp.square(apply(params)).mean())(params)
    _, state = tx.update(grads, tx.init(params), params)
    assert report(state, layout)["params/Dense_0"].neurons == 8
    with pytest.raises(na.LayoutError, match="layout: its groups are listed and not searched, so nothing"):
        regrama(optax.sgd(0.1), layout)
    with pytest.raises(ValueError, match="readers: expected apply as well"):
        layout_of(params, readers=[apply])


def test_attention_is_listed_by_its_own_axes():
    attention = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8)
    layout = layout_of(jax.eval_shape(attention.init, KEY, jnp.ones((2, 3, 8))))
    assert layout["params/query"].incoming[0].pattern == "in neuron neuron"


def test_further_readers_count():
    params = {name: {"w": jax.random.normal(KEY, shape), "b": jnp.ones(shape[1])} for name, shape in SHAPES.items()}

    def trunk(params):
        return jax.nn.relu(INPUTS @ params["trunk"]["w"] + params["trunk"]["b"])

    def head(name):
        return lambda params: trunk(params) @ params[name]["w"] + params[name]["b"]

    layout = layout_of(params, head("actor"), readers=[head("critic")])
    assert [view.param for view in layout["trunk"].outgoing] == ["actor/w", "critic/w"]
    layout = layout_of(params, head("actor"), readers=[trunk, head("critic")])
    assert layout["trunk"].status == "head"
