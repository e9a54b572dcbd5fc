"""The pieces of TD3, each against what it should be."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.reference_agents.cases import ACTION, OBSERVATION, batch
from tests.reference_agents.torch.cases import agent_of, moved, snapshot, tensors

pytestmark = pytest.mark.usefixtures("layouts_found_once")


def test_exploration_adds_gaussian_noise_and_stays_within_bounds():
    agent, observation = agent_of("td3", exploration_noise=0.3), np.ones(OBSERVATION, np.float32)
    best = agent.act(observation, explore=False)
    np.testing.assert_allclose(best, torch.tanh(agent.actor(torch.from_numpy(observation))).detach(), rtol=1e-6)
    noise = np.stack([agent.act(observation, explore=True) for _ in range(2_000)]) - best
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(noise.std(0), 0.3, atol=0.03)
    nn.init.constant_(agent.actor.head.bias, 40.0)
    drawn = np.stack([agent.act(observation, explore=True) for _ in range(100)])
    assert drawn.max() == 1
    assert 0 < (drawn < 1).mean() < 1


def test_critics_learn_the_value_of_the_smoothed_target_policy():
    agent, data = agent_of("td3", reset="none", gamma=0.9, policy_noise=0.7, noise_clip=0.4), batch(0)
    for module in (agent.target_actor, agent.targets):
        for parameter in module.parameters():  # targets unlike the networks that they follow
            parameter.mul_(1.5)
    values, noise = tensors(data), torch.Generator()
    noise.set_state(agent.noise.get_state())
    with torch.no_grad():
        smoothing = (0.7 * torch.randn(32, ACTION, generator=noise)).clamp(-0.4, 0.4)
        assert (smoothing.abs() == 0.4).any()
        actions = (agent.target_actor(values.next_observations).tanh() + smoothing).clamp(-1, 1)
        critic_inputs = torch.cat([values.next_observations, actions], 1)
        target_q = values.rewards + 0.9 * (1 - values.terminated) * torch.minimum(
            *(t(critic_inputs) for t in agent.targets)
        )
        inputs = torch.cat([values.observations, values.actions], 1)
        expected = sum(((critic(inputs) - target_q) ** 2).mean() for critic in agent.critics)
        value = agent.critics[0](inputs).mean()
    agent.update(data)
    assert agent.losses()["loss/critic"] == pytest.approx(expected.item(), rel=1e-5)
    assert agent.losses()["value"] == pytest.approx(value.item(), rel=1e-5)


def test_smoothed_actions_stay_within_bounds():
    agent = agent_of("td3", policy_noise=5.0, noise_clip=5.0)
    actions = agent._smoothed_actions(torch.randn(200, OBSERVATION, generator=torch.Generator().manual_seed(0)))
    assert actions.abs().max() == 1


def test_the_actor_climbs_the_first_critic():
    agent, data = agent_of("td3", reset="none", policy_delay=1), batch(0)
    observations = tensors(data).observations
    value = lambda critic: critic(torch.cat([observations, agent.actor(observations).tanh()], 1)).mean().item()  # noqa: E731
    agent._update_critics(tensors(data))
    first, second = (value(critic) for critic in agent.critics)
    agent._update_actor(tensors(data))
    assert agent.losses()["loss/actor"] == pytest.approx(-first, rel=1e-5)
    assert first != pytest.approx(second)
    assert value(agent.critics[0]) > first


def test_each_part_moves_when_it_should():
    agent = agent_of("td3", reset="none", policy_delay=3)
    delayed = {"actor": agent.actor, "target actor": agent.target_actor, "targets": agent.targets}
    for update in range(1, 7):
        critics, before = snapshot(agent.critics), {name: snapshot(part) for name, part in delayed.items()}
        agent.update(batch(update))
        assert moved(critics, agent.critics.state_dict()) == set(critics)
        for name, part in delayed.items():
            assert moved(before[name], part.state_dict()) == (set(before[name]) if update % 3 == 0 else set()), name
    steps = {float(state["step"]) for state in agent.actor_optimizer.state.values()}
    assert steps == {2.0}


def test_targets_follow_at_their_rate():
    agent = agent_of("td3", reset="none", polyak=0.1, policy_delay=1)
    for target, source in ((agent.targets, agent.critics), (agent.target_actor, agent.actor)):
        before = snapshot(target)
        agent.update(batch(0))
        for name, value in source.state_dict().items():
            torch.testing.assert_close(target.state_dict()[name], 0.9 * before[name] + 0.1 * value)
