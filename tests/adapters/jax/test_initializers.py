"""Fresh values: what they are drawn from, and that every draw is its own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import regrama
from neuroactivity_jax.drawing import draw_needed
from neuroactivity_jax.initializers import FreshValues
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, at, compiled, initial, member, run, stacked

ADAM = optax.adam(0.1)


def test_every_reset_draws_anew():
    tx = regrama(optax.sgd(0.0), LAYOUT, initializer=initial, tau=0.05, every=1)
    step, params, state, drawn = compiled(tx), PARAMS, tx.init(PARAMS), []
    for number in range(3):
        params, state = run(step, state, [number], params)
        drawn.append(str(params["a"]["kernel"][:, 1]))
    assert len(set(drawn)) == 3


def test_a_snapshot_is_drawn_from_by_neuron():
    tx = regrama(optax.sgd(0.0), LAYOUT, tau=0.05, every=1)
    params, state = run(compiled(tx), tx.init(PARAMS), [0])
    assert set(state.snapshot) == {"a/kernel", "a/bias"}
    for neuron in (1, 4):
        column = params["a"]["kernel"][:, neuron]
        assert any(np.allclose(column, PARAMS["a"]["kernel"][:, other], atol=1e-6) for other in range(7))
    assert not np.allclose(params["a"]["kernel"][:, [1, 4]], PARAMS["a"]["kernel"][:, [1, 4]])


def test_a_snapshot_that_is_not_finite_is_not_drawn_from():
    params = PARAMS | {"a": PARAMS["a"] | {"kernel": jnp.asarray(PARAMS["a"]["kernel"]).at[0].set(jnp.nan)}}
    tx = regrama(optax.sgd(0.0), LAYOUT, tau=0.05, every=1)
    after, state = run(compiled(tx), tx.init(params), [0], params)
    jax.tree.map(np.testing.assert_array_equal, after, params)
    assert (state.resets, state.neurons_reset, state.masks["a"].sum()) == (0, 0, 0)


def test_a_snapshot_of_an_array_that_groups_share_keeps_to_their_places():
    index = (-1, 0, 0, 1, 1)
    group = na.NeuronGroup("second", [na.ParamView("w", "neuron in", index=index)])
    params = {"w": jnp.arange(10.0).reshape(5, 2)}
    tx = regrama(optax.sgd(0.0), na.Layout([group]), every=1, tau=10.0, seed=1)
    step = compiled(tx)
    for event in range(4):
        new, _ = step({"w": jnp.ones((5, 2))}, tx.init(params)._replace(resets=jnp.int32(event)), params)
        rows = params["w"].tolist()
        drawn = [rows.index(row) for row in np.round(new["w"]).tolist()]
        assert drawn[0] == 0
        assert {tuple(drawn[1:3]), tuple(drawn[3:])} <= {(1, 2), (3, 4)}


def test_parameters_of_one_shape_draw_different_values():
    """Published fault 13."""
    group = na.NeuronGroup("g", [("first", "in neuron"), ("second", "in neuron")])
    values = jnp.arange(64.0).reshape(1, 64)
    params = {"first": values, "second": values}
    tx = regrama(optax.sgd(0.0), na.Layout([group]), every=1, tau=10.0)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    new = optax.apply_updates(params, updates)
    assert (new["first"] != new["second"]).sum() > 32


def test_equal_seeds_write_equal_values_and_others_do_not():
    step = compiled(regrama(ADAM, LAYOUT, initializer=initial, tau=0.05, every=1))

    def kernel(seed):
        start = regrama(ADAM, LAYOUT, initializer=initial, tau=0.05, every=1, seed=seed).init(PARAMS)
        return run(step, start, [0])[0]["a"]["kernel"]

    key = jax.random.key(4)
    np.testing.assert_array_equal(kernel(4), kernel(key))
    np.testing.assert_array_equal(kernel(4), kernel(jax.random.key_data(key)))
    np.testing.assert_array_equal(kernel(4), kernel(np.int64(4)))
    assert (kernel(4)[:, 1] != kernel(5)[:, 1]).all()


def test_a_seed_draws_what_it_has_always_drawn():
    """A run that goes on after an upgrade draws as if there had been none."""
    view = na.ParamView("w", "neuron")
    values, views = jnp.arange(12.0), {"w": [(view, view.bind((12,)))]}
    fresh = FreshValues("snapshot", 3)
    drawn = fresh.draw(fresh.key_data(), jnp.int32(2), {"w": values}, views, {})["w"]
    of_parameter = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 2), 991973456)
    of_group = jax.random.fold_in(of_parameter, 0)
    assert drawn.tolist() == jax.random.randint(of_group, (12,), 0, 12).tolist()


def test_a_snapshot_that_lacks_parameters_is_refused_by_the_name_of_the_first():
    view = na.ParamView("w", "neuron")
    views = {name: [(view, view.bind((2,)))] for name in ("a", "b", "c")}
    with pytest.raises(ValueError, match="the state holds no snapshot of 'b'; give update"):
        FreshValues("snapshot", 0).check({"a": jnp.ones(2)}, {}, views)


def test_a_seed_becomes_a_new_array_of_the_numbers_of_its_key():
    key = jax.random.key(4)
    data = jax.random.key_data(key)
    for seed in (4, np.int64(4), jnp.uint8(4), key, data, np.asarray(data)):
        found = FreshValues("snapshot", seed).key_data()
        assert found.tolist() == data.tolist()
        assert found.unsafe_buffer_pointer() != data.unsafe_buffer_pointer()  # which may be donated
    other = jax.random.key(4, impl="rbg")
    assert FreshValues("snapshot", other).key_data().tolist() == jax.random.key_data(other).tolist()


@pytest.mark.parametrize(
    "seed",
    [np.arange(2), jnp.zeros((2, 2), jnp.uint32), jnp.float32(1), np.ones(2), jax.random.split(jax.random.key(0))],
)
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match=r"^seed: expected a whole number or one key of jax\.random, got "):
        FreshValues("snapshot", seed)


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_orthogonal_draws_of_many_runs_on_a_cpu_are_warned_of(orthogonal, mapped, recwarn):
    init = jax.nn.initializers.orthogonal() if orthogonal else jax.nn.initializers.lecun_normal()
    layout = na.Layout([na.dense("a", weight=("a", "in neuron"))])
    params = {"a": jnp.ones((3, 4))}
    tx = regrama(optax.sgd(0.1), layout, initializer=lambda key: {"a": init(key, (3, 4))}, every=1)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), tx.init(params))
    update, state = (jax.vmap(tx.update, (None, 0, None)), states) if mapped else (tx.update, tx.init(params))
    jax.jit(update).lower(params, state, params)
    warned = any("it draws orthogonal weights" in str(warning.message) for warning in recwarn)
    assert warned == (orthogonal and mapped and jax.default_backend() == "cpu")


def test_compiled_code_leaves_a_run_alone_whose_fresh_values_are_not_finite():
    """Outside of it they are refused, the first draw by ``init``; of several runs each is judged by its own draw."""

    def spoiled(key):
        bad = jnp.where(jax.random.bits(key) % 2 == 0, jnp.nan, 0.0)
        return jax.tree.map(lambda value: value.at[0].add(bad), initial(key))

    def wrapped(seed, **options):
        return regrama(ADAM, LAYOUT, initializer=spoiled, tau=0.05, every=1, seed=seed, **options)

    def refuses(seed, event=1):
        fresh = FreshValues(spoiled, seed)
        try:
            fresh.draw(fresh.key_data(), jnp.int32(event), {}, {"a/kernel": []}, {})
        except ValueError as error:
            return "expected finite values for parameter 'a/kernel'" in str(error)
        return False

    seeds, reports = [seed for seed in range(12) if not refuses(seed, 0)][:4], []
    with pytest.raises(ValueError, match="expected finite values for parameter 'a/kernel'"):
        wrapped(next(seed for seed in range(12) if refuses(seed, 0))).init(PARAMS)
    refused = [seed for seed in seeds if refuses(seed)]
    assert 0 < len(refused) < len(seeds)

    tx = wrapped(0, on_report=reports.append)
    states = stacked(*[wrapped(seed).init(PARAMS) for seed in seeds])
    params, states = jax.jit(jax.vmap(compiled(tx), (None, 0, None)))(at(0), states, PARAMS)
    jax.effects_barrier()
    plain, inner = compiled(ADAM)(at(0), ADAM.init(PARAMS), PARAMS)
    marked = {report.run: report["a"].reset for report in reports}
    for number, seed in enumerate(seeds):
        after, state, left = member(params, number), member(states, number), seed in refused
        counted = state.resets, state.neurons_reset, state.masks["a"].sum(), marked[number]
        assert counted == ((0, 0, 0, 0) if left else (1, 2, 2, 2))
        same = jax.tree.map(partial(np.allclose, rtol=1e-6), (after, state.inner_state), (plain, inner))
        assert all(jax.tree.leaves(same)) == left
        assert all(np.isfinite(value).all() for value in jax.tree.leaves(after))


@pytest.mark.parametrize("compiled_by_user", [False, True])
def test_only_the_arrays_that_are_needed_are_drawn(compiled_by_user):
    def fresh(key):
        keys = jax.random.split(key)
        return {"a": jax.random.normal(keys[0], (2, 3)), "b": jax.random.normal(keys[1], (3,)), "c": jnp.ones(2)}

    draw = jax.jit(fresh) if compiled_by_user else fresh
    needed = {"a": True, "b": False, "c": True}
    drawn = jax.jit(lambda key, needed: draw_needed(draw, key, needed))(jax.random.key(1), needed)
    expected = fresh(jax.random.key(1)) | {"b": jnp.zeros(3)}
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6), drawn, expected)


def test_a_compiled_reset_draws_what_it_needs_and_others_all_at_once():
    fresh = FreshValues(lambda key: {"a": jax.random.normal(key, (3,)), "b": jax.random.normal(key, (3,))}, 0)

    def draw(data, needed):
        return fresh.draw(data, 1, {}, {"a": [], "b": []}, needed)

    needed = {"a": jnp.asarray(True), "b": jnp.asarray(False)}
    for function, drawn in ((jax.jit(draw), {"a"}), (draw, {"a", "b"})):
        values = function(fresh.key_data(), needed)
        assert {name for name, value in values.items() if (value != 0).all()} == drawn
