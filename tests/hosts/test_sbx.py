"""In SBX: a wrapper in the train state of a policy; stacked residual critics are found, reset, and go on learning."""

import gymnasium
import jax
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import layout_of, parameters, regrama, report

pytestmark = pytest.mark.filterwarnings("default")  # what a host warns of is its own affair
sbx = pytest.importorskip("sbx")

OBSERVATIONS, ACTIONS = np.random.default_rng(0).standard_normal((2, 8, 3), np.float32)
ACTIONS = ACTIONS[:, :1]
PENDULUM = gymnasium.make("Pendulum-v1")
SIZE = {"policy_kwargs": {"net_arch": [8]}, "seed": 0}


def attach(state, layout, seen, **options):
    """Wrap the optimizer of a train state; ``seen`` gets the gradients of each step."""
    tx = regrama(state.tx, layout, **options)

    def update(grads, opt_state, params=None, **extra):
        jax.debug.callback(seen.append, grads)
        return tx.update(grads, opt_state, params, **extra)

    recording = optax.GradientTransformationExtraArgs(tx.init, update)
    return state.replace(tx=recording, opt_state=recording.init(state.params))


def statuses(layout):
    """By group, without the path that all groups of the network share."""
    return {name.removeprefix("params/").rpartition("Critic_0/")[2]: group.status for name, group in layout.items()}


def check_last_step(state, layout, seen, *, tau):
    """The scores are those of the last step's gradients, the masked rows of each member are reset, and no others."""
    grads, params = (parameters(jax.tree.map(np.asarray, tree)) for tree in (seen[-1], state.params))
    scores = na.grama(grads, layout)
    masks = na.reset_masks(scores, tau=tau)
    assert any(mask.any() for name, mask in masks.items() if layout[name].outgoing)
    for name, group in layout.items():
        np.testing.assert_allclose(state.opt_state.scores[name], scores[name], rtol=1e-5)
        for view in group.outgoing:  # stack neuron out
            np.testing.assert_array_equal((params[view.param] == 0).all(axis=-1), masks[name])


def test_sac_with_simba_policy():
    agent = sbx.SAC("SimbaPolicy", PENDULUM, **SIZE)
    critics, actor, start = agent.policy.qf_state, agent.policy.actor_state, agent.policy.qf_state.params
    layout = layout_of(start, lambda params: critics.apply_fn(params, OBSERVATIONS, ACTIONS))
    block = "SimbaResidualBlock_0"
    inner = {f"{block}/LayerNorm_0": "exclusive", f"{block}/Dense_0": "exclusive", "LayerNorm_0": "exclusive"}
    stream = {"Dense_0": "shared", f"{block}/Dense_1": "shared"}
    assert statuses(layout) == {**inner, **stream, "Dense_1": "head"}
    assert all(group.stacks == 1 for group in layout.values())
    found = statuses(layout_of(actor.params, lambda params: actor.apply_fn(params, OBSERVATIONS)))
    assert found == {**inner, **stream, "Dense_1": "head", "Dense_2": "head"}

    seen = []
    state = attach(critics, layout, seen, every=2, tau=0.4)
    state.opt_state.hyperparams["learning_rate"] = 1e-3  # as the host does before each update
    zeros, discounts = np.zeros(8, np.float32), np.full(8, 0.99, np.float32)
    update = (OBSERVATIONS, ACTIONS, -OBSERVATIONS, zeros, zeros, discounts, jax.random.key(0))
    for _ in range(4):
        state = agent.update_critic(actor, state, agent.ent_coef_state, *update)[0]
    assert len(seen) == state.opt_state.steps == 4
    check_last_step(state, layout, seen, tau=0.4)
    assert report(state.opt_state, layout).groups[0].neurons == 16
    for old, new in zip(*map(jax.tree.leaves, jax.device_get((start, state.params))), strict=True):
        assert (old != new).any()
        assert np.isfinite(new).all()


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
def test_crossq_with_batch_renormalisation(train):
    critics = sbx.CrossQ("MlpPolicy", PENDULUM, **SIZE).policy.qf_state

    def apply(params):
        variables = {"params": params, "batch_stats": critics.batch_stats}
        return critics.apply_fn(variables, OBSERVATIONS, ACTIONS, train=train, mutable=["batch_stats"])[0]

    found = statuses(layout_of(critics.params, apply))
    inner = ("BatchRenorm_0", "BatchRenorm_1", "Dense_0")
    assert found == {**dict.fromkeys(inner, "exclusive"), "Dense_1": "head"}


def test_ppo_which_looks_for_hyperparameters_in_the_second_part_of_a_chain():
    agent = sbx.PPO("MlpPolicy", PENDULUM, n_steps=8, batch_size=8, n_epochs=2, **SIZE)
    actor = agent.policy.actor_state
    layout = layout_of(actor.params, lambda params: actor.apply_fn(params, OBSERVATIONS))
    assert statuses(layout) == {"Dense_0": "exclusive", "Dense_1": "head"}
    tx = optax.chain(optax.identity(), regrama(actor.tx, layout, every=2, tau=0.4))
    agent.policy.actor_state = actor.replace(tx=tx, opt_state=tx.init(actor.params))
    agent.learn(16)
    state = agent.policy.actor_state.opt_state[1]
    assert (int(state.steps), int(state.measurements)) == (4, 2)
    assert state.neurons_reset > 0
