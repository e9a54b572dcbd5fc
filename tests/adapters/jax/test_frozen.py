"""A parameter that the optimizer holds but never moves is never written by a reset."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import regrama, report
from neuroactivity_jax.frozen import frozen_params
from tests.adapters.jax.optimizers import LAYOUT, OPTIMIZERS, PARAMS, at

LABELS = {"a": "freeze", "out": "train"}
PARTS = {"train": optax.adam(0.1), "freeze": optax.set_to_zero()}
FROZEN = {"a": True, "out": False}
WAYS = {
    "multi_transform": lambda: optax.multi_transform(PARTS, LABELS),
    "masked": lambda: optax.chain(optax.adam(0.1), optax.masked(optax.set_to_zero(), FROZEN)),
    "clipped after": lambda: optax.chain(optax.multi_transform(PARTS, LABELS), optax.clip_by_global_norm(1.0)),
    "accumulated": lambda: optax.MultiSteps(optax.multi_transform(PARTS, LABELS), 3),
    "if finite": lambda: optax.apply_if_finite(optax.multi_transform(PARTS, LABELS), 3),
}
FREE = na.Layout([na.dense("a", weight=("a/kernel", "in neuron"), bias="a/bias"), LAYOUT["out"]])


@pytest.mark.parametrize("way", WAYS)
def test_what_is_set_to_zero_is_seen(way):
    assert frozen_params(optax.with_extra_args_support(WAYS[way]()), PARAMS) == {"a/kernel", "a/bias"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_trains_is_not_taken_for_frozen(name):
    assert frozen_params(optax.with_extra_args_support(OPTIMIZERS[name]()), PARAMS) == frozenset()


def test_a_learning_rate_that_starts_at_zero_freezes_nothing():
    for inner in (optax.sgd(optax.linear_schedule(0.0, 1.0, 10)), optax.sgd(0.0)):
        assert frozen_params(optax.with_extra_args_support(inner), PARAMS) == frozenset()


@pytest.mark.sampled(4)
@pytest.mark.filterwarnings("ignore:.*go by the clock of the run")  # where clipping mixes entries
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("jit", [False, True])
def test_frozen_groups_are_left_alone(way, jit):
    tx = regrama(WAYS[way](), FREE, every=1, tau=10.0)
    init, update = (jax.jit(tx.init), jax.jit(tx.update)) if jit else (tx.init, tx.update)
    updates, state = update(at(0), init(PARAMS), PARAMS)
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(updates["a"]))
    assert report(state, FREE).absent == ("a",)


def test_a_reset_that_would_write_a_frozen_parameter_is_refused():
    labels = {"a": "train", "out": "freeze"}
    tx = regrama(optax.multi_transform(PARTS, labels), LAYOUT)
    with pytest.raises(ValueError, match="a reset would write parameter 'out/kernel', which this optimizer does not"):
        tx.init(PARAMS)


def test_measuring_measures_frozen_groups_too():
    tx = regrama(WAYS["multi_transform"](), LAYOUT, every=1, max_fraction=0)
    _, state = tx.update(at(0), tx.init(PARAMS), PARAMS)
    assert report(state, LAYOUT).absent == ()


@pytest.mark.counts(faults=2)
def test_an_optimizer_that_asks_for_the_loss_is_read_with_one():
    inner = optax.chain(WAYS["multi_transform"](), optax.contrib.reduce_on_plateau())
    assert frozen_params(inner, PARAMS) == {"a/kernel", "a/bias"}
    tx = regrama(inner, FREE, every=1, initializer=lambda key: jax.tree.map(lambda leaf: 5 * leaf, PARAMS))
    silent = jax.tree.map(lambda leaf: jnp.asarray(leaf).at[..., 1].set(0), at(0))
    updates, state = tx.update(silent, tx.init(PARAMS), PARAMS, value=1.0)
    assert not updates["a"]["kernel"].any()
    assert report(state, FREE).absent == ("a",)


@pytest.mark.counts(faults=1)
def test_of_one_that_asks_for_more_it_is_told_at_the_first_update():
    def update(updates, state, params=None, *, grad_fn, **extra):
        return jax.tree.map(lambda leaf: grad_fn(0.0) * jnp.zeros_like(leaf), updates), state

    inner = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    assert frozen_params(inner, PARAMS) == frozenset()
    tx = regrama(inner, LAYOUT, every=1000)
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match="parameter 'a/bias': a reset may write it, and the optimizer never moves it"):
        tx.update(at(0), state, PARAMS, grad_fn=jnp.sin)


@pytest.mark.counts(faults=1)
def test_parts_of_a_state_that_come_with_an_update_are_refused_at_the_start():
    def update(updates, state, params=None):
        return updates, {"last": updates}

    tx = regrama(optax.chain(optax.GradientTransformation(lambda params: {}, update), optax.sgd(0.1)), LAYOUT)
    with pytest.raises(ValueError, match="state '0/last/a/bias' of the optimizer: expected it to be there from init"):
        tx.init(PARAMS)
