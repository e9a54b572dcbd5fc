"""The pieces of TD3 in TensorFlow, each against what it should be or what PyTorch makes of it."""

import numpy as np
import pytest
import tensorflow as tf

from tests.reference_agents.cases import ACTION, OBSERVATION, batch
from tests.reference_agents.tensorflow.cases import agent_of, copied, moved, tensors, values
from tests.reference_agents.tensorflow.twins import torch_twin


def test_it_learns_what_pytorchs_does_from_equal_weights_and_batches():
    agent = agent_of("td3", reset="none", policy_noise=0.0)
    for variable in (*agent.target_actor.variables, *agent.targets[0].variables, *agent.targets[1].variables):
        variable.assign(1.5 * variable)  # targets unlike the networks that they follow
    twin = torch_twin(agent)
    for update in range(4):
        agent.update(batch(update))
        twin.update(batch(update))
        assert agent.losses()["loss/critic"] == pytest.approx(twin.losses()["loss/critic"], rel=1e-5)
        assert agent.losses()["value"] == pytest.approx(twin.losses()["value"], rel=1e-5, abs=1e-6)
    assert agent.losses()["loss/actor"] == pytest.approx(twin.losses()["loss/actor"], rel=1e-5, abs=1e-6)
    observation = np.ones(OBSERVATION, np.float32)
    best = [one.act(observation, explore=False) for one in (agent, twin)]
    np.testing.assert_allclose(*best, rtol=1e-4)


@pytest.mark.slow
def test_exploration_adds_gaussian_noise_and_stays_within_bounds():
    agent, observation = agent_of("td3", exploration_noise=0.3), np.ones(OBSERVATION, np.float32)
    best = agent.act(observation, explore=False)
    np.testing.assert_allclose(best, tf.tanh(agent.actor(observation[None]))[0], rtol=1e-6)
    noise = np.stack([agent.act(observation, explore=True) for _ in range(300)]) - best
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(noise.std(0), 0.3, atol=0.06)
    agent.actor.get_layer("head").bias.assign([40.0] * ACTION)
    drawn = np.stack([agent.act(observation, explore=True) for _ in range(100)])
    assert drawn.max() == 1
    assert 0 < (drawn < 1).mean() < 1


def test_the_target_policy_is_smoothed_by_clipped_noise():
    agent, observations = agent_of("td3", policy_noise=0.7, noise_clip=0.4), tensors(batch(0)).observations
    noise = 0.7 * copied(agent.noise).normal((32, ACTION)).numpy()
    assert (abs(noise) > 0.4).any()
    expected = np.clip(np.tanh(agent.target_actor(observations)) + np.clip(noise, -0.4, 0.4), -1, 1)
    np.testing.assert_allclose(agent._smoothed_actions(observations), expected, rtol=1e-5, atol=1e-6)
    wild = agent_of("td3", policy_noise=5.0, noise_clip=5.0)._smoothed_actions(observations)
    assert abs(wild.numpy()).max() == 1


def test_each_part_moves_when_it_should():
    agent = agent_of("td3", reset="none", policy_delay=3, polyak=0.1)
    delayed = {"actor": [agent.actor], "target actor": [agent.target_actor], "targets": agent.targets}
    for update in range(1, 7):
        critics, before = values(*agent.critics), {name: values(*part) for name, part in delayed.items()}
        agent.update(batch(update))
        assert moved(critics, values(*agent.critics)) == set(critics)
        for name, part in delayed.items():
            assert moved(before[name], values(*part)) == (set(before[name]) if update % 3 == 0 else set()), name
    assert int(agent.actor_optimizer.iterations) == 2
    for target, source in ((agent.targets, agent.critics), ([agent.target_actor], [agent.actor])):
        for name, value in values(*source).items():
            was = before["targets" if source is agent.critics else "target actor"][name]
            np.testing.assert_allclose(values(*target)[name], 0.9 * was + 0.1 * value, rtol=1e-4, atol=1e-6)
