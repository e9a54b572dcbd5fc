"""Train states of Flax and of hosts like it: what attaching keeps, what it resets, what a host's own resets leave."""

import pickle
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import neuroactivity as na
from neuroactivity_jax import (
    attach_state,
    detach_state,
    gradients,
    layout_of,
    parameters,
    regrama,
    report,
    reports,
    summary,
)
from tests.adapters.jax.hosts import LAYOUT, Network

X = np.random.default_rng(0).standard_normal((32, 5)).astype(np.float32)


NETWORK = Network(12)


def apply(params):
    return NETWORK.apply({"params": params}, X)


def loss(params):
    return jnp.square(apply(params) - X[:, :1] * X[:, 1:2]).mean()


def start(seed=0):
    return NETWORK.init(jax.random.key(seed), X)["params"]


def make(seed=0, tx=None):
    return TrainState.create(apply_fn=NETWORK.apply, params=start(seed), tx=tx or optax.adam(1e-2))


def train(state, steps):
    for _ in range(steps):
        state = STEP(state)
    return state


STEP = jax.jit(lambda state: state.apply_gradients(grads=jax.grad(loss)(state.params)))


@dataclass(frozen=True)
class Model:
    """The state of a host of its own, as in jaxrl."""

    params: Any
    tx: Any
    opt_state: Any

    def replace(self, **changes):
        return replace(self, **changes)

    def apply_gradient(self):
        updates, opt_state = self.tx.update(jax.grad(loss)(self.params), self.opt_state, self.params)
        return self.replace(params=optax.apply_updates(self.params, updates), opt_state=opt_state)


def test_the_layout_is_found_by_apply():
    state = attach_state(make(), apply, 2, 0)
    assert {name: group.status for name, group in state.tx.layout.items()} == {
        "Dense_0": "exclusive",
        "Dense_1": "head",
    }


@pytest.mark.slow
def test_scores_are_those_of_the_steps_own_gradients_and_its_neurons_alone_are_reset():
    state = attach_state(make(), layout=LAYOUT, every=3, tau=0.5)
    twin = train(make(), 2)
    scores = na.grama(gradients(jax.grad(loss)(twin.params)), LAYOUT)
    mask = np.asarray(scores["hidden"]) <= 0.5
    assert 0 < mask.sum() < 12
    state, twin = train(state, 3), train(twin, 1)
    np.testing.assert_allclose(state.opt_state.scores["hidden"], scores["hidden"], rtol=1e-4)
    new, old = parameters(state.params), parameters(twin.params)
    np.testing.assert_array_equal(np.asarray(new["Dense_1/kernel"] == 0)[:, 0], mask)
    np.testing.assert_allclose(new["Dense_0/kernel"][:, ~mask], old["Dense_0/kernel"][:, ~mask], rtol=1e-5)
    moments = state.opt_state.inner_state[0].mu["Dense_0"]["kernel"]
    assert not moments[:, mask].any()
    expected = twin.opt_state[0].mu["Dense_0"]["kernel"][:, ~mask]
    np.testing.assert_allclose(moments[:, ~mask], expected, rtol=1e-4, atol=1e-8)


