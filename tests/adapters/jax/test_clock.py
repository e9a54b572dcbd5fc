"""A reset neuron's own clock: its entries take the steps of an optimizer that counts the steps of each entry."""

import pickle
from functools import partial
from inspect import signature

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neuroactivity.wrapping import YOUNG
from neuroactivity_jax import clear_moments, clock, parameters, regrama
from tests.adapters.jax.entries import FORMULAS
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, member, stacked
from tests.adapters.jax.releases import enable_x64


def gradients(every, steps, seed=0):
    """Draw a gradient for each step; where a measurement is due, one or two neurons have none."""
    rng = np.random.default_rng(seed)
    drawn = []
    for step in range(1, steps + 1):
        grads = jax.tree.map(lambda value: rng.normal(size=value.shape), PARAMS)
        if step % every == 0:
            dead = rng.choice(7, 1 + step // every % 2, replace=False)
            grads["a"]["kernel"][:, dead] = 0.0
            grads["a"]["bias"][dead] = 0.0
        drawn.append(grads)
    return drawn


def written(mask):
    """Return where a reset of neurons of ``a`` writes."""
    where = {name: np.zeros(value.shape, bool) for name, value in parameters(PARAMS).items()}
    where["a/kernel"][:, mask], where["a/bias"][mask], where["out/kernel"][mask] = True, True, True
    return where


def as_dtype(tree, dtype):
    return jax.tree.map(lambda value: jnp.asarray(value, dtype), tree)


class Reference:
    """The optimizer with a count for each entry, which takes over what a reset writes."""

    def __init__(self, formula):
        self.formula = formula
        self.params = {name: np.asarray(value, np.float64) for name, value in parameters(PARAMS).items()}
        self.counts = {name: np.zeros(value.shape) for name, value in self.params.items()}
        self.moments = {name: {} for name in self.params}

    def step(self, grads, rate=0.1):
        for name, gradient in parameters(grads).items():
            self.counts[name] = self.counts[name] + 1
            update = self.formula(self.moments[name], gradient, self.counts[name], self.params[name])
            self.params[name] = self.params[name] + update * rate / 0.1

    def reset(self, mask, params):
        for name, where in written(np.asarray(mask)).items():
            self.params[name] = np.where(where, params[name], self.params[name])
            self.counts[name] = np.where(where, 0, self.counts[name])
            self.moments[name] = {key: np.where(where, 0.0, value) for key, value in self.moments[name].items()}

    def difference(self, params, steps):
        """Return the largest difference of parameters, in learning rates, where steps are corrected or nothing was."""
        followed = {name: (count <= clock.YOUNG) | (count == steps) for name, count in self.counts.items()}
        return max(np.abs(np.where(followed[n], params[n] - self.params[n], 0)).max() / 0.1 for n in params)


def compare(inner, formula, every, dtype, *, jit=False, steps=60, skipped=(), gathered=1, rate=lambda step: 0.1):
    """Return the largest difference from the reference; gradients of ``skipped`` steps are not finite."""
    tx, reference, worst = regrama(inner, LAYOUT, tau=0.0, every=every), Reference(formula), 0.0
    update = jax.jit(tx.update) if jit else tx.update
    params = as_dtype(PARAMS, dtype)
    state, resets, batches, taken = tx.init(params), 0, [], 0
    for step, grads in enumerate(gradients(every, steps), start=1):
        given = jax.tree.map(lambda value: np.full_like(value, np.nan), grads) if step in skipped else grads
        updates, state = update(as_dtype(given, dtype), state, params)
        params = optax.apply_updates(params, updates)
        batches += [] if step in skipped else [grads]
        if len(batches) == gathered:
            reference.step(jax.tree.map(lambda *values: np.mean(values, axis=0), *batches), rate(taken))
            batches, taken = [], taken + 1
        mine = {key: np.asarray(value, np.float64) for key, value in parameters(params).items()}
        if int(state.resets) > resets:
            reference.reset(state.masks["a"], mine)
            resets = int(state.resets)
        worst = max(worst, reference.difference(mine, taken))
    assert resets > 0
    return worst


SLOW = ("adamw", "adamax", "nadam", "radam", "adabelief", "averaged adam")  # much like others


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in FORMULAS]
)
def test_entries_that_a_reset_writes_are_stepped_as_by_a_new_optimizer(name):
    make, formula = FORMULAS[name]
    with enable_x64(True):
        assert compare(make(), formula, 8, jnp.float64, steps=20) < 1e-10


