"""In rejax: one line a network between init_state and train, in whole trainings that are compiled and mapped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import attach_state, detach_state, gradients, parameters, report, reports

pytestmark = pytest.mark.filterwarnings("default")  # what a host warns of is its own affair
rejax = pytest.importorskip("rejax")

RNG, KEY = np.random.default_rng(0), jax.random.key(0)
OPTIONS = {"every": 4, "tau": 0.5}
SIZES = {"total_timesteps": 64, "eval_freq": 64, "skip_initial_evaluation": True}
OFF = {"buffer_size": 64, "fill_buffer": 16, "batch_size": 8, "num_envs": 4, **SIZES}
ON = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "num_epochs": 2, **SIZES}


def make(name):
    """Return an algorithm with small networks that is not evaluated, and how its networks are called."""
    off, env = {"hidden_layer_sizes": (8, 8), **OFF}, "Pendulum-v1" if name in ("SAC", "TD3") else "CartPole-v1"
    on = {"agent_kwargs": {"hidden_layer_sizes": (8, 8)}, **ON}
    algo = getattr(rejax, name).create(env=env, **{"SAC": off, "PPO": on}.get(name, OFF))
    x = RNG.standard_normal((8, *algo.obs_space.shape)).astype(np.float32)
    y = RNG.standard_normal((8, *algo.action_space.shape)).astype(np.float32)
    applies = {
        "SAC": {
            "actor_ts": lambda params: algo.actor.apply(params, x, KEY),
            "critic_ts": lambda params: algo.vmap_critic(params, x, y),
        },
        "TD3": {
            "actor_ts": lambda params: algo.actor.apply(params, x),
            "critic_ts": lambda params: algo.vmap_critic(params, x, y),
        },
        "DQN": {"q_ts": lambda params: algo.agent.apply(params, x)},
        "PPO": {
            "actor_ts": lambda params: algo.actor.apply(params, x, method="_action_dist"),
            "critic_ts": lambda params: algo.critic.apply(params, x),
        },
    }
    return algo.replace(eval_callback=lambda *args: jnp.zeros(())), applies[name]


def attach(ts, applies, **options):
    changes = {name: attach_state(getattr(ts, name), apply, **options) for name, apply in applies.items()}
    return ts.replace(**changes)


@pytest.mark.parametrize("name", ["SAC", "TD3", "DQN", "PPO"])
def test_a_whole_training_measures_and_resets_every_network(name):
    algo, applies = make(name)
    ts = attach(algo.init_state(KEY), applies, **OPTIONS)
    ts, _ = jax.jit(lambda ts: algo.train(train_state=ts))(ts)
    for network in applies:
        state = getattr(ts, network)
        assert state.opt_state.measurements == state.opt_state.steps // 4 > 0
        assert state.opt_state.neurons_reset > 0
        assert {group.status for group in state.tx.layout.values()} == {"exclusive", "head"}
        assert np.isfinite(np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state.params)])).all()
        adam = optax.tree_utils.tree_get(detach_state(state).opt_state, "count")
        assert adam == state.opt_state.steps == state.step


def recording(state, seen):
    """Let a state's optimizer keep the gradients of each step."""

    def update(grads, opt_state, params=None):
        jax.debug.callback(seen.append, grads)
        return state.tx.update(grads, opt_state, params)

    return state.replace(tx=optax.GradientTransformation(state.tx.init, update))


def test_scores_are_those_of_the_steps_own_gradients_and_its_neurons_alone_are_reset():
    seen = []
    algo, applies = make("SAC")
    ts = algo.init_state(KEY)
    ts = ts.replace(critic_ts=recording(ts.critic_ts, seen))
    steps = 12  # the training's number of updates
    ts = attach(ts, {"critic_ts": applies["critic_ts"]}, every=steps, tau=0.5)
    ts, _ = jax.jit(lambda ts: algo.train(train_state=ts))(ts)
    jax.effects_barrier()
    assert len(seen) == ts.critic_ts.opt_state.steps == steps
    layout = ts.critic_ts.tx.layout
    scores = na.grama(gradients(jax.tree.map(np.asarray, seen[-1])), layout)
    masks = na.reset_masks(scores, tau=0.5)
    params, moments = parameters(ts.critic_ts.params), parameters(ts.critic_ts.opt_state.inner_state[1][0].mu)
    for name, group in layout.items():
        np.testing.assert_allclose(ts.critic_ts.opt_state.scores[name], scores[name], rtol=1e-4)
        for view in group.outgoing:  # stack neuron out
            np.testing.assert_array_equal((params[view.param] == 0).all(axis=-1), masks[name])
            assert masks[name].any()
            assert not np.asarray(moments[view.param])[masks[name]].any()
    assert isinstance(ts.actor_ts.opt_state, tuple)
    assert report(ts.critic_ts, layout).total.reset > 0


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_many_seeds_and_learning_rates(where):
    algo, applies = make("DQN")
    keys = jax.random.split(KEY, 2)
    if where == "inside":

        def train(rate, key):
            run = algo.replace(learning_rate=rate)
            ts = attach(run.init_state(key), applies, seed=key, **OPTIONS)
            return run.train(train_state=ts)[0].q_ts

        states = jax.jit(jax.vmap(train))(jnp.array([1e-3, 1e-2]), keys)
    else:
        ts = attach(jax.vmap(algo.init_state)(keys), applies, runs=2, **OPTIONS)
        states = jax.jit(jax.vmap(lambda ts: algo.train(train_state=ts)[0].q_ts))(ts)
    assert all(one.total.reset > 0 for one in reports(states, states.tx.layout))
    first, second = parameters(states.params)["params/Dense_0/kernel"]
    assert not (first == second).any()
