"""A score of the user's in compiled code, and where several runs are mapped over."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import redo, regrama, report

LAYOUT = na.Layout([na.dense("hidden", weight=("hidden", "in neuron"), outgoing=[("out", "neuron out")])])


def initial(key):
    return {"hidden": jax.random.normal(key, (3, 4)), "out": jnp.ones((4, 1))}


def smallest(grads, layout, params):
    """Score by the greatest incoming weight."""
    return {"hidden": jnp.abs(params["hidden"]).max(axis=0)}


def run(params, dead, **options):
    """Return the state after two compiled updates; one neuron's weights are zero."""
    tx = regrama(optax.sgd(0.0), LAYOUT, initializer=initial, every=2, tau=0.0, **options)
    params = {**params, "hidden": params["hidden"].at[:, dead].set(0.0)}
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(initial(jax.random.key(1)), state, params)
    return state


def test_it_is_traced_and_mapped_over():
    params, dead = initial(jax.random.key(0)), jnp.array([1, 3])
    states = jax.jit(jax.vmap(lambda dead: run(params, dead, score=smallest)))(dead)
    masks = np.asarray(states.masks["hidden"])
    np.testing.assert_array_equal(masks, [[False, True, False, False], [False, False, False, True]])
    assert states.neurons_reset.tolist() == [1, 1]


def test_a_stack_is_scored_member_by_member():
    stacked = na.Layout([na.dense("hidden", weight=("w", "stack in neuron"))])
    params = {"w": jnp.ones((2, 3, 4)).at[1, :, 2].set(0.0)}
    score = lambda grads, layout, params: {"hidden": params["w"].mean(axis=1)}  # noqa: E731
    tx = regrama(optax.sgd(0.0), stacked, every=1, score=score)
    _, state = jax.jit(tx.update)(params, tx.init(params), params)
    np.testing.assert_array_equal(state.scores["hidden"], score({}, stacked, params)["hidden"])
    assert int(state.neurons_reset) == 1


def test_what_is_below_zero_in_compiled_code_leaves_its_group_alone():
    """It is zero for the zeros that ``init`` calls it with."""
    score = lambda grads, layout: {"hidden": -jnp.abs(grads["hidden"]).sum(axis=0)}  # noqa: E731
    state = jax.jit(lambda: run(initial(jax.random.key(0)), 1, score=score))()
    assert int(state.neurons_reset) == 0
    with pytest.warns(na.ActivityWarning, match="not finite"):
        assert report(state, LAYOUT)["hidden"].nonfinite == 4


def test_a_score_that_takes_parameters_needs_them():
    tx = regrama(optax.sgd(0.0), LAYOUT, max_fraction=0, every=1, score=smallest)
    params = initial(jax.random.key(0))
    with pytest.raises(ValueError, match=r"^params: the score takes them; call update\(grads, state, params\)$"):
        tx.update(params, tx.init(params))


def test_compiled_code_of_another_score_does_not_take_a_state():
    params = initial(jax.random.key(0))
    tx = redo(optax.sgd(0.0), LAYOUT, initializer=initial)
    state = regrama(optax.sgd(0.0), LAYOUT, initializer=initial, score=smallest).init(params)
    with pytest.raises(ValueError, match=r"^state: expected .* the wrapper's own score, got .*smallest'"):
        jax.jit(tx.update)(params, state, params, activations={"hidden": jnp.ones((5, 4))})