@pytest.mark.sampled(1)
@pytest.mark.parametrize("every", [1, 5, 55])
def test_all_resets_that_are_young_at_once_are_right(every, monkeypatch):
    """In float32, in which optax itself computes the bias of second moments to four digits."""
    monkeypatch.setattr(clock, "YOUNG", 50)
    assert compare(optax.adam(0.1), FORMULAS["adam"][1], every, jnp.float32, jit=True) < 1e-3


def test_steps_that_are_skipped_do_not_age():
    inner = optax.apply_if_finite(optax.adam(0.1), 10)
    skipped = {7, 13, 14, 22, 33}
    assert compare(inner, FORMULAS["adam"][1], 20, jnp.float32, jit=True, skipped=skipped) < 1e-3


def test_batches_that_are_gathered_are_one_step():
    inner = optax.MultiSteps(optax.adam(0.1), 2)
    assert compare(inner, FORMULAS["adam"][1], 2, jnp.float32, jit=True, gathered=2) < 1e-3


def test_a_schedule_stays_that_of_the_run():
    schedule = optax.linear_schedule(0.1, 0.01, 60)
    assert compare(optax.adam(schedule), FORMULAS["adam"][1], 20, jnp.float32, jit=True, rate=schedule) < 1e-3


COMPILED = {}


def trained(tx, steps, every, state=None, params=PARAMS, begin=0, jit=True):
    """Train with gradients that do not depend on parameters; of one optimizer the update is compiled once."""
    state = tx.init(params) if state is None else state
    update = COMPILED.setdefault(id(tx), (jax.jit(tx.update), tx))[0] if jit else tx.update
    for grads in gradients(every, steps)[begin:]:
        updates, state = update(as_dtype(grads, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_entries_that_no_reset_writes_keep_their_bits():
    params, state = trained(regrama(optax.adam(0.1), LAYOUT, tau=0.0, every=20, clock="own"), 60, 20)
    plain, plain_state = trained(optax.adam(0.1), 60, 20)
    never = ~np.logical_or.reduce([np.asarray(state.since["a"]) < 100])
    assert 0 < never.sum() < 7
    trees = (
        (params, plain),
        (state.inner_state[0].mu, plain_state[0].mu),
        (state.inner_state[0].nu, plain_state[0].nu),
    )
    for mine, theirs in trees:
        for name, where in written(never).items():
            np.testing.assert_array_equal(parameters(mine)[name][where], parameters(theirs)[name][where])


def test_moments_are_handed_over_as_averages_that_the_runs_count_corrects():
    with enable_x64(True):
        tx, reference = regrama(optax.adam(0.1), LAYOUT, tau=0.0, every=60, stop=60), Reference(FORMULAS["adam"][1])
        params = as_dtype(PARAMS, jnp.float64)
        state, update = tx.init(params), jax.jit(tx.update)
        for step, grads in enumerate(gradients(60, 60 + YOUNG), start=1):
            assert bool((np.asarray(state.born) >= 0).any()) == (step > 60)
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
            reference.step(grads)
            if step == 60:
                reference.reset(state.masks["a"], parameters(jax.device_get(params)))
        mask = np.asarray(state.masks["a"])
        assert (np.asarray(state.born) < 0).all()
        assert (np.asarray(state.young["a"]) < 0).all()
        for moment, decay in (("mu", 0.9), ("nu", 0.999)):
            value = parameters(getattr(state.inner_state[0], moment))["a/kernel"][:, mask]
            factor = (1 - decay ** (60 + YOUNG)) / (1 - decay**YOUNG)
            np.testing.assert_allclose(value, factor * reference.moments["a/kernel"][moment][:, mask], rtol=1e-9)


@pytest.mark.skipif("bias_correction_nu" not in signature(optax.scale_by_amsgrad).parameters, reason="older optax")
def test_only_averages_that_the_count_corrects_are_handed_over():
    inner = optax.chain(optax.scale_by_amsgrad(bias_correction_nu=False), optax.trace(0.9), optax.scale(-0.1))
    tx = regrama(inner, LAYOUT, tau=0.0, every=60, stop=60)
    params, before = trained(tx, 60 + YOUNG - 1, 60)
    _, after = trained(tx, 60 + YOUNG, 60, before, params, 60 + YOUNG - 1)
    mask = np.asarray(after.masks["a"])
    for name in ("nu", "nu_max"):  # sums of squares, which grow by at most a gradient's
        moments = [getattr(one.inner_state[0], name)["a"]["kernel"][:, mask] for one in (before, after)]
        assert (moments[1] <= moments[0] + 0.001 * 16).all()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("jit", [False, True])
def test_resumed_while_neurons_are_young_equals_uninterrupted(jit):
    tx = regrama(optax.adam(0.1), LAYOUT, tau=0.0, every=3)
    params, state = trained(tx, 5, 3, jit=jit)
    whole = trained(tx, 7, 3, state, params, 5, jit=jit)
    params, state = pickle.loads(pickle.dumps(jax.device_get((params, state))))
    jax.tree.map(np.testing.assert_array_equal, trained(tx, 7, 3, state, params, 5, jit=jit), whole)


@pytest.mark.slow
def test_of_several_runs_each_has_its_clocks():
    tx = regrama(optax.adam(0.1), LAYOUT, tau=0.0, every=3)
    runs = [as_dtype(gradients(3, 7, seed), jnp.float32) for seed in range(2)]
    params = stacked(PARAMS, PARAMS)
    state, update, alone = jax.vmap(tx.init)(params), jax.jit(jax.vmap(tx.update)), [(PARAMS, tx.init(PARAMS))] * 2
    for step in range(7):
        updates, state = update(stacked(*[run[step] for run in runs]), state, params)
        params = optax.apply_updates(params, updates)
        for number, (own, of) in enumerate(alone):
            updates, of = tx.update(runs[number][step], of, own)
            alone[number] = optax.apply_updates(own, updates), of
    assert not np.array_equal(state.young["a"][0], state.young["a"][1])
    for number, (own, of) in enumerate(alone):
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), member(params, number), own)
        np.testing.assert_array_equal(state.young["a"][number], of.young["a"])


