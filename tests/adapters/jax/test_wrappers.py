"""regrama and redo around an optimizer's updates, and what they refuse."""

import copy
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity.wrapping import ResetOptions
from neuroactivity_jax import ActivityState, parameters, redo, regrama, report
from neuroactivity_jax.initializers import FreshValues
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, at, compiled, initial, member, run, stacked

ADAM = optax.adam(0.1)


def test_measurements_fall_on_every_nth_update():
    tx, due = regrama(optax.sgd(0.1), LAYOUT, every=3, max_fraction=0.0), []
    state = tx.init(PARAMS)
    update = jax.jit(tx.update)
    for step in range(1, 11):
        before = int(state.measurements)
        _, state = update(at(0), state, PARAMS)
        due += [step] * (int(state.measurements) - before)
    assert due == [3, 6, 9]
    assert int(state.steps) == 10


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
    both = stacked(start, start._replace(steps=jnp.int32(1)))
    updates, both = jax.jit(jax.vmap(tx.update, (None, 0, None)))(at(0), both, PARAMS)
    jax.effects_barrier()
    assert [(one["a"].reset, one.run) for one in told] == [(2, 1)]
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


def test_measuring_changes_nothing():
    tx = regrama(ADAM, LAYOUT, tau=0.9, every=1, max_fraction=0.0)
    updates, state = jax.jit(tx.update)(at(0), tx.init(PARAMS), PARAMS)
    plain = jax.jit(ADAM.update)(at(0), ADAM.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, (updates, state.inner_state), plain)
    assert report(state, LAYOUT)["a"].inactive > 0
    assert state.snapshot == {}


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
    with pytest.raises(ValueError, match="the optimizer trains none of the model's neuron groups"):
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
    assert seen[-1] == (3.0, [])
    assert {float(value) for value, _ in seen} == {0.0, 3.0}  # it is read before it is given any


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


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every: expected a whole number of steps of 1 or more, got 0"),
        ({"tau": -1.0}, ValueError, "tau: expected a finite number of 0 or more, got -1.0"),
        ({"max_fraction": 1.5}, ValueError, r"max_fraction: expected a number in \[0, 1\] or None, got 1.5"),
        ({"seed": "zero"}, ValueError, "seed: expected a whole number or one key of jax.random, got 'zero'"),
        ({"seed": jax.random.split(jax.random.key(0))}, ValueError, "seed: expected a whole number or one key of jax"),
        ({"seed": 0.5}, ValueError, "seed: expected a whole number or one key of jax.random, got 0.5"),
        (
            {"initializer": "orthogonal"},
            ValueError,
            "initializer: expected 'snapshot' or a function from a key, got 'o",
        ),
        (
            {"initializer": "orthogonal", "max_fraction": 0},
            ValueError,
            "initializer: expected 'snapshot' or a function",
        ),
        ({"layout": {}}, TypeError, "layout: expected a neuroactivity.Layout, got dict"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        regrama(ADAM, options.pop("layout", LAYOUT), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"initializer": lambda key: {"a": {"kernel": jnp.ones((3, 7))}}},
            "initializer: expected a fresh value for parameter 'a/bias', got a/kernel",
        ),
        (
            {"initializer": lambda key: jax.tree.map(lambda x: x.T, initial(key))},
            r"initializer, parameter 'a/kernel': expected shape \(3, 7\) and dtype float32, got \(7, 3\)",
        ),
        (
            {"layout": na.Layout([na.dense("a", weight=("nope", "in neuron"))])},
            "group 'a': parameter 'nope' is missing; there are a/bias, a/kernel, out/kernel",
        ),
        (
            {"layout": na.Layout([na.dense("a", weight=("a/bias", "in neuron"))])},
            r"group 'a', parameter 'a/bias', pattern 'in neuron': expected 2 axes, got shape \(7,\)",
        ),
    ],
)
def test_what_does_not_fit_the_parameters_is_refused_at_the_start(options, message):
    tx = regrama(ADAM, options.pop("layout", LAYOUT), **options)
    with pytest.raises(ValueError, match=message):
        tx.init(PARAMS)


def test_an_update_needs_the_parameters():
    tx = regrama(ADAM, LAYOUT)
    with pytest.raises(ValueError, match=r"params: a reset needs the parameters; call update\(grads, state, params\)"):
        tx.update(at(0), tx.init(PARAMS))


def test_redo_without_activations_says_so():
    tx = redo(ADAM, LAYOUT)
    with pytest.raises(
        ValueError, match=r"activations: redo needs them; call update\(grads, state, params, activations"
    ):
        tx.update(at(0), tx.init(PARAMS), PARAMS)
    missing = redo(ADAM, LAYOUT, every=1)
    with pytest.raises(na.LayoutError, match="group 'out' is missing; there are a"):
        jax.eval_shape(lambda: missing.update(at(0), tx.init(PARAMS), PARAMS, activations={"a": jnp.ones((5, 7))}))


@pytest.mark.parametrize("wrap", [regrama, redo])
def test_an_unknown_option_is_named(wrap):
    with pytest.raises(TypeError, match="unexpected keyword argument 'evry'"):
        wrap(ADAM, LAYOUT, evry=10)


def test_both_wrappers_have_the_same_options_and_defaults():
    default = {wrap: wrap(ADAM, LAYOUT).init.__self__ for wrap in (regrama, redo)}
    assert (default[regrama].options.tau, default[redo].options.tau) == (0.01, 0.02)
    assert dataclasses.replace(default[redo].options, tau=0.01) == default[regrama].options
    assert default[redo].fresh == default[regrama].fresh
    options = {"tau": 0.3, "every": np.int64(7), "max_fraction": 0.2, "reset_silent": True, "on_report": print}
    chosen = [wrap(ADAM, LAYOUT, seed=3, initializer=initial, **options).init.__self__ for wrap in (regrama, redo)]
    assert chosen[0].options == chosen[1].options == ResetOptions(**options)
    assert chosen[0].fresh == chosen[1].fresh == FreshValues(initial, 3)


@pytest.mark.counts(faults=3)
@pytest.mark.parametrize(
    "around",
    [
        lambda inner: optax.chain(optax.clip(1.0), inner),
        lambda inner: optax.inject_hyperparams(lambda rate: optax.chain(inner, optax.scale(rate)))(1.0),
        lambda inner: optax.multi_transform({"x": inner, "y": optax.sgd(0.1)}, {"a": "x", "out": "x"}),
    ],
    ids=["chain", "inject_hyperparams", "multi_transform"],
)
def test_two_that_reset_the_same_parameters_are_refused_wherever_the_inner_one_is(around):
    with pytest.raises(ValueError, match="a wrapper is around it already and resets the same parameters"):
        regrama(around(regrama(ADAM, LAYOUT)), LAYOUT).init(PARAMS)
    for outer, inner in (({"max_fraction": 0}, {}), ({}, {"max_fraction": 0})):
        tx = regrama(around(regrama(ADAM, LAYOUT, **inner)), LAYOUT, **outer)
        tx.update(at(0), tx.init(PARAMS), PARAMS)
    regrama(ADAM, LAYOUT).init(PARAMS)  # after an error nothing is left of it
