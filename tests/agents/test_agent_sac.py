"""The pieces of the soft actor-critic, each against what it should be."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import distributions as dist
from torch import nn

from reference_agents.agent import Batch
from reference_agents.config import Config
from reference_agents.torch.networks import ACTIVATIONS, linear, mlp
from reference_agents.torch.sac import LOSSES, SAC

OBSERVATION, ACTION = 5, 2


def config(**settings):
    return Config(**{"width": 16, "batch_size": 32, "threads": 1, "tau": 0.2, "reset_every": 50} | settings)


def agent_of(**settings):
    return SAC(config(**settings), OBSERVATION, ACTION)


def batch(seed, *, size=32):
    rng = np.random.default_rng(seed)
    return Batch(
        observations=rng.normal(size=(size, OBSERVATION)).astype(np.float32),
        actions=rng.uniform(-1, 1, (size, ACTION)).astype(np.float32),
        rewards=rng.normal(size=(size, 1)).astype(np.float32),
        next_observations=rng.normal(size=(size, OBSERVATION)).astype(np.float32),
        terminated=(rng.random((size, 1)) < 0.2).astype(np.float32),
    )


def tensors(values):
    return Batch(*map(torch.from_numpy, values))


def snapshot(module):
    return copy.deepcopy(module.state_dict())


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_log_density_is_that_of_a_squashed_gaussian():
    actor = agent_of().actor.double()
    observations = torch.randn(64, OBSERVATION, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, log_std = actor(observations)
    actions, log_density = actor.sample(observations, torch.Generator().manual_seed(1))
    squashed = dist.TransformedDistribution(dist.Normal(mean, log_std.exp()), [dist.TanhTransform()])
    expected = squashed.log_prob(actions).sum(1, keepdim=True)
    torch.testing.assert_close(log_density, expected, rtol=1e-6, atol=1e-6)


def test_log_density_is_sound_where_tanh_saturates():
    actor = agent_of().actor
    with torch.no_grad():
        actor.mean.bias.fill_(40.0)
    actions, log_density = actor.sample(torch.zeros(8, OBSERVATION), torch.Generator().manual_seed(0))
    assert (actions == 1).all()
    assert torch.isfinite(log_density).all()
    log_density.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in actor.parameters())


def test_spread_stays_within_its_bounds():
    actor = agent_of().actor
    for bias, bound in ((-1e3, -5.0), (1e3, 2.0)):
        nn.init.constant_(actor.log_std.bias, bias)
        torch.testing.assert_close(actor(torch.zeros(1, OBSERVATION))[1], torch.full((1, ACTION), bound))


def test_actions_are_bounded_and_drawn_from_the_agents_own_generator():
    agent, twin, observation = agent_of(), agent_of(), np.ones(OBSERVATION, np.float32)
    torch.manual_seed(0)
    untouched = torch.get_rng_state()
    drawn = [agent.act(observation, explore=True) for _ in range(5)]
    assert torch.equal(torch.get_rng_state(), untouched)
    np.testing.assert_array_equal(drawn, [twin.act(observation, explore=True) for _ in range(5)])
    assert len({action.tobytes() for action in drawn}) == 5
    best = [agent.act(observation, explore=False) for _ in range(2)]
    np.testing.assert_array_equal(*best)
    for action in drawn + best:
        assert action.shape == (ACTION,)
        assert action.dtype == np.float32
        assert (abs(action) <= 1).all()


def test_critics_learn_the_soft_bellman_target():
    agent, data = agent_of(reset="none", gamma=0.9), batch(0)
    nn.init.constant_(agent.log_alpha, math.log(0.3))
    values, noise = tensors(data), torch.Generator()
    noise.set_state(agent.noise.get_state())
    with torch.no_grad():
        actions, log_density = agent.actor.sample(values.next_observations, noise)
        pairs = torch.cat([values.next_observations, actions], 1)
        lowest = torch.minimum(*(target(pairs) for target in agent.targets))
        goal = values.rewards + 0.9 * (1 - values.terminated) * (lowest - 0.3 * log_density)
        inputs = torch.cat([values.observations, values.actions], 1)
        expected = sum(((critic(inputs) - goal) ** 2).mean() for critic in agent.critics)
    agent.update(data)
    assert agent.losses()["loss/critic"] == pytest.approx(expected.item(), rel=1e-5)


def test_each_part_moves_when_it_should():
    agent = agent_of(reset="none", policy_every=3)
    for update in range(1, 7):
        actor, critics, alpha = snapshot(agent.actor), snapshot(agent.critics), agent.log_alpha.clone()
        agent.update(batch(update))
        assert moved(critics, agent.critics.state_dict()) == set(critics)
        assert moved(actor, agent.actor.state_dict()) == (set(actor) if update % 3 == 0 else set())
        assert torch.equal(alpha, agent.log_alpha) == (update % 3 != 0)
    steps = {float(state["step"]) for state in agent.actor_optimizer.state.values()}
    assert steps == {6.0}


def test_targets_follow_at_their_rate():
    agent = agent_of(reset="none", target_rate=0.1)
    before = snapshot(agent.targets)
    agent.update(batch(0))
    for name, critic in agent.critics.state_dict().items():
        torch.testing.assert_close(agent.targets.state_dict()[name], 0.9 * before[name] + 0.1 * critic)


def test_the_actors_update_leaves_the_critics_gradients_alone():
    agent = agent_of(policy_every=1)
    agent._update_critics(tensors(batch(0)))
    gradients = [parameter.grad.clone() for parameter in agent.critics.parameters()]
    assert any(gradient.any() for gradient in gradients)
    agent._update_actor(tensors(batch(0)))
    for before, parameter in zip(gradients, agent.critics.parameters(), strict=True):
        assert torch.equal(before, parameter.grad)


@pytest.mark.parametrize("alpha_moves", [-1, 1])
def test_alpha_falls_when_the_entropy_is_above_its_target_and_rises_below_it(alpha_moves):
    agent = agent_of(policy_every=1, reset="none")
    agent.target_entropy = alpha_moves * 100.0
    before = agent.log_alpha.item()
    agent.update(batch(0))
    assert math.copysign(1, agent.log_alpha.item() - before) == alpha_moves


def test_losses_are_unknown_before_the_first_update():
    agent = agent_of()
    assert agent.losses() == dict.fromkeys(LOSSES) | {"alpha": 1.0}
    agent.update(batch(0))
    agent.update(batch(1))
    assert all(math.isfinite(value) for value in agent.losses().values())


@pytest.mark.parametrize("reset", ["none", "redo", "regrama"])
def test_a_saved_agent_goes_on_as_it_would_have(reset):
    agent, twin = agent_of(reset=reset), agent_of(reset=reset, seed=0)
    for update in range(70):
        agent.update(batch(update))
    twin.load(agent.save())
    assert twin.losses() == agent.losses()
    assert twin.activity.fractions == agent.activity.fractions
    for update in range(70, 160):
        agent.update(batch(update))
        twin.update(batch(update))
    assert twin.losses() == agent.losses()
    assert twin.activity.counts() == agent.activity.counts()
    assert any(count.resets for count in agent.activity.counts().values()) == (reset != "none")
    for name, value in agent.actor.state_dict().items():
        assert torch.equal(value, twin.actor.state_dict()[name]), name


def test_activity_is_measured_by_grama_whatever_resets():
    agents = {reset: agent_of(reset=reset, reset_every=20) for reset in ("none", "redo", "regrama")}
    for agent in agents.values():
        assert set(agent.activity.fractions.values()) == {None}
        for update in range(20):
            agent.update(batch(update))
    inactive = {reset: set(agent.activity.fractions) for reset, agent in agents.items()}
    networks = {"actor": ("trunk.layer1", "trunk.layer2", "mean", "log_std")}
    networks |= {f"critic{k}": ("layer1", "layer2", "head") for k in (1, 2)}
    expected = {f"inactive/{network}/{group}" for network, groups in networks.items() for group in groups}
    assert inactive["none"] == inactive["regrama"] == expected
    assert inactive["redo"] == expected | {name.replace("inactive", "dormant") for name in expected}
    for agent in agents.values():
        assert all(0 <= fraction <= 1 for fraction in agent.activity.fractions.values())
        assert {count.measurements for count in agent.activity.counts().values()} == {1}
        assert set(agent.activity.reports()) == set(networks)
    assert all(count.neurons_reset == 0 for count in agents["none"].activity.counts().values())
    assert any(count.neurons_reset > 0 for count in agents["regrama"].activity.counts().values())


def test_at_most_a_fraction_of_a_layer_is_reset():
    agent = agent_of(tau=1.0, max_fraction=0.125, reset_every=20)
    for update in range(20):
        agent.update(batch(update))
    for count in agent.activity.counts().values():
        assert count.neurons_reset == 2 * 2  # two hidden layers, an eighth of 16 neurons each


def test_heads_are_never_reset():
    agent = agent_of(tau=1e9, reset_every=10, actor_lr=0.0, critic_lr=0.0)
    before = {name: value for name, value in snapshot(agent.actor).items() if name.endswith("bias")}
    for update in range(10):
        agent.update(batch(update))
    after = agent.actor.state_dict()
    assert moved(before, after) == {"trunk.layer1.bias", "trunk.layer2.bias"}


def test_layers_start_as_pytorch_starts_them():
    torch.manual_seed(0)
    ours, theirs = linear(64, 500, torch.Generator().manual_seed(1)), nn.Linear(64, 500)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.shape == other.shape
        assert mine.abs().max() <= 64**-0.5
        torch.testing.assert_close(mine.std(), other.std(), rtol=0.1, atol=0)


@pytest.mark.parametrize("reset", ["redo", "regrama"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_can_be_measured_and_reset(activation, reset):
    agent = agent_of(activation=activation, reset=reset, tau=1.0, reset_every=5)
    for update in range(6):
        agent.update(batch(update))
    assert all(count.neurons_reset > 0 for count in agent.activity.counts().values())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_have_the_depth_width_and_activation_asked_for(activation):
    network = mlp(Config(activation=activation, width=8, depth=3), 4, 2, torch.Generator().manual_seed(0))
    shapes = [tuple(layer.weight.shape) for layer in network if isinstance(layer, nn.Linear)]
    assert shapes == [(8, 4), (8, 8), (8, 8), (2, 8)]
    assert sum(isinstance(layer, ACTIVATIONS[activation]) for layer in network) == 3
