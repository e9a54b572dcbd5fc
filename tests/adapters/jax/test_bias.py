"""Which counts correct a bias: what that means for optimizers of which it cannot be told, or which have none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import regrama
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, at

MIXES, COUNTS = "mixes all entries of a parameter", "keeps a step count, and what that corrects is not known"
UNCLEAR = {
    "lamb": (lambda: optax.lamb(0.1), "0/mu", MIXES),
    "muon": (lambda: optax.contrib.muon(0.1), "inner_states/muon/inner_state/0/mu", MIXES),
    "clipped after": (lambda: optax.chain(optax.scale_by_adam(), optax.clip_by_global_norm(1.0)), "0/mu", MIXES),
    "madgrad": (lambda: optax.contrib.madgrad(0.1), "1/count", COUNTS),
    "prodigy": (lambda: optax.contrib.prodigy(0.1), "count", COUNTS),
    "ademamix": (lambda: optax.contrib.ademamix(0.1, alpha=optax.linear_schedule(0, 5, 9)), "0/count_m2", COUNTS),
    "yogi": (lambda: optax.yogi(0.1), "0/nu", COUNTS),
}


NEWER = "came to optax later"


@pytest.mark.parametrize("name", UNCLEAR)
def test_an_optimizer_whose_entries_cannot_have_their_own_count_goes_by_that_of_the_run(name):
    if name in ("muon", "madgrad", "ademamix") and not hasattr(optax.contrib, name):
        pytest.skip(NEWER)
    make, part, why = UNCLEAR[name]
    inner = make()
    tx = regrama(inner, LAYOUT)
    text = f"^optimizer with state '{part}' {why}.*: reset neurons go by the clock of the run, as with clock=\"run\"$"
    with pytest.warns(na.ActivityWarning, match=text):
        tx.init(PARAMS)
    regrama(inner, LAYOUT, max_fraction=0).init(PARAMS)


@pytest.mark.slow
def test_the_clock_of_the_run_is_that_of_the_option():
    def after_two_steps(**options):
        tx, params = regrama(optax.yogi(0.1), LAYOUT, tau=0.5, every=1, **options), PARAMS
        state = tx.init(params)
        for step in range(2):
            updates, state = tx.update(at(step), state, params)
            params = optax.apply_updates(params, updates)
        assert int(state.resets) == 2
        return params, state.inner_state

    with pytest.warns(na.ActivityWarning, match=COUNTS):
        mine = after_two_steps()
    jax.tree.map(np.testing.assert_array_equal, mine, after_two_steps(clock="run"))


@pytest.mark.skipif(not hasattr(optax.contrib, "sophia"), reason=NEWER)
def test_a_count_that_says_when_something_is_due_goes_by_that_of_the_run():
    """Sophia's, which can be told only where the loss is given."""
    tx = regrama(optax.contrib.sophia(0.1), LAYOUT)
    state = tx.init(PARAMS)
    with pytest.warns(na.ActivityWarning, match=f"^optimizer with state '0/count' {COUNTS}: reset neurons go by"):
        tx.update(PARAMS, state, PARAMS, obj_fn=lambda params: sum(jnp.sum(x**2) for x in jax.tree.leaves(params)))


@pytest.mark.parametrize(
    "inner",
    [
        optax.sgd(0.1, momentum=0.9),
        optax.rmsprop(0.1),
        optax.lion(0.1),
        optax.apply_every(3),
        optax.ema(0.9, debias=False),
    ],
    ids=["sgd", "rmsprop", "lion", "apply_every", "ema"],
)
def test_an_optimizer_without_bias_correction_runs_once(inner):
    calls = []

    def update(grads, state, params=None):
        calls.append(grads)
        return inner.update(grads, state, params)

    tx = regrama(optax.GradientTransformation(inner.init, update), LAYOUT)
    state = tx.init(PARAMS)
    tx.update(PARAMS, state, PARAMS)
    calls.clear()
    jax.make_jaxpr(tx.update)(PARAMS, state, PARAMS)
    assert len(calls) == 1
