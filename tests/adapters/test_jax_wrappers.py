"""regrama and redo around an optimizer's updates."""

import copy
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from jax_optimizers import LAYOUT, gradients_for, initial
from neuroactivity_jax import ActivityState, parameters, redo, regrama, report

GRADS = jax.device_get(gradients_for(12))
PARAMS = jax.device_get(initial(jax.random.key(0)))
ADAM = optax.adam(0.1)


@pytest.fixture(autouse=True)
def unoptimized():
    """Compile sooner: nothing here is about speed."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def at(step):
    return jax.tree.map(lambda gradient: gradient[step].copy(), GRADS)


def compiled(tx, **extra):
    """Compile an update and its application."""

    def step(grads, state, params):
        updates, state = tx.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    return jax.jit(step)


def run(step, state, steps, params=PARAMS):
    """Take some steps."""
    for number in steps:
        params, state = step(at(number), state, params)
    return params, state


def stacked(*trees):
    return jax.tree.map(lambda *values: jnp.stack(values), *trees)


def member(tree, number):
    return jax.tree.map(lambda value: value[number], tree)


def test_measurements_fall_on_every_nth_update():
    tx, due = regrama(optax.sgd(0.1), LAYOUT, every=3, max_fraction=0.0), []
    state = tx.init(PARAMS)
    update = jax.jit(tx.update)
    for step in range(1, 11):
        before = int(state.measurements)
        _, state = update(at(0), state, PARAMS)
        due += [step] * (int(state.measurements) - before)
    assert due == [3, 6, 9]
    assert int(state.step) == 10


def test_outside_of_jit_it_does_the_same():
    tx = regrama(optax.sgd(0.0), LAYOUT, tau=0.05, every=2)
    state, params = tx.init(PARAMS), PARAMS
    for step in range(2):
        updates, state = tx.update(at(step), state, params)
        assert int(state.resets) == step
    assert (updates["out"]["kernel"] == -PARAMS["out"]["kernel"]).all(axis=1).nonzero()[0].tolist() == [1, 4]


def test_a_report_is_made_of_the_state():
    tx = regrama(ADAM, LAYOUT, tau=0.05, every=2)
    step = compiled(tx)
    params, state = run(step, tx.init(PARAMS), [0])
    assert report(state, LAYOUT) is None
    _, state = run(step, state, [1], params)
    found = report(state, LAYOUT)
    assert (found.tau, found["a"].inactive, found["a"].reset, found["out"].reset) == (0.05, 2, 2, 0)
    assert found["a"].lowest == pytest.approx(float(na.grama(parameters(at(1)), LAYOUT)["a"].min()), rel=1e-5)
    assert optax.tree_utils.tree_get(state, "neurons_reset") == 2
    assert report({"opt": (optax.EmptyState(), state), "step": 3}, LAYOUT) == found


def test_a_report_needs_one_state_of_one_run():
    tx = regrama(ADAM, LAYOUT, every=2)
    state = tx.init(PARAMS)
    for wrong, count in ((ADAM.init(PARAMS), 0), ((state, state), 2)):
        with pytest.raises(ValueError, match=f"state: expected one state of regrama or redo in it, found {count}"):
            report(wrong, LAYOUT)
    several = stacked(state, state)
    with pytest.raises(ValueError, match=r"got that of \(2,\) runs; take one: jax.tree.map"):
        report(several, LAYOUT)
    assert report(member(several, 0), LAYOUT) is None


def test_of_runs_that_are_mapped_over_only_those_that_are_due_change_and_report():
    told = []
    tx = regrama(ADAM, LAYOUT, tau=0.05, every=2, on_report=told.append)
    start = tx.init(PARAMS)
    both = stacked(start, start._replace(step=jnp.int32(1)))
    updates, both = jax.jit(jax.vmap(tx.update, (None, 0, None)))(at(0), both, PARAMS)
    jax.effects_barrier()
    assert [one["a"].reset for one in told] == [2]
    assert both.measurements.tolist() == both.resets.tolist() == [0, 1]
    assert report(member(both, 0), LAYOUT) is None
    inner = ADAM.init(PARAMS)
    plain = jax.jit(jax.vmap(ADAM.update, (None, 0, None)))(at(0), stacked(inner, inner), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, member((updates, both.inner_state), 0), member(plain, 0))
    assert (updates["out"]["kernel"][1, [1, 4]] == -PARAMS["out"]["kernel"][[1, 4]]).all()


def test_an_idle_update_stays_a_condition_when_mapped_over():
    """Otherwise every step would pay for a measurement and a reset."""
    tx = regrama(ADAM, LAYOUT, initializer=initial, every=1000)
    both = stacked(tx.init(PARAMS), tx.init(PARAMS))
    mapped = jax.vmap(jax.vmap(tx.update, (None, 0, None)), (None, 0, None))
    state = jax.tree.map(lambda value: value[None], both)
    names = {equation.primitive.name for equation in jax.make_jaxpr(mapped)(at(0), state, PARAMS).jaxpr.eqns}
    assert "cond" in names
    assert not {"random_fold_in", "sort", "reduce_sum", "isfinite"} & names


@pytest.mark.parametrize("initializer", [initial, "snapshot"])
def test_interrupted_and_resumed_equals_uninterrupted(initializer):
    tx = regrama(ADAM, LAYOUT, initializer=initializer, tau=0.6, every=2, seed=3)
    step = compiled(tx)
    whole = run(step, tx.init(PARAMS), range(8))
    paused = pickle.loads(pickle.dumps(jax.device_get(run(step, tx.init(PARAMS), range(5)))))
    params, state = copy.deepcopy(paused)
    resumed = run(step, state, range(5, 8), params)
    assert isinstance(state, ActivityState)
    assert int(whole[1].resets) == 4
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)


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
    with pytest.warns(na.ActivityWarning, match=r"a \(not finite: NaN or Inf\)"):
        report(state, LAYOUT)


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


def test_measuring_changes_nothing():
    tx = regrama(ADAM, LAYOUT, tau=0.9, every=1, max_fraction=0.0)
    updates, state = jax.jit(tx.update)(at(0), tx.init(PARAMS), PARAMS)
    plain = jax.jit(ADAM.update)(at(0), ADAM.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, (updates, state.inner_state), plain)
    assert report(state, LAYOUT)["a"].inactive > 0
    assert state.snapshot == {}


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


def test_groups_that_the_optimizer_does_not_train_are_left_alone():
    frozen = {"a": {"kernel": None, "bias": None}, "out": PARAMS["out"]}
    grads = {"a": {"kernel": None, "bias": None}, "out": at(0)["out"]}
    tx = regrama(ADAM, LAYOUT, every=1)
    _, state = jax.jit(tx.update)(grads, tx.init(frozen), frozen)
    assert report(state, LAYOUT).absent == ("a",)
    half = {"a": PARAMS["a"], "out": {"kernel": None}}
    with pytest.raises(
        ValueError, match=r"group 'a': a reset would write parameter 'out/kernel', which this optimizer"
    ):
        tx.init(half)
    nothing = jax.tree.map(lambda value: None, PARAMS)
    with pytest.raises(ValueError, match="the optimizer trains none of the layout's neuron groups"):
        tx.init(nothing)


def test_inside_a_mask_the_masked_groups_are_left_alone():
    inside = regrama(ADAM, LAYOUT, every=1, tau=10.0, max_fraction=0.0)
    tx = optax.masked(inside, {"a": True, "out": False})
    _, state = jax.jit(tx.update)(at(0), tx.init(PARAMS), PARAMS)
    assert report(state, LAYOUT).absent == ("out",)


def test_further_arguments_reach_the_optimizer():
    seen = []

    def update(updates, state, params=None, *, value, **extra):
        seen.append((value, sorted(extra)))
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    tx = regrama(inner, LAYOUT, every=2)
    tx.update(at(0), tx.init(PARAMS), PARAMS, value=3.0)
    assert seen == [(3.0, [])]


def test_redo_scores_activations_and_computes_them_only_when_due():
    computed = []

    def activations():
        computed.append(1)
        jax.debug.callback(lambda: computed.append("run"))
        return {"a": jnp.ones((5, 7)).at[:, 3].set(0.0), "out": None}

    tx = redo(optax.sgd(0.0), LAYOUT, every=2)
    params, state = run(compiled(tx, activations=activations), tx.init(PARAMS), range(3))
    jax.effects_barrier()
    assert computed == [1, "run"]
    assert state.masks["a"].tolist() == [False, False, False, True, False, False, False]
    assert (params["out"]["kernel"][3] == 0).all()
    found = report(state, LAYOUT)
    assert (found.absent, found.tau, found["a"].reset) == (("out",), 0.02, 1)
    given = {"a": jnp.ones((5, 7)), "out": jnp.ones((5, 2))}
    _, given = run(compiled(tx, activations=given), tx.init(PARAMS), range(3))
    assert (int(given.measurements), int(given.resets)) == (1, 0)
