"""The pieces of the soft actor-critic in TensorFlow, each against what it should be or what PyTorch makes of it."""

import math

import numpy as np
import pytest
import tensorflow as tf
import torch
from torch import distributions as dist

from tests.reference_agents.cases import ACTION, OBSERVATION, batch
from tests.reference_agents.tensorflow.cases import agent_of, copied, moved, tensors, values
from tests.reference_agents.tensorflow.twins import torch_twin


def test_actions_and_their_log_density_are_those_of_a_squashed_gaussian():
    agent, observations = agent_of("sac"), batch(0).observations
    noise = copied(agent.noise).normal((32, ACTION)).numpy()
    with torch.no_grad():
        mean, log_std = (value.double() for value in torch_twin(agent).actor(torch.from_numpy(observations)))
    squashed = dist.TransformedDistribution(dist.Normal(mean, log_std.exp()), [dist.TanhTransform(cache_size=1)])
    expected = torch.tanh(mean + log_std.exp() * torch.from_numpy(noise))
    actions, log_prob = agent.actor.sample(tf.constant(observations), agent.noise)
    np.testing.assert_allclose(actions, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(log_prob, squashed.log_prob(expected).sum(1, keepdim=True), rtol=1e-3, atol=1e-4)


def test_log_density_is_sound_where_tanh_saturates():
    agent = agent_of("sac")
    agent.actor.mean.bias.assign([40.0] * ACTION)
    with tf.GradientTape() as tape:
        actions, log_prob = agent.actor.sample(tf.zeros((8, OBSERVATION)), agent.noise)
    assert (actions.numpy() == 1).all()
    assert np.isfinite(log_prob).all()
    assert all(np.isfinite(slope).all() for slope in tape.gradient(log_prob, agent.actor.trainable_variables))


def test_spread_stays_within_its_bounds():
    actor = agent_of("sac").actor
    for bias, bound in ((-1e3, -5.0), (1e3, 2.0)):
        actor.log_std.bias.assign([bias] * ACTION)
        np.testing.assert_allclose(actor(tf.zeros((1, OBSERVATION)))[1], np.full((1, ACTION), bound), rtol=1e-6)


def test_critics_learn_the_soft_bellman_target_and_the_actor_climbs_the_lower_critic():
    agent, data = agent_of("sac", reset="none", gamma=0.9, policy_delay=1, critic_lr=0.0), batch(0)
    agent.log_alpha.assign(math.log(0.3))
    for variable in (*agent.targets[0].variables, *agent.targets[1].variables):
        variable.assign(1.5 * variable)  # targets unlike the networks that they follow
    given, noise = tensors(data), copied(agent.noise)
    actions, log_prob = agent.actor.sample(given.next_observations, noise)
    following = tf.concat([given.next_observations, actions], 1)
    lowest = np.minimum(*(target(following) for target in agent.targets))
    target_q = data.rewards + 0.9 * (1 - data.terminated) * (lowest - 0.3 * log_prob)
    inputs = np.concatenate([data.observations, data.actions], 1)
    expected = sum(np.mean((critic(inputs) - target_q) ** 2) for critic in agent.critics)
    actions, log_prob = agent.actor.sample(given.observations, noise)
    chosen = tf.concat([given.observations, actions], 1)
    climbed = np.mean(0.3 * log_prob - np.minimum(*(critic(chosen) for critic in agent.critics)))
    agent.update(data)
    assert agent.losses()["loss/critic"] == pytest.approx(expected, rel=1e-5)
    assert agent.losses()["loss/actor"] == pytest.approx(climbed, rel=1e-5)
    assert agent.losses()["entropy"] == pytest.approx(-np.mean(log_prob), rel=1e-5)


def test_each_part_moves_when_it_should():
    agent = agent_of("sac", reset="none", policy_delay=3, polyak=0.1)
    for update in range(1, 7):
        actor, critics, targets = values(agent.actor), values(*agent.critics), values(*agent.targets)
        alpha = float(agent.log_alpha)
        agent.update(batch(update))
        assert moved(critics, values(*agent.critics)) == set(critics)
        assert moved(actor, values(agent.actor)) == (set(actor) if update % 3 == 0 else set())
        assert (alpha == float(agent.log_alpha)) == (update % 3 != 0)
        for name, value in values(*agent.critics).items():
            expected = 0.9 * targets[name] + 0.1 * value
            np.testing.assert_allclose(values(*agent.targets)[name], expected, rtol=1e-4, atol=1e-6)
    assert int(agent.actor_optimizer.iterations) == 6


@pytest.mark.parametrize("alpha_moves", [-1, 1])
def test_alpha_falls_when_the_entropy_is_above_its_target_and_rises_below_it(alpha_moves):
    agent = agent_of("sac", policy_delay=1, reset="none")
    agent.target_entropy = alpha_moves * 100.0
    before = float(agent.log_alpha)
    agent.update(batch(0))
    assert math.copysign(1, float(agent.log_alpha) - before) == alpha_moves
