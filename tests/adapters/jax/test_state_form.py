"""A state keeps its form through a host: restored by name, with its hyperparameters, and refused if it is another's."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import ActivityState, redo, regrama, report
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, at, initial


def test_the_fields_are_in_alphabetical_order():
    assert list(ActivityState._fields) == sorted(ActivityState._fields)


@pytest.mark.parametrize("wrapper", [regrama, redo])
def test_a_state_survives_being_restored_by_name(wrapper):
    tx = wrapper(optax.adam(0.1), LAYOUT, every=2)
    _, state = tx.update(at(0), tx.init(PARAMS), PARAMS, **({"activations": {}} if wrapper is redo else {}))
    named = flax.serialization.msgpack_restore(flax.serialization.to_bytes(state))
    back = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(named))
    jax.tree.map(np.testing.assert_array_equal, back, state)
    by_state_dict = flax.serialization.from_bytes(tx.init(PARAMS), flax.serialization.to_bytes(state))
    assert isinstance(by_state_dict, ActivityState)
    jax.tree.map(np.testing.assert_array_equal, by_state_dict, state)


def other_state():
    other = na.Layout([na.dense("b", weight=("a/kernel", "in neuron"))])
    return regrama(optax.sgd(0.1), other, initializer=initial).init(PARAMS)


def shuffled():
    leaves, structure = jax.tree.flatten(regrama(optax.sgd(0.1), LAYOUT).init(PARAMS))
    return jax.tree.unflatten(structure, leaves[::-1])


def narrower():
    state = regrama(optax.sgd(0.1), LAYOUT).init(PARAMS)
    return state._replace(scores={name: score[:-1] for name, score in state.scores.items()})


def of_score(value):
    """A state whose score is no dictionary; a number under ``jit`` is traced."""
    return lambda: regrama(optax.sgd(0.1), LAYOUT).init(PARAMS)._replace(score=value)


def of_counts(**counts):
    return lambda: regrama(optax.sgd(0.1), LAYOUT).init(PARAMS)._replace(**{n: jnp.int32(v) for n, v in counts.items()})


@pytest.mark.counts(faults=3)
@pytest.mark.parametrize("state", [of_counts(steps=-5), of_counts(measurements=3), of_counts(steps=3, resets=1)])
def test_counts_that_cannot_be_are_refused_outside_of_compiled_code(state):
    with pytest.raises(ValueError, match=r"state: .*(steps|measurements|resets)"):
        regrama(optax.sgd(0.1), LAYOUT).update(at(0), state(), PARAMS)


def of_two_runs():
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), regrama(optax.sgd(0.1), LAYOUT).init(PARAMS))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (other_state, "state: expected the scores of this layout's groups, a, out, got b"),
        (shuffled, r"state: expected 'steps' to be integer of shape \(\), got"),
        (narrower, r"state: expected 'scores/a' to be floating of shape \(7,\), got float32 of shape \(6,\)"),
        (lambda: optax.sgd(0.1).init(PARAMS), "state: expected an ActivityState, as init returns it, got tuple"),
        (
            lambda: jax.tree.map(lambda x: jnp.stack([x] * 2), regrama(optax.sgd(0.1), LAYOUT).init(PARAMS)),
            r"got .* of shape \(2,",
        ),
        (of_score(2.5), "state: expected neurons scored by the wrapper's own score, got"),
        (of_score(jnp.zeros(3)), "state: expected neurons scored by the wrapper's own score, got"),
    ],
    ids=["another layout", "shuffled", "another width", "without the wrapper", "several runs", "a number", "an array"],
)
@pytest.mark.parametrize("jit", [False, True])
def test_a_state_of_another_form_is_refused(state, message, jit):
    tx = regrama(optax.sgd(0.1), LAYOUT, every=1)
    update = jax.jit(tx.update) if jit else tx.update
    with pytest.raises(ValueError, match=message):
        update(at(0), state(), PARAMS)


@pytest.mark.parametrize(
    "make",
    [
        lambda inject: inject,
        lambda inject: optax.chain(optax.clip_by_global_norm(1e6), inject),
        lambda inject: regrama(inject, LAYOUT, max_fraction=0),
    ],
    ids=["alone", "in a chain", "in another wrapper"],
)
def test_hyperparameters_are_read_and_written_as_without_the_wrapper(make):
    tx = regrama(make(optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)), LAYOUT)
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    assert float(state.hyperparams["learning_rate"]) == 0.5
    state.hyperparams["learning_rate"] = jnp.asarray(0.25)
    np.testing.assert_allclose(update(at(0), state, PARAMS)[0]["a"]["bias"], -0.25 * at(0)["a"]["bias"])
    state = state._replace(hyperparams={**state.hyperparams, "learning_rate": jnp.asarray(0.125)})
    np.testing.assert_allclose(update(at(0), state, PARAMS)[0]["a"]["bias"], -0.125 * at(0)["a"]["bias"])


def test_without_injected_hyperparameters_there_are_none():
    state = regrama(optax.sgd(0.1), LAYOUT).init(PARAMS)
    assert not hasattr(state, "hyperparams")
    with pytest.raises(AttributeError, match="expected one part of the optimizer to have them, found 0"):
        state._replace(hyperparams={})


def test_measuring_needs_no_parameters():
    tx = regrama(optax.sgd(0.1), LAYOUT, every=1, max_fraction=0)
    state = tx.init(PARAMS)
    updates, measured = jax.jit(tx.update)(at(0), state)
    expected, with_params = tx.update(at(0), state, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, (updates, measured), (expected, with_params))
    assert report(measured, LAYOUT)["a"].neurons == 7
    with pytest.raises(ValueError, match="params: a reset needs the parameters"):
        regrama(optax.sgd(0.1), LAYOUT).update(at(0), state)
