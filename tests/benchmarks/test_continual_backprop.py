"""Continual backprop of the study: which neurons it replaces, and by what."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.continual_digits.continual import EPSILON, Layer, choose, continual
from benchmarks.continual_digits.jax_runs import draw_weights, forward
from benchmarks.continual_digits.study import Study
from neuroactivity_jax import layout_of

STUDY = Study(reset="continual")
GRADS = {"kernel": jnp.array([[3.0, 1.0, 2.0, 0.0]]), "bias": jnp.zeros(4)}


def layer_of(ages, remainder=0.0):
    ages = jnp.array(ages, jnp.float32)
    return Layer(jnp.ones(4), ages, jnp.float32(remainder), jnp.zeros(4, bool))


def test_the_least_useful_of_the_mature_neurons_are_chosen():
    layer = choose(layer_of([200, 200, 200, 5]), GRADS, jnp.array(True), 1 / 3, jax.random.key(0))
    assert layer.replaced.tolist() == [False, True, False, False]
    assert layer.age.tolist() == [201, 1, 201, 6]
    utility = 0.99 + 0.01 * np.array([3, 1, 2, 0]) / max(1.5, EPSILON)
    np.testing.assert_allclose(layer.utility, [utility[0], 1, utility[2], utility[3]], rtol=1e-6)


@pytest.mark.parametrize("due", [True, False])
def test_parts_of_a_neuron_add_up(due):
    layer = choose(layer_of([200] * 4), GRADS, jnp.array(due), 0.0, jax.random.key(0))
    assert (layer.replaced.sum(), layer.remainder) == (0, 0)
    many = [choose(layer_of([200] * 4), GRADS, jnp.array(due), 0.1, jax.random.key(k)) for k in range(200)]
    assert np.mean([one.replaced.sum() for one in many]) == pytest.approx(0.4 * due, abs=0.1)
    left = {round(float(one.remainder), 5) for one in many}
    assert left == ({0.0, 0.4} if due else {0.0})


@pytest.mark.slow
def test_replaced_neurons_are_new_and_adam_forgets_them():
    params = draw_weights(STUDY, jax.random.key(0))
    layout = layout_of(params, lambda params: forward(STUDY, params, jnp.ones((2, 64)))[0])
    tx = continual(
        optax.adam(1e-3),
        layout,
        initializer=lambda key: draw_weights(STUDY, key),
        every=110,
        rate=0.25,
        key=jax.random.key(1),
    )
    grads = jax.tree.map(jnp.ones_like, params)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(110):
        params, state = step(params, state)
    chosen = {name: np.asarray(layer.replaced) for name, layer in state.layers.items()}
    assert {name: mask.sum() for name, mask in chosen.items()} == {"hidden1": 32, "hidden2": 32}
    assert int(state.neurons_reset) == 64
    adam = state.inner[0]
    assert (params["out"]["kernel"][chosen["hidden2"]] == 0).all()
    assert (adam.mu["hidden2"]["kernel"][:, chosen["hidden2"]] == 0).all()
    assert (adam.mu["hidden2"]["kernel"][chosen["hidden1"]] == 0).all()
    assert (adam.mu["hidden2"]["kernel"][~chosen["hidden1"]][:, ~chosen["hidden2"]] != 0).all()
    np.testing.assert_allclose(adam.nu["out"]["kernel"], adam.nu["out"]["kernel"][0, 0], rtol=1e-5)  # the others' mean
