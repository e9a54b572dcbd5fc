"""Figures of the last measurement: inside of compiled loops, and of many runs at once."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import redo, regrama, report, reports, summary
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, at, stacked

TX = regrama(optax.sgd(0.1), LAYOUT, tau=0.05, every=2)


def trained(steps):
    def step(carry, number):
        params, state = carry
        updates, state = TX.update(jax.tree.map(lambda leaf: leaf[number % 2], GRADS), state, params)
        return (optax.apply_updates(params, updates), state), summary(state)

    return jax.jit(lambda: jax.lax.scan(step, (PARAMS, TX.init(PARAMS)), jnp.arange(steps)))()


GRADS = stacked(at(0), at(1))


def test_a_scan_gives_the_figures_of_every_step():
    (_, state), metrics = trained(5)
    assert {value.shape for value in metrics.values()} == {(5,)}
    assert metrics["neuroactivity/measurements"].tolist() == [0, 1, 1, 2, 2]
    assert np.isnan(metrics["neuroactivity/a/inactive_fraction"][0])
    last = {name: float(value[-1]) for name, value in metrics.items()}
    for name, value in report(state, LAYOUT).scalars().items():
        assert last[name] == pytest.approx(value), name
    assert last["neuroactivity/neurons_reset"] == int(state.neurons_reset) > 0
    assert last["neuroactivity/out/reset"] == 0


@pytest.mark.parametrize(
    "scores",
    [
        {"a": [0.0, 0.0, 0.0, 0.0], "out": [0.0, 2.0]},
        {"a": [math.nan, 0.0, 1.0, 2.0], "out": [0.0, 2.0]},
        {"a": [math.inf, 0.0, 1.0, 2.0], "out": [math.nan, 2.0]},
        {"a": [-1.0, -1.0, -1.0, -1.0], "out": [0.0, 2.0]},
        {"a": [[0.0, 0.0], [math.nan, 1.0]], "out": [[0.0, 2.0], [1.0, 1.0]]},
    ],
    ids=["silent", "not a number", "none can be judged", "not measured", "a stack"],
)
@pytest.mark.filterwarnings("ignore::neuroactivity.ActivityWarning")
def test_the_figures_are_those_of_the_report(scores):
    layout = na.Layout([na.dense(name, weight=(name, "in neuron")) for name in scores])
    scores = {name: jnp.array(values) for name, values in scores.items()}
    masks, before = (jax.tree.map(lambda score, of=of: score == of, scores) for of in (0, 1))
    state = TX.init(PARAMS)._replace(scores=scores, masks=masks, reset_before=before, measurements=jnp.int32(1))
    figures = jax.jit(summary)(state)
    for name, value in report(state, layout).scalars().items():
        np.testing.assert_allclose(float(figures[name]), value, rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_reports_of_many_runs_are_those_of_each():
    tx = regrama(optax.sgd(0.1), LAYOUT, tau=0.05, every=2)
    start = tx.init(PARAMS)
    states = stacked(start, start._replace(steps=jnp.int32(1)))
    grads = stacked(at(0), at(1))
    _, states = jax.vmap(tx.update, (0, 0, None))(grads, states, PARAMS)
    none, one = reports({"opt_state": states}, LAYOUT)
    assert none is None
    assert one == report(jax.tree.map(lambda leaf: leaf[1], states), LAYOUT)
    nested = jax.tree.map(lambda leaf: leaf[None], states)
    assert reports(nested, LAYOUT) == [None, one]
    assert jax.vmap(summary)(states)["neuroactivity/measurements"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="states: expected those of several runs, got that of one; use report"):
        reports(start, LAYOUT)


@pytest.mark.parametrize("mapped", ["states", "gradients"])
def test_a_report_names_its_run(mapped):
    told = []
    tx = regrama(optax.sgd(0.1), LAYOUT, every=1, on_report=told.append)
    start = tx.init(PARAMS)
    grads = at(0)
    if mapped == "states":
        update, start = jax.vmap(tx.update, (None, 0, None)), stacked(start, start, start)
    else:
        update, grads = jax.vmap(tx.update, (0, None, None)), stacked(grads, at(1), at(2))
    jax.jit(update)(grads, start, PARAMS)
    jax.effects_barrier()
    assert sorted(one.run for one in told) == [0, 1, 2]
    assert "run: 2" in str(max(told, key=lambda one: one.run))
    assert {one.to_dict()["run"] for one in told} == {0, 1, 2}


@pytest.mark.slow
def test_runs_of_two_axes_are_numbered_on_and_one_alone_has_no_number():
    told = []
    tx = regrama(optax.sgd(0.1), LAYOUT, every=1, on_report=told.append)
    start = tx.init(PARAMS)
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (2, 3, *leaf.shape)), start)
    update = jax.jit(jax.vmap(jax.vmap(tx.update, (None, 0, None)), (None, 0, None)))
    update(at(0), states, PARAMS)
    jax.effects_barrier()
    assert sorted(one.run for one in told) == list(range(6))
    told.clear()
    jax.jit(tx.update)(at(0), start, PARAMS)
    jax.effects_barrier()
    assert [one.run for one in told] == [None]
    assert "run" not in told[0].to_dict()


def test_groups_without_activations_count_nowhere():
    tx = redo(optax.sgd(0.1), LAYOUT, every=1)
    _, state = tx.update(at(0), tx.init(PARAMS), PARAMS, activations={"a": jnp.ones((5, 7)), "out": None})
    figures = summary(state)
    assert int(figures["neuroactivity/neurons"]) == 7
    assert np.isnan(figures["neuroactivity/out/inactive_fraction"])


def test_a_callback_that_raises_makes_compiled_code_fail_and_the_old_state_stays():
    def on_report(report):
        raise OSError("no disk")

    tx = regrama(optax.sgd(0.1), LAYOUT, tau=0.05, every=1, on_report=on_report)
    state = tx.init(PARAMS)
    with pytest.raises(jax.errors.JaxRuntimeError, match="no disk"):
        jax.block_until_ready(jax.jit(tx.update)(at(0), state, PARAMS))
    quiet = regrama(optax.sgd(0.1), LAYOUT, tau=0.05, every=1)
    assert int(jax.jit(quiet.update)(at(0), state, PARAMS)[1].resets) == 1
