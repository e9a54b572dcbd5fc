"""The JAX agents against those of PyTorch, given the same weights and batches, and the pieces on their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from reference_agents.config import Config
from reference_agents.jax import networks
from reference_agents.jax.sac import Actor
from reference_agents.torch import networks as torch_networks
from tests.reference_agents.cases import ACTION, OBSERVATION, batch
from tests.reference_agents.jax import cases as jax_cases
from tests.reference_agents.jax.cases import agent_of, from_torch, moved, parts
from tests.reference_agents.torch import cases as agent_cases


@pytest.fixture(autouse=True)
def compiled_once():
    with jax_cases.compiled_once():
        yield


def generator(seed):
    return torch.Generator().manual_seed(seed)


def with_weights_of(agent, other):
    """Give a JAX agent the weights of one of PyTorch."""
    state = agent.state
    named = dict(zip(("critic1", "critic2"), zip(other.critics, other.targets, strict=True), strict=True))
    agent.state = state._replace(
        actor=state.actor._replace(params=from_torch(other.actor)),
        critics={name: state.critics[name]._replace(params=from_torch(critic)) for name, (critic, _) in named.items()},
        targets={name: from_torch(target) for name, (_, target) in named.items()},
    )
    if hasattr(other, "target_actor"):
        agent.state = agent.state._replace(target_actor=from_torch(other.target_actor))


@pytest.mark.parametrize("activation", torch_networks.ACTIVATIONS)
@pytest.mark.parametrize("kind", ["mlp", "bronet"])
def test_networks_compute_what_pytorchs_compute(kind, activation):
    config = Config(network=kind, activation=activation, width=8)
    theirs = torch_networks.network(config, 4, 2, 2, generator(0))
    drawn = generator(1)
    for parameter in theirs.parameters():  # also scales and shifts, which start as one and zero
        torch.nn.init.normal_(parameter, generator=drawn)
    ours, inputs = networks.network(config, 4, 2, 2), torch.randn(16, 4, generator=generator(2))
    shapes = jax.tree.map(jnp.shape, ours.init(jax.random.key(0)))
    assert shapes == jax.tree.map(jnp.shape, from_torch(theirs))
    np.testing.assert_allclose(ours(from_torch(theirs), inputs.numpy()), theirs(inputs).detach(), rtol=1e-4, atol=1e-4)


def test_layers_start_as_pytorch_starts_them():
    ours, theirs = networks.linear(jax.random.key(0), 64, 500), torch.nn.Linear(64, 500)
    for mine, other in ((ours["kernel"], theirs.weight.T), (ours["bias"], theirs.bias)):
        assert mine.shape == other.shape
        assert 0.99 * 64**-0.5 < abs(mine).max() <= 64**-0.5
        assert mine.std() == pytest.approx(other.std().item(), rel=0.1)
        assert abs(mine.mean()) < 0.01


@pytest.mark.parametrize("depth", [1, 2, 11])
def test_networks_have_the_depth_asked_for_in_order(depth):
    mlp = networks.network(Config(width=8), 4, 2, depth).init(jax.random.key(0))
    assert list(mlp) == [*(f"layer{number}" for number in range(1, depth + 1)), "head"]
    bronet = networks.network(Config(network="bronet", width=8), 4, 2, depth).init(jax.random.key(0))
    assert len(bronet) == 2 + 4 * depth + 1
    for params in (mlp, bronet):
        biases = [tuple(layer["bias"].tolist()) for layer in params.values() if "kernel" in layer]
        assert len(set(biases)) == len(biases)  # all drawn apart


def check_same_steps(ours, theirs, *, each_time):
    """Learn from six batches, and compare what moves, the losses of each and the parameters at the end."""
    with_weights_of(ours, theirs)
    for update in range(1, 7):
        before = parts(ours)
        theirs.update(batch(update))
        ours.update(batch(update))
        changed = {name.split("/")[0] for name in moved(before, parts(ours))}
        assert changed == ({name.split("/")[0] for name in before} if update % 2 == 0 else each_time)
        for name, expected in theirs.losses().items():
            assert ours.losses()[name] == (expected if expected is None else pytest.approx(expected, rel=1e-5)), name
    learned = parts(ours)
    with_weights_of(ours, theirs)
    for name, expected in parts(ours).items():
        np.testing.assert_allclose(learned[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_td3_takes_the_steps_that_pytorchs_takes(layouts_found_once):
    settings = {"policy_noise": 0.0, "reset": "none", "policy_delay": 2, "width": 8, "polyak": 0.1}
    ours, theirs = agent_of("td3", **settings), agent_cases.agent_of("td3", **settings)
    check_same_steps(ours, theirs, each_time={"critic1", "critic2"})
    assert int(ours.state.actor.optimizer.steps) == 3


@pytest.mark.slow
def test_sac_takes_the_steps_that_pytorchs_takes(layouts_found_once, monkeypatch):
    settings = {"reset": "none", "policy_delay": 2, "width": 8, "polyak": 0.1}
    ours, theirs = agent_of("sac", **settings), agent_cases.agent_of("sac", **settings)
    monkeypatch.setattr(jax.random, "normal", lambda key, shape: jnp.full(shape, 0.5))
    monkeypatch.setattr(torch, "randn", lambda shape, generator=None: torch.full(shape, 0.5))
    check_same_steps(ours, theirs, each_time={"critic1", "critic2", "target of critic1", "target of critic2"})
    assert int(ours.state.actor.optimizer.steps) == 6


@pytest.mark.slow
def test_log_density_and_its_gradient_are_sound_where_tanh_saturates():
    actor = Actor(networks.Trunk(Config(width=8), OBSERVATION, 2), ACTION)
    params = actor.init(jax.random.key(0))
    params["mean"]["bias"] = jnp.full(ACTION, 40.0)
    density = lambda params: actor.sample(params, jnp.zeros((8, OBSERVATION)), jax.random.key(1))[1].sum()  # noqa: E731
    value, gradients = jax.value_and_grad(density)(params)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_exploration_adds_gaussian_noise_and_stays_within_bounds():
    agent, observation = agent_of("td3", exploration_noise=0.3), np.ones(OBSERVATION, np.float32)
    best = agent.act(observation, explore=False)
    noise = np.stack([agent.act(observation, explore=True) for _ in range(1_000)]) - best
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.04)
    np.testing.assert_allclose(noise.std(0), 0.3, atol=0.03)
    agent.state.actor.params["head"]["bias"] += 40.0
    drawn = np.stack([agent.act(observation, explore=True) for _ in range(100)])
    assert drawn.max() == 1
    assert 0 < (drawn < 1).mean() < 1


@pytest.mark.slow
def test_smoothed_actions_stay_within_bounds_and_noise_is_clipped():
    agent = agent_of("td3", policy_noise=5.0, noise_clip=0.25)
    observations = jax.random.normal(jax.random.key(0), (200, OBSERVATION))
    best = jnp.tanh(agent.actor(agent.state.target_actor, observations))
    actions = agent._smoothed_actions(agent.state.target_actor, observations, jax.random.key(1))
    assert abs(actions).max() <= 1
    assert abs(actions - best).max() == pytest.approx(0.25, abs=1e-6)
