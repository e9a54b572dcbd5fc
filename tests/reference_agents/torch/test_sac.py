"""The pieces of the soft actor-critic, each against what it should be."""

import math

import pytest
import torch
from torch import distributions as dist
from torch import nn

from tests.reference_agents.cases import ACTION, OBSERVATION, batch
from tests.reference_agents.torch.cases import agent_of, moved, snapshot, tensors

pytestmark = pytest.mark.usefixtures("layouts_found_once")


def test_log_density_is_that_of_a_squashed_gaussian():
    actor = agent_of("sac").actor.double()
    observations = torch.randn(64, OBSERVATION, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, log_std = actor(observations)
    actions, log_prob = actor.sample(observations, torch.Generator().manual_seed(1))
    squashed = dist.TransformedDistribution(dist.Normal(mean, log_std.exp()), [dist.TanhTransform()])
    expected = squashed.log_prob(actions).sum(1, keepdim=True)
    torch.testing.assert_close(log_prob, expected, rtol=1e-6, atol=1e-6)


def test_log_density_is_sound_where_tanh_saturates():
    actor = agent_of("sac").actor
    with torch.no_grad():
        actor.mean.bias.fill_(40.0)
    actions, log_prob = actor.sample(torch.zeros(8, OBSERVATION), torch.Generator().manual_seed(0))
    assert (actions == 1).all()
    assert torch.isfinite(log_prob).all()
    log_prob.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in actor.parameters())


def test_spread_stays_within_its_bounds():
    actor = agent_of("sac").actor
    for bias, bound in ((-1e3, -5.0), (1e3, 2.0)):
        nn.init.constant_(actor.log_std.bias, bias)
        torch.testing.assert_close(actor(torch.zeros(1, OBSERVATION))[1], torch.full((1, ACTION), bound))


def test_critics_learn_the_soft_bellman_target():
    agent, data = agent_of("sac", reset="none", gamma=0.9), batch(0)
    nn.init.constant_(agent.log_alpha, math.log(0.3))
    values, noise = tensors(data), torch.Generator()
    noise.set_state(agent.noise.get_state())
    with torch.no_grad():
        actions, log_prob = agent.actor.sample(values.next_observations, noise)
        critic_inputs = torch.cat([values.next_observations, actions], 1)
        lowest = torch.minimum(*(target(critic_inputs) for target in agent.targets))
        target_q = values.rewards + 0.9 * (1 - values.terminated) * (lowest - 0.3 * log_prob)
        inputs = torch.cat([values.observations, values.actions], 1)
        expected = sum(((critic(inputs) - target_q) ** 2).mean() for critic in agent.critics)
    agent.update(data)
    assert agent.losses()["loss/critic"] == pytest.approx(expected.item(), rel=1e-5)


def test_each_part_moves_when_it_should():
    agent = agent_of("sac", reset="none", policy_delay=3)
    for update in range(1, 7):
        actor, critics, alpha = snapshot(agent.actor), snapshot(agent.critics), agent.log_alpha.clone()
        agent.update(batch(update))
        assert moved(critics, agent.critics.state_dict()) == set(critics)
        assert moved(actor, agent.actor.state_dict()) == (set(actor) if update % 3 == 0 else set())
        assert torch.equal(alpha, agent.log_alpha) == (update % 3 != 0)
    steps = {float(state["step"]) for state in agent.actor_optimizer.state.values()}
    assert steps == {6.0}


def test_targets_follow_at_their_rate():
    agent = agent_of("sac", reset="none", polyak=0.1)
    before = snapshot(agent.targets)
    agent.update(batch(0))
    for name, critic in agent.critics.state_dict().items():
        torch.testing.assert_close(agent.targets.state_dict()[name], 0.9 * before[name] + 0.1 * critic)


@pytest.mark.parametrize("alpha_moves", [-1, 1])
def test_alpha_falls_when_the_entropy_is_above_its_target_and_rises_below_it(alpha_moves):
    agent = agent_of("sac", policy_delay=1, reset="none")
    agent.target_entropy = alpha_moves * 100.0
    before = agent.log_alpha.item()
    agent.update(batch(0))
    assert math.copysign(1, agent.log_alpha.item() - before) == alpha_moves
