"""What the state of regrama and redo is to its user: donated, nested, restored, made by another wrapper."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import ActivityState, clear_moments, redo, regrama, report
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, at, initial

OUTPUTS = {"a": jnp.array([[1.0, 0, 2, 3, 4, 5, 6]]), "out": jnp.ones((1, 2))}


@pytest.mark.parametrize("seed", [7, jax.random.key(7), jax.random.PRNGKey(7)], ids=["number", "key", "numbers"])
def test_the_state_may_be_donated_and_the_users_key_stays_theirs(seed):
    tx = regrama(optax.adam(0.1), LAYOUT, initializer=initial, tau=0.05, every=1, seed=seed)
    step = jax.jit(lambda params, state: tx.update(at(0), state, params), donate_argnums=1)
    state = tx.init(PARAMS)
    for _ in range(2):
        _, state = step(PARAMS, state)
    assert int(state.neurons_reset) > 0
    _, again = step(PARAMS, tx.init(PARAMS))
    assert int(again.steps) == 1


def test_a_traced_key_draws_what_the_same_key_draws_outside():
    def first(key):
        tx = regrama(optax.sgd(0.0), LAYOUT, initializer=initial, tau=0.05, every=1, seed=key)
        return tx.update(at(0), tx.init(PARAMS), PARAMS)[0]["a"]["kernel"]

    keys = jax.random.split(jax.random.key(3), 3)
    mapped = jax.jit(jax.vmap(first))(keys)
    np.testing.assert_array_equal(mapped[1], jax.jit(first)(keys[1]))
    assert len({str(member[:, 1]) for member in mapped}) == 3


@pytest.mark.sampled(2)
@pytest.mark.parametrize("resetting", ["inner", "outer"])
@pytest.mark.parametrize(("outer", "inner"), [(regrama, redo), (redo, regrama)])
def test_wrappers_nest_and_both_are_given_the_activations(outer, inner, resetting):
    limits = {"inner": (0.0, None), "outer": (None, 0.0)}[resetting]
    tx = inner(optax.adam(0.1), LAYOUT, tau=0.05, every=2, max_fraction=limits[1])
    tx = outer(tx, LAYOUT, tau=0.05, every=2, max_fraction=limits[0])
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for _ in range(2):
        _, state = update(at(0), state, PARAMS, activations=OUTPUTS)
    assert int(state.measurements) == int(state.inner_state.measurements) == 1
    found = {"outer": state, "inner": state.inner_state}
    assert {place: int(one.neurons_reset) > 0 for place, one in found.items()} == {
        "outer": resetting == "outer",
        "inner": resetting == "inner",
    }
    assert (found["inner"].scores["a"] >= 0).all()
    mu = state.inner_state.inner_state[0].mu["a"]["kernel"]
    reset = found[resetting].masks["a"]
    assert (mu[:, reset] == 0).all()
    assert (mu[:, ~reset] != 0).any()


def test_a_report_is_of_the_threshold_that_measured():
    state = regrama(optax.sgd(0.1), LAYOUT, tau=0.01, every=1).init(PARAMS)
    _, state = regrama(optax.sgd(0.1), LAYOUT, tau=0.6, every=1).update(at(0), state, PARAMS)
    found = report(state, LAYOUT)
    assert found.tau == pytest.approx(0.6)
    assert found["a"].inactive == found["a"].reset > 0


@pytest.mark.parametrize("missing", [["a/bias"], ["out/kernel"], ["a/bias", "out/kernel"]])
def test_a_parameter_that_has_no_update_but_would_be_reset_is_named(missing):
    tx = regrama(optax.sgd(0.1), LAYOUT, every=1)
    grads = {layer: dict(arrays) for layer, arrays in at(0).items()}
    for layer, kind in [name.split("/") for name in missing]:
        grads[layer][kind] = None
    with pytest.raises(ValueError, match=f"updates: expected one for parameter '{missing[0]}'"):
        tx.update(grads, tx.init(PARAMS), PARAMS)


def test_a_tree_that_is_one_array_keeps_its_count():
    layout = na.Layout([na.NeuronGroup("all", [na.ParamView("", "in neuron")])])
    params, masks = jnp.ones((3, 7)), {"all": jnp.arange(7) == 2}
    adam = optax.adam(0.1)
    _, state = adam.update(params, adam.init(params), params)
    cleared = clear_moments(adam, state, params, masks, layout)
    assert cleared[0].count.shape == ()
    np.testing.assert_array_equal(cleared[0].mu[:, 2], 0)
    np.testing.assert_array_equal(cleared[0].mu[:, 3], state[0].mu[:, 3])


def test_a_whole_number_among_the_parameters_is_left_to_the_optimizer():
    params, grads = PARAMS | {"steps": jnp.int32(3)}, at(0) | {"steps": jnp.int32(1)}
    tx = regrama(optax.sgd(2.0), LAYOUT, initializer=lambda key: PARAMS, every=1, tau=0.05)
    updates, state = tx.update(grads, tx.init(params), params)
    assert int(optax.apply_updates(params, updates)["steps"]) == 1
    assert int(state.neurons_reset) > 0


def test_a_quantised_state_is_refused():
    def init(params):
        return jax.tree.map(lambda x: jnp.zeros((4, 8), jnp.uint8), params)

    tx = regrama(optax.GradientTransformation(init, lambda updates, state, params=None: (updates, state)), LAYOUT)
    with pytest.raises(ValueError, match="what it remembers of a neuron is not known"):
        tx.init(PARAMS)


def test_a_state_is_restored_from_plain_arrays():
    tx = regrama(optax.adam(0.1), LAYOUT, initializer=initial, tau=0.05, every=2)
    _, state = tx.update(at(0), tx.init(PARAMS), PARAMS)
    leaves, structure = jax.tree.flatten(state)
    restored = jax.tree.unflatten(structure, [np.asarray(leaf) for leaf in leaves])
    assert isinstance(restored, ActivityState)
    once, other = tx.update(at(1), state, PARAMS), tx.update(at(1), restored, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, once, other)


@pytest.mark.parametrize("initializer", ["snapshot", initial])
def test_optax_finds_the_parameters_in_the_state(initializer):
    tx = regrama(optax.adam(0.1), LAYOUT, initializer=initializer)
    state = tx.init(PARAMS)
    marked = optax.tree_utils.tree_map_params(tx, lambda leaf: "of a parameter", state)
    assert jax.tree.leaves(marked.inner_state[0].mu) == ["of a parameter"] * 3
    assert marked.steps is state.steps
    np.testing.assert_array_equal(marked.scores["a"], state.scores["a"])


@pytest.mark.counts(faults=1)
def test_optax_finds_the_parameters_where_a_group_is_frozen():
    parts = {"train": optax.adam(0.1), "freeze": optax.set_to_zero()}
    free = na.Layout([na.dense("a", weight=("a/kernel", "in neuron"), bias="a/bias"), LAYOUT["out"]])
    tx = regrama(optax.multi_transform(parts, {"a": "freeze", "out": "train"}), free)
    state = tx.init(PARAMS)
    assert list(state.scores) == ["out"]
    assert optax.tree_utils.tree_map_params(tx, lambda leaf: 0, state).scores.keys() == {"out"}


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("options", [{"max_fraction": 0}, {"clock": "run"}, {}])
def test_no_array_of_the_state_is_empty(options, tmp_path):
    """Orbax saves none that is."""
    state = regrama(optax.sgd(0.1), LAYOUT, **options).init(PARAMS)
    assert all(leaf.size for leaf in jax.tree.leaves(state))
    checkpoint = pytest.importorskip("orbax.checkpoint")
    with checkpoint.StandardCheckpointer() as saver:
        saver.save(tmp_path / "state", state)
        saver.wait_until_finished()
        restored = saver.restore(tmp_path / "state", state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_an_empty_tree_is_no_stand_in():
    with pytest.raises(na.LayoutError):
        regrama(optax.adam(0.1), LAYOUT).init({})


def test_what_update_is_given_is_what_init_was_given():
    state = regrama(optax.sgd(0.1), LAYOUT, initializer=initial, every=1).init(PARAMS)
    other = regrama(optax.sgd(0.1), LAYOUT, initializer="snapshot", every=100)
    with pytest.raises(ValueError, match="initializer: the state holds no snapshot of 'a/kernel'; give update"):
        other.update(at(0), state, PARAMS)


def test_a_report_by_another_layout_is_refused():
    tx = regrama(optax.sgd(0.1), LAYOUT, initializer=initial, every=1)
    _, state = tx.update(at(0), tx.init(PARAMS), PARAMS)
    other = na.Layout([na.dense("b", weight=("a/kernel", "in neuron"))])
    with pytest.raises(ValueError, match="layout: expected that of the optimizer, with a group 'a', got b"):
        report(state, other)