def test_moments_and_steps_go_on_and_detaching_leaves_nothing():
    plain = train(make(), 5)
    state = attach_state(train(make(), 2), every=2, method="measure")
    assert state.opt_state.inner_state[0].count == 2
    state = train(state, 3)
    assert (state.opt_state.steps, state.opt_state.measurements, state.opt_state.neurons_reset) == (3, 1, 0)
    detached = detach_state(state)
    assert jax.tree.structure(detached.opt_state) == jax.tree.structure(plain.opt_state)
    for one, other in zip(*map(jax.tree.leaves, (detached, plain)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-8)
    with pytest.raises(ValueError, match="nothing is attached to it"):
        detach_state(detached)


def test_a_host_that_starts_its_optimizer_anew_starts_the_wrapper_anew():
    state = train(attach_state(make(), layout=LAYOUT, every=1, tau=0.5), 2)
    again = state.replace(params=start(1), opt_state=state.tx.init(start(1)))
    assert (again.opt_state.steps, again.opt_state.neurons_reset) == (0, 0)
    assert train(again, 1).opt_state.measurements == 1


def test_a_host_that_makes_a_state_anew_has_dropped_the_wrapper_and_the_report_says_so():
    state = attach_state(make(), layout=LAYOUT)
    again = TrainState.create(apply_fn=None, params=state.params, tx=optax.adam(1e-2))
    with pytest.raises(ValueError, match="found 0; a host that makes its optimizer anew drops the wrapper: attach"):
        report(again, LAYOUT)


def test_a_second_attachment_is_refused():
    state = attach_state(make(), layout=LAYOUT)
    with pytest.raises(ValueError, match="something is attached to it already; call detach_state first"):
        attach_state(state, method="measure")


def test_what_is_wrong_is_said_before_training():
    with pytest.raises(ValueError, match="method: expected 'regrama', 'redo' or 'measure', got 'gramma'"):
        attach_state(make(), layout=LAYOUT, method="gramma")
    with pytest.raises(na.LayoutError, match="listed and not searched"):
        attach_state(make())
    with pytest.raises(ValueError, match="'redo' judges activations; give apply= or activations="):
        attach_state(make(), layout=LAYOUT, method="redo")
    with pytest.raises(ValueError, match="opt_state: expected the state of the state's own tx"):
        attach_state(make().replace(opt_state=()), layout=LAYOUT)
    with pytest.raises(
        ValueError, match=r"runs: expected arrays whose first axis counts 3 runs, got one of shape \(1,\)"
    ):
        attach_state(make(), layout=LAYOUT, runs=3)


def test_redo_judges_what_apply_returns():
    state = train(attach_state(make(), apply, 2, layout=LAYOUT, method="redo", tau=0.5), 2)
    hidden = nn.relu(X @ train(make(), 1).params["Dense_0"]["kernel"] + train(make(), 1).params["Dense_0"]["bias"])
    expected = na.tau_dormant({"hidden": hidden}, LAYOUT)["hidden"]
    np.testing.assert_allclose(state.opt_state.scores["hidden"], expected, rtol=1e-4)
    assert state.opt_state.neurons_reset == (expected <= 0.5).sum() > 0


@pytest.mark.slow
def test_many_seeds_draw_their_own_values():
    runs = jax.vmap(make)(jnp.zeros(3, jnp.int32))  # three runs that are equal
    states = attach_state(runs, layout=LAYOUT, every=2, tau=0.5, runs=3)
    step = jax.jit(jax.vmap(STEP))
    states = step(step(states))
    found = reports(states, LAYOUT)
    assert [one["hidden"].scores for one in found] == [found[0]["hidden"].scores] * 3
    assert found[0]["hidden"].reset > 1
    assert jax.vmap(summary)(states)["neuroactivity/measurements"].tolist() == [1, 1, 1]
    first, *others = states.params["Dense_0"]["kernel"]
    mask = states.opt_state.masks["hidden"][0]
    for other in others:
        assert (first[:, mask] != other[:, mask]).any()
        np.testing.assert_array_equal(first[:, ~mask], other[:, ~mask])


def test_states_that_are_made_inside_of_compiled_runs():
    @jax.jit
    @jax.vmap
    def run(key):
        state = attach_state(make(), apply, 2, key, layout=LAYOUT, tau=0.5)
        return jax.lax.scan(lambda state, _: (STEP(state), None), state, length=4)[0].opt_state

    states = run(jax.random.split(jax.random.key(0), 2))
    assert states.measurements.tolist() == [2, 2]
    assert (states.key[0] != states.key[1]).any()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("tx", [optax.adam(1e-2), optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1e-2))])
def test_a_host_with_a_state_of_its_own(tx):
    state = attach_state(Model(start(), tx, tx.init(start())), layout=LAYOUT, every=2, tau=0.5)
    state = state.apply_gradient().apply_gradient()
    assert report(state.opt_state, state.tx.layout)["hidden"].reset > 0
    assert isinstance(detach_state(state).opt_state, tuple)


def test_a_state_is_saved_and_loaded():
    state = train(attach_state(make(), layout=LAYOUT, every=2, tau=0.5), 2)
    arrays = pickle.loads(pickle.dumps(jax.device_get((state.params, state.opt_state))))
    fresh = attach_state(make(), layout=LAYOUT, every=2, tau=0.5)
    loaded = fresh.replace(params=arrays[0], opt_state=arrays[1], step=state.step)
    for one, other in zip(*map(jax.tree.leaves, (train(state, 2), train(loaded, 2))), strict=True):
        np.testing.assert_array_equal(one, other)


class NNXNetwork(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.out = nnx.Linear(5, 12, rngs=rngs), nnx.Linear(12, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


def test_the_lines_for_an_nnx_optimizer():
    model = NNXNetwork(nnx.Rngs(0))
    graph, params = nnx.split(model, nnx.Param)
    layout = layout_of(params, lambda params: nnx.merge(graph, params)(X))
    optimizer = nnx.Optimizer(model, regrama(optax.adam(1e-2), layout, tau=0.5, every=2), wrt=nnx.Param)
    step = nnx.jit(lambda model, optimizer: optimizer.update(model, nnx.grad(lambda m: (m(X) ** 2).mean())(model)))
    for _ in range(2):
        step(model, optimizer)
    assert layout["hidden"].status == "exclusive"
    assert report(optimizer, layout)["hidden"].reset > 0


def test_the_lines_for_an_equinox_module():
    model = eqx.nn.MLP(5, 1, 12, 1, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    layout = layout_of(params, lambda params: jax.vmap(eqx.combine(params, static))(X))
    tx = regrama(optax.adam(1e-2), layout, tau=0.5, every=2)

    @eqx.filter_jit
    def step(model, state):
        grads = eqx.filter_grad(lambda model: (jax.vmap(model)(X) ** 2).mean())(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state

    model, state = step(*step(model, tx.init(params)))
    assert layout["layers/0"].status == "exclusive"
    assert report(state, layout)["layers/0"].reset > 0
