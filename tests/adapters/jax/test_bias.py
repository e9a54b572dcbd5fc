"""Which counts correct a bias: what that means for optimizers of which it cannot be told, or which have none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import regrama
from neuroactivity_jax.bias import bias_correction
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, at

STARTS = "remembers that it has started"
MIXES, COUNTS = "mixes all entries of a parameter", "keeps a step count, and what that corrects is not known"
UNCLEAR = {
    "lamb": (lambda: optax.lamb(0.1), "0/mu", MIXES),
    "muon": (lambda: optax.contrib.muon(0.1), "inner_states/muon/inner_state/0/mu", MIXES),
    "clipped after": (lambda: optax.chain(optax.scale_by_adam(), optax.clip_by_global_norm(1.0)), "0/mu", MIXES),
    "madgrad": (lambda: optax.contrib.madgrad(0.1), "1/count", COUNTS),
    "prodigy": (lambda: optax.contrib.prodigy(0.1), "count", COUNTS),
    "ademamix": (lambda: optax.contrib.ademamix(0.1, alpha=optax.linear_schedule(0, 5, 9)), "0/count_m2", COUNTS),
    "yogi": (lambda: optax.yogi(0.1), "0/nu", COUNTS),
    "optimistic": (lambda: optax.optimistic_gradient_descent(0.1), "0/is_initial_step", STARTS),
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


@pytest.mark.counts(faults=3)
@pytest.mark.parametrize(
    "names",
    [("mlp/~/linear_0", "mlp/~/linear_1"), ("l0", "mlp/~/linear_1"), ("critic/linear", "critic/linear_1")],
    ids=["haiku", "haiku, one on top", "nested"],
)
def test_names_with_a_slash_of_their_own_change_nothing(names):
    def correction(*names):
        shapes = {"w": jnp.ones((3, 7)), "b": jnp.ones(7)}, {"w": jnp.ones((7, 2)), "b": jnp.ones(2)}
        params = dict(zip(names, shapes, strict=True))
        return bias_correction(optax.with_extra_args_support(optax.adam(0.1)), params, {})

    found, plain = correction(*names), correction("l0", "l1")
    assert plain.effective
    assert (found.counts, found.effective, found.moments) == (plain.counts, plain.effective, plain.moments)


@pytest.mark.counts(faults=1)
@pytest.mark.skipif(not hasattr(optax.contrib, "adopt"), reason=NEWER)
def test_an_optimizer_that_asks_whether_a_step_is_its_first_takes_a_first_step_after_a_reset():
    """ADOPT does not move in its first step; a second moment of zero in a later one would throw it far away."""
    out = [("out/kernel", "neuron out")]
    layout = na.Layout([na.dense("a", weight=("a/kernel", "in neuron"), bias="a/bias", outgoing=out), LAYOUT["out"]])
    tx, params = regrama(optax.contrib.adopt(1e-3, use_clipping=False), layout, tau=0.0, every=3), PARAMS
    state = tx.init(params)
    silent = jax.tree.map(jnp.ones_like, PARAMS)
    silent["a"] = {name: leaf.at[..., 1].set(0) for name, leaf in silent["a"].items()}
    for _ in range(3):
        updates, state = tx.update(silent, state, params)
        params = optax.apply_updates(params, updates)
    assert int(state.neurons_reset) == 1
    updates, state = tx.update(jax.tree.map(jnp.ones_like, PARAMS), state, params)
    np.testing.assert_array_equal(updates["out"]["kernel"][1], 0)
    assert (jnp.abs(updates["out"]["kernel"][0]) > 0).all()
    found = bias_correction(optax.with_extra_args_support(optax.contrib.adopt(1e-3, use_clipping=False)), PARAMS, {})
    assert (len(found.effective), found.moments) == (1, ())  # what has no bias is not handed over


@pytest.mark.counts(faults=1)
def test_an_optimizer_that_calls_the_users_functions_goes_by_the_clock_of_the_run():
    """SAM asks for gradients elsewhere; the model cannot be run on arrays of one entry."""
    x = jnp.ones((5, 3))

    def gradient(params, step):
        return jax.grad(lambda p: jnp.square((x @ p["a"]["kernel"] + p["a"]["bias"]) @ p["out"]["kernel"]).sum())(
            params
        )

    inner = optax.contrib.sam(optax.adam(1e-3), optax.sgd(0.1), opaque_mode=True)
    tx = regrama(inner, LAYOUT)
    with pytest.warns(na.ActivityWarning, match="optimizer calls functions of the parameters.*the clock of the run"):
        jax.jit(lambda g, s, p: tx.update(g, s, p, grad_fn=gradient))(at(0), tx.init(PARAMS), PARAMS)


def test_moments_beside_a_count_that_tells_the_first_step_are_all_handed_over():
    """Adan asks for the first step, and corrects the bias of its averages, to which gradients of two steps belong."""
    found = bias_correction(optax.with_extra_args_support(optax.adan(1e-3)), PARAMS, {})
    assert len(found.moments) == 4


def test_a_flag_that_the_updates_do_not_depend_on_is_no_matter(recwarn):
    regrama(optax.contrib.dog(), LAYOUT).init(PARAMS)
    assert not recwarn.list
