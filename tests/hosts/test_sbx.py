"""In SBX: a wrapper in the train state of a policy; stacked critics and residual networks are found and go on learning."""

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
SIZE = {"policy_kwargs": {"net_arch": [8]}, "seed": 0, "learning_starts": 4, "batch_size": 8}


def attach(state, layout, seen, **options):
    """Wrap the optimizer of a train state; ``seen`` gets the gradients of each step."""
    tx = regrama(state.tx, layout, **options)

    def update(grads, opt_state, params=None, **extra):
        jax.debug.callback(seen.append, grads)
        return tx.update(grads, opt_state, params, **extra)

    recording = optax.GradientTransformationExtraArgs(tx.init, update)
    return state.replace(tx=recording, opt_state=recording.init(state.params))


def statuses(layout):
    return {name.rpartition("Critic_0/")[2].removeprefix("params/"): group.status for name, group in layout.items()}


def check_last_step(state, layout, seen):
    """The scores are those of the last step's gradients, the masked rows of each member are reset, and no others."""
    scores, params = na.grama(parameters(seen[-1]), layout), parameters(state.params)
    masks = na.reset_masks(scores, tau=state.opt_state.tau)
    assert any(mask.any() for name, mask in masks.items() if layout[name].outgoing)
    for name, group in layout.items():
        np.testing.assert_allclose(state.opt_state.scores[name], scores[name], rtol=1e-5)
        for view in group.outgoing:  # stack neuron out
            np.testing.assert_array_equal((params[view.param] == 0).all(axis=-1), masks[name])


def test_sac_with_simba_policy():
    agent = sbx.SAC("SimbaPolicy", gymnasium.make("Pendulum-v1"), learning_rate=lambda left: 1e-3 * left, **SIZE)
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
    agent.policy.qf_state = attach(critics, layout, seen, every=2, tau=0.4)
    agent.learn(8)
    state = agent.policy.qf_state
    assert len(seen) == state.opt_state.steps == 4
    check_last_step(state, layout, seen)
    assert report(state.opt_state, layout).groups[0].neurons == 16
    assert float(state.opt_state.hyperparams["learning_rate"]) < 1e-3  # the host's schedule goes on
    moved = jax.tree.map(lambda old, new: bool((old != new).any() and np.isfinite(new).all()), start, state.params)
    assert all(jax.tree.leaves(moved))
