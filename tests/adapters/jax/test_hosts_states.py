"""States as jaxrl, BRO, SimBa and PureJaxRL have them, written anew: where each is attached to, and what it keeps."""

import functools
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.dynamic_scale import DynamicScale
from flax.training.train_state import TrainState

import neuroactivity as na
from neuroactivity_jax import attach_state, detach_state, gradients, parameters, report, reports
from tests.adapters.jax.hosts import LAYOUT, Network

X = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
OPTIONS: dict[str, Any] = {"every": 2, "tau": 0.5}


NETWORK = Network(8)


def loss(params):
    return jnp.square(NETWORK.apply({"params": params}, X) - X[:, :1]).mean()


@flax.struct.dataclass
class Model:
    """A module and its optimizer in one, with a step of its own."""

    step: int
    module: nn.Module = flax.struct.field(pytree_node=False)
    params: Any
    tx: Any = flax.struct.field(pytree_node=False)
    opt_state: Any
    scale: DynamicScale | None = None

    @classmethod
    def create(cls, key, tx, *, scale=None, freeze=False):
        params = NETWORK.init(key, X[:1])["params"]
        params = flax.core.freeze(params) if freeze else params
        return cls(0, NETWORK, params, tx, tx.init(params), scale)

    def apply_gradient(self, factor=1.0):
        scale, finite = None, True
        if self.scale is None:
            grads = jax.grad(lambda params: factor * loss(params))(self.params)
        else:
            scale, finite, _, grads = self.scale.value_and_grad(lambda params: factor * loss(params))(self.params)
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)
        choose = functools.partial(jnp.where, finite)
        return self.replace(
            step=self.step + 1,
            params=jax.tree.map(choose, optax.apply_updates(self.params, updates), self.params),
            opt_state=jax.tree.map(choose, opt_state, self.opt_state),
            scale=scale,
        )


STEP = jax.jit(Model.apply_gradient)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("freeze", [False, True])
def test_a_models_own_step_scores_its_own_gradients_and_resets_its_own_neurons(freeze):
    start = Model.create(jax.random.key(0), optax.adam(1e-2), freeze=freeze)
    twin = STEP(start)
    scores = na.grama(gradients(jax.grad(loss)(twin.params)), LAYOUT)["hidden"]
    model = STEP(STEP(attach_state(start, layout=LAYOUT, **OPTIONS)))
    np.testing.assert_allclose(model.opt_state.scores["hidden"], scores, rtol=1e-4)
    dead = np.asarray(scores <= 0.5)
    np.testing.assert_array_equal(parameters(model.params)["Dense_1/kernel"][:, 0] == 0, dead)
    assert 0 < dead.sum() == report(model, LAYOUT)["hidden"].reset
    detached = STEP(detach_state(model))
    assert isinstance(detached.params, flax.core.FrozenDict) == freeze
    assert jax.tree.structure(detached.opt_state) == jax.tree.structure(start.opt_state)


@pytest.mark.slow
def test_a_step_that_a_loss_scale_takes_back_is_not_counted_and_resets_nothing():
    model = Model.create(jax.random.key(0), optax.adamw(1e-2), scale=DynamicScale(scale=2.0**10))
    model = STEP(attach_state(model, layout=LAYOUT, **OPTIONS))
    before = jax.device_get((model.params, model.opt_state._replace(key=())))
    model = STEP(model, jnp.inf)  # a measurement would be due at this step
    after = jax.device_get((model.params, model.opt_state._replace(key=())))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert (model.opt_state.steps, model.opt_state.measurements) == (1, 0)
    model = STEP(model)
    assert (model.opt_state.steps, model.opt_state.measurements) == (2, 1)
    assert report(model, LAYOUT)["hidden"].reset > 0


class Ensemble:
    """Many seeds at once, which are made anew in the middle of the training."""

    def __init__(self, attach):
        def start(seed):
            key = jax.random.key(seed)
            model = Model.create(key, optax.adamw(1e-2))
            return attach_state(model, layout=LAYOUT, seed=key, **OPTIONS) if attach else model

        self.start, self.update = jax.jit(jax.vmap(start)), jax.jit(jax.vmap(Model.apply_gradient))
        self.reset()

    def reset(self):
        self.models = self.start(jnp.arange(3))

    def train(self, steps):
        for _ in range(steps):
            self.models = self.update(self.models)


def test_attaching_where_an_ensemble_is_made_attaches_again_at_its_own_resets():
    ensemble = Ensemble(attach=True)
    ensemble.train(3)
    compiled = ensemble.update._cache_size()
    ensemble.reset()
    assert ensemble.models.opt_state.steps.tolist() == [0, 0, 0]
    ensemble.train(3)
    assert ensemble.update._cache_size() == compiled  # it is the same optimizer
    assert ensemble.models.opt_state.steps.tolist() == [3, 3, 3]
    assert [one["hidden"].reset > 0 for one in reports(ensemble.models, LAYOUT)] == [True] * 3
    drawn = parameters(ensemble.models.params)["Dense_0/kernel"]
    assert not (drawn[0] == drawn[1]).any()


@pytest.mark.slow
def test_an_ensemble_attached_to_from_outside_has_dropped_the_wrapper_at_its_own_reset_and_the_report_says_so():
    ensemble = Ensemble(attach=False)
    ensemble.models = attach_state(ensemble.models, layout=LAYOUT, runs=3, **OPTIONS)
    ensemble.train(2)
    assert ensemble.models.opt_state.measurements.tolist() == [1, 1, 1]
    ensemble.reset()
    ensemble.train(2)
    with pytest.raises(ValueError, match="found 0; a host that makes its optimizer anew drops the wrapper: attach it"):
        reports(ensemble.models, LAYOUT)
    ensemble.models = attach_state(ensemble.models, layout=LAYOUT, runs=3, **OPTIONS)
    ensemble.train(2)
    assert ensemble.models.opt_state.measurements.tolist() == [1, 1, 1]


@pytest.mark.slow
def test_a_whole_training_in_one_compiled_function_finds_its_layout_where_the_state_is_made():
    rates = optax.linear_schedule(1e-2, 0.0, 8)

    @jax.jit
    @jax.vmap
    def train(key):
        start, draws = jax.random.split(key)
        tx = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rates, eps=1e-5))
        state = TrainState.create(apply_fn=NETWORK.apply, params=NETWORK.init(start, X[:1]), tx=tx)
        state = attach_state(state, lambda params: NETWORK.apply(params, X), seed=draws, **OPTIONS)

        def step(state, _):
            grads = jax.grad(lambda params: loss(params["params"]))(state.params)
            return state.apply_gradients(grads=grads), None

        return jax.lax.scan(step, state, length=4)[0]

    states = train(jax.random.split(jax.random.key(0), 2))
    layout = states.tx.layout
    assert {name: group.status for name, group in layout.items()} == {
        "params/Dense_0": "exclusive",
        "params/Dense_1": "head",
    }
    assert states.opt_state.measurements.tolist() == [2, 2]
    assert all(one["params/Dense_0"].reset > 0 for one in reports(states, layout))
    assert states.opt_state.inner_state[1][0].count.tolist() == [4, 4]
