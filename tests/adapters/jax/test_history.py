"""Scores of several batches, the history of resets, and when and how neurons may be reset."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity.wrapping import NEVER
from neuroactivity_jax import clear_moments, parameters, redo, regrama, report, reports, summary
from neuroactivity_jax.optimizers import written_mask
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, at, initial


def without(*neurons):
    """Return gradients that are zero for some neurons, and one for all others."""
    grads = jax.tree.map(np.ones_like, PARAMS)
    grads["a"]["kernel"][:, list(neurons)] = 0.0
    grads["a"]["bias"][list(neurons)] = 0.0
    return grads


def states(given, wrap=regrama, params=PARAMS, **options):
    """Return the state after each update."""
    tx, found = wrap(optax.sgd(0.01), LAYOUT, **options), []
    state = tx.init(params)
    for grads in given:
        extra = {"activations": grads} if wrap is redo else {}
        updates, state = tx.update(PARAMS if wrap is redo else grads, state, params, **extra)
        params = optax.apply_updates(params, updates)
        found.append(state)
    return found


def test_a_score_of_several_batches_is_that_of_their_sum():
    batches = [without(0), without(0, 1), without(1, 2), without(2)]
    last = states(batches, every=4, batches=2, tau=0.0)[-1]
    sums = [na.magnitudes(parameters(grads), LAYOUT) for grads in batches[2:]]
    expected = na.scores({name: sums[0][name] + sums[1][name] for name in LAYOUT})
    jax.tree.map(np.testing.assert_allclose, last.scores, expected)
    assert last.masks["a"].nonzero()[0].tolist() == [2]
    assert (np.asarray(last.magnitudes["a"]) == -1).all()


def test_redo_adds_the_activations_of_several_batches():
    given = [{"a": jnp.eye(7)[i : i + 1], "out": jnp.ones((1, 2))} for i in (0, 1, 2)]
    last = states(given, redo, every=3, batches=3, tau=0.0)[-1]
    np.testing.assert_allclose(last.scores["a"], [7 / 3] * 3 + [0] * 4, rtol=1e-6)
    calls = []
    tx = redo(optax.sgd(0.1), LAYOUT, every=4, batches=2)
    state = tx.init(PARAMS)
    for step in range(1, 5):
        _, state = tx.update(PARAMS, state, PARAMS, activations=lambda step=step: calls.append(step) or given[0])
    assert calls == [3, 4]


def test_a_group_without_gradients_at_a_step_adds_nothing():
    missing = without() | {"out": {"kernel": None}}
    layout = na.Layout([na.dense("a", weight=("a/kernel", "in neuron"), bias="a/bias"), LAYOUT["out"]])
    tx = regrama(optax.sgd(0.1), layout, every=2, batches=2, max_fraction=0)
    state = tx.init(PARAMS)
    for grads in (missing, without()):
        _, state = tx.update(grads, state, PARAMS)
    assert state.scores["out"].tolist() == [1, 1]
    for grads in (missing, missing):
        _, state = tx.update(grads, state, PARAMS)
    assert state.scores["out"].tolist() == [1, 1]
    assert state.measurements == 2


@pytest.mark.sampled(1)
@pytest.mark.parametrize("jit", [False, True])
def test_resumed_while_batches_are_added_equals_uninterrupted(jit):
    tx = regrama(optax.adam(0.1), LAYOUT, every=4, batches=3, tau=0.05, initializer=initial)
    update = jax.jit(tx.update) if jit else tx.update

    def run(params, state, steps):
        for step in steps:
            updates, state = update(at(step), state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    params, state = jax.device_get(run(PARAMS, tx.init(PARAMS), range(3)))
    whole = run(PARAMS, tx.init(PARAMS), range(8))
    jax.tree.map(np.testing.assert_array_equal, run(params, state, range(3, 8)), whole)


def test_neurons_that_are_inactive_again_are_counted():
    batches = [without(1, 2), without(2, 3), without(3), without()]
    found = states(batches, every=1, tau=0.0)
    assert [report(state, LAYOUT)["a"].reset_again for state in found] == [0, 1, 1, 0]
    assert [int(summary(state)["neuroactivity/reset_again"]) for state in found] == [0, 1, 1, 0]
    assert found[-1].since["a"].tolist() == [NEVER, 3, 2, 1, *[NEVER] * 3]


@pytest.mark.filterwarnings("error:.*resets do not last")
def test_resets_that_do_not_last_are_warned_of_once_with_each_layout():
    last = states([without(0, 1, 2, 3), without(0, 1, 2, 3)], every=1, tau=0.0)[-1]
    for layout in (na.Layout(list(LAYOUT.values())), na.Layout(list(LAYOUT.values()))):
        with pytest.warns(na.ActivityWarning, match="4 of the neurons that were reset last are inactive again, of 4"):
            report(last, layout)
        report(last, layout)


def test_of_several_runs_each_has_its_history():
    tx = regrama(optax.adam(0.1), LAYOUT, every=1, tau=0.0)
    params = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), PARAMS)
    state, update = jax.vmap(tx.init)(params), jax.jit(jax.vmap(tx.update))
    for runs in ((without(1), without(2)), (without(1), without(3))):
        _, state = update(jax.tree.map(lambda *leaves: np.stack(leaves), *runs), state, params)
    assert [one["a"].reset_again for one in reports(state, LAYOUT)] == [1, 0]


def test_a_protected_neuron_is_left_alone():
    found = states([without(1)] * 4, every=1, tau=0.0, protect=2)
    assert [state.masks["a"].tolist()[1] for state in found] == [True, False, False, True]


def test_neurons_are_reset_from_start_to_stop_and_measured_always():
    found = states([without(1)] * 5, every=1, tau=0.0, start=2, stop=3)
    assert [int(state.neurons_reset) for state in found] == [0, 1, 2, 2, 2]
    assert int(found[-1].measurements) == 5


def test_the_lowest_are_reset_without_a_threshold():
    assert states([at(0)], every=1, tau=0.0, lowest=0.3)[-1].masks["a"].nonzero()[0].tolist() == [1, 4]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("outgoing", ["zero", "small", "fresh", "keep"])
@pytest.mark.parametrize("initializer", ["snapshot", initial])
def test_outgoing_parameters_become_what_is_asked_for(outgoing, initializer):
    tx = regrama(optax.adam(0.1), LAYOUT, every=1, tau=0.0, outgoing=outgoing, initializer=initializer)
    updates, state = tx.update(without(1, 4), tx.init(PARAMS), PARAMS)
    new = optax.apply_updates(PARAMS, updates)["out"]["kernel"]
    old, moments = PARAMS["out"]["kernel"], state.inner_state[0].mu["out"]["kernel"]
    sizes = np.sqrt(np.mean(np.square(new[jnp.array([1, 4])]), axis=1))
    living = np.sqrt(np.mean(np.square((old - 0.1)[[0, 2, 3, 5, 6]])))
    np.testing.assert_allclose(new[0], old[0] - 0.1, rtol=1e-5)
    assert (moments[0] != 0).all()
    assert (moments[1] == 0).all() == (outgoing != "keep")
    if outgoing == "keep":
        np.testing.assert_allclose(new[1], old[1] - 0.1, rtol=1e-4, atol=1e-6)
    elif outgoing == "small":
        np.testing.assert_allclose(sizes, 0.02 * living, rtol=1e-3)
    else:
        assert ((sizes == 0) == (outgoing == "zero")).all()
    params = optax.tree_utils.tree_map_params(tx, lambda leaf: leaf, state)
    assert jax.tree.structure(params) == jax.tree.structure(state)


def test_what_is_kept_is_not_cleared():
    masks, adam = {"a": jnp.arange(7) == 1}, optax.adam(0.1)
    _, state = adam.update(without(), adam.init(PARAMS), PARAMS)
    cleared = clear_moments(adam, state, PARAMS, masks, LAYOUT, outgoing="keep")
    assert (cleared[0].mu["a"]["kernel"][:, 1] == 0).all()
    np.testing.assert_array_equal(cleared[0].mu["out"]["kernel"], state[0].mu["out"]["kernel"])
    assert set(written_mask(parameters(PARAMS), masks, LAYOUT, outgoing="keep")) == {"a/kernel", "a/bias"}
