"""What a reset writes, and whom it passes over."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import regrama, report, write
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, at, compiled, initial, run
from tests.adapters.jax.releases import enable_x64

ADAM = optax.adam(0.1)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_parameters_of_low_precision_are_rounded_once_and_keep_their_dtype(dtype):
    params, grads = (jax.tree.map(lambda value: jnp.asarray(value, dtype), tree) for tree in (PARAMS, at(0)))

    def fresh(key):
        return jax.tree.map(lambda value: value.astype(dtype), initial(key))

    inner = optax.sgd(0.1, momentum=0.9)
    tx = regrama(inner, LAYOUT, initializer=fresh, tau=0.05, every=1)
    updates, state = jax.jit(tx.update)(grads, tx.init(params), params)
    assert {update.dtype for update in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
    new = optax.apply_updates(params, updates)
    assert {value.dtype for value in jax.tree.leaves((new, state.inner_state))} == {jnp.dtype(dtype)}
    expected = fresh(jax.random.fold_in(jax.random.key(0), 1))
    np.testing.assert_array_equal(new["a"]["kernel"][:, 1], expected["a"]["kernel"][:, 1])
    assert (new["out"]["kernel"][jnp.array([1, 4])] == 0).all()
    plain, _ = jax.jit(inner.update)(grads, inner.init(params), params)
    plain = optax.apply_updates(params, plain)
    np.testing.assert_array_equal(new["a"]["kernel"][:, 0], plain["a"]["kernel"][:, 0])
    np.testing.assert_array_equal(new["out"]["kernel"][0], plain["out"]["kernel"][0])


def test_gradients_that_are_not_finite_reset_nothing_and_are_named():
    """Published fault 1."""
    grads = at(0)
    grads["a"]["kernel"][0, 0] = math.nan
    tx = regrama(optax.sgd(0.0), LAYOUT, tau=0.5, every=1)
    _, state = jax.jit(tx.update)(grads, tx.init(PARAMS), PARAMS)
    assert (int(state.measurements), int(state.resets)) == (1, 0)
    layout = na.Layout(list(LAYOUT.values()))
    with pytest.warns(na.ActivityWarning, match=r"a \(not finite: NaN or Inf\)"):
        report(state, layout)
    assert report(state, layout).alerts  # and warns no more


def test_a_group_without_gradient_is_reset_only_if_asked_for():
    grads = at(0)
    grads["a"]["kernel"][:] = 0.0
    counts = []
    for reset_silent in (False, True):
        tx = regrama(optax.sgd(0.0), LAYOUT, every=1, reset_silent=reset_silent)
        counts.append(int(jax.jit(tx.update)(grads, tx.init(PARAMS), PARAMS)[1].neurons_reset))
    assert counts == [0, 7]


def test_at_most_a_fraction_is_reset():
    tx = regrama(ADAM, LAYOUT, tau=10.0, max_fraction=0.5, every=1)
    _, state = run(compiled(tx), tx.init(PARAMS), [0])
    assert int(state.neurons_reset) == 3
    assert report(state, LAYOUT)["a"].inactive == 7


def test_stack_members_are_scored_and_reset_apart():
    """Published fault 10."""
    layout = na.Layout(
        [
            na.dense("a", weight=("a/kernel", "stack in neuron"), outgoing=[("b/kernel", "stack neuron out")]),
            na.dense("b", weight=("b/kernel", "stack in neuron"), resettable=False),
        ]
    )
    params = {"a": {"kernel": jnp.ones((2, 3, 4))}, "b": {"kernel": jnp.ones((2, 4, 1))}}
    grads = jax.tree.map(jnp.ones_like, params)
    grads["a"]["kernel"] = grads["a"]["kernel"].at[1, :, 2].set(0.0)
    tx = regrama(optax.sgd(0.0), layout, every=1)
    updates, state = jax.jit(tx.update)(grads, tx.init(params), params)
    new = optax.apply_updates(params, updates)
    assert state.masks["a"].tolist() == [[False] * 4, [False, False, True, False]]
    assert (new["b"]["kernel"][..., 0] == jnp.array([[1, 1, 1, 1], [1, 1, 0, 1]])).all()
    assert report(state, layout)["a"].reset == 1


def test_float64_stays_float64():
    layout = na.Layout([na.dense("first", weight=("w", "in neuron"), bias="b", outgoing=[("r", "neuron out")])])
    params = {"w": np.ones((3, 4)), "b": np.ones(4), "r": np.ones((4, 2))}
    with enable_x64(True):
        params = jax.tree.map(jnp.asarray, params)
        tx = regrama(optax.adam(0.1), layout, every=1, tau=0.5)
        grads = write(params, {"w": params["w"].at[:, 1].set(0.0)})
        updates, state = jax.jit(tx.update)(grads, tx.init(params), params)
        assert {value.dtype for value in jax.tree.leaves((updates, state.scores))} == {jnp.dtype("float64")}
        assert state.neurons_reset.dtype == jnp.int32
        assert int(state.neurons_reset) == 1


def test_a_warning_of_the_clock_points_to_the_code_that_calls_init():
    tx = regrama(optax.chain(ADAM, optax.clip_by_global_norm(1.0)), LAYOUT)
    with pytest.warns(na.ActivityWarning, match="go by the clock of the run") as caught:
        tx.init(PARAMS)
    assert [warning.filename for warning in caught] == [__file__]
    tx.init(PARAMS)  # and warns no more