@pytest.mark.usefixtures("optimized")
def test_the_runs_clock_is_the_published_rule():
    tx, adam = regrama(optax.adam(0.1), LAYOUT, tau=0.0, every=20, clock="run"), optax.adam(0.1)
    params, state = trained(tx, 20, 20)
    _, plain_state = trained(adam, 20, 20)
    plain_state = clear_moments(adam, plain_state, params, {"a": state.masks["a"]}, LAYOUT)
    mine, theirs = trained(tx, 35, 20, state, params, 20), trained(adam, 35, 20, plain_state, params, 20)
    jax.tree.map(np.testing.assert_array_equal, (mine[0], mine[1].inner_state), theirs)
    assert state.young == {}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_first_steps_in_low_precision_are_not_too_long(dtype):
    params = as_dtype(PARAMS, dtype)
    tx = regrama(optax.adam(0.1, eps=1e-4, mu_dtype=jnp.float32), LAYOUT, tau=0.0, every=15)
    state, steps = tx.init(params), []
    for grads in gradients(15, 16):
        updates, state = tx.update(as_dtype(grads, dtype), state, params)
        params = optax.apply_updates(params, updates)
        steps.append(np.abs(np.asarray(updates["a"]["kernel"][:, np.asarray(state.masks["a"])])))
    assert updates["a"]["kernel"].dtype == jnp.float32
    np.testing.assert_allclose(steps[-1], 0.1, rtol=0.05)


@pytest.mark.slow
def test_an_optimizer_that_needs_the_loss_has_its_own_clock_too():
    inner = optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau())
    tx = regrama(inner, LAYOUT, tau=0.0, every=1)
    grads, state = as_dtype(gradients(1, 1)[0], jnp.float32), tx.init(PARAMS)
    updates, state = tx.update(grads, state, PARAMS, value=1.0)
    assert (np.asarray(state.born) == 1).sum() == 1
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS, value=1.0)
    np.testing.assert_allclose(updates["a"]["bias"][np.asarray(state.masks["a"])], -0.1, rtol=1e-4)


def test_a_state_of_an_older_version_is_refused():
    state = regrama(optax.adam(0.1), LAYOUT).init(PARAMS)
    with pytest.raises(ValueError, match="expected the 16 fields of an ActivityState, got 10; it was saved by"):
        type(state)(*state[:10])
    of_the_run = regrama(optax.adam(0.1), LAYOUT, clock="run").init(PARAMS)
    with pytest.raises(ValueError, match="expected the young of this layout's groups, a, out, got none; it was made"):
        regrama(optax.adam(0.1), LAYOUT).update(PARAMS, of_the_run, PARAMS)
