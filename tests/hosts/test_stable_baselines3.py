"""In Stable-Baselines3: the policy stays what it is, by identity and by value, and goes on learning."""

import gymnasium
import numpy as np
import pytest
import torch

from neuroactivity_torch import ReGraMa, layout_of

pytestmark = pytest.mark.filterwarnings("default")  # what a host warns of is its own affair
sb3 = pytest.importorskip("stable_baselines3")


class Images(gymnasium.Env):
    """Random images, and a reward that is the first action."""

    observation_space = gymnasium.spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action == 0), False, bool(self.np_random.random() < 0.1), {}


class Extractor(sb3.common.torch_layers.BaseFeaturesExtractor):
    """One layer, shared by the critic and the actor."""

    def __init__(self, space):
        super().__init__(space, 12)
        self.layer = torch.nn.Linear(3, 12)

    def forward(self, observation):
        return torch.relu(self.layer(observation))


def test_ppo_with_images_keeps_its_policy_and_goes_on_learning():
    agent = sb3.PPO("CnnPolicy", Images(), n_steps=32, batch_size=16, n_epochs=1, seed=0)
    policy = agent.policy
    before = {name: (parameter, parameter.detach().clone()) for name, parameter in policy.named_parameters()}
    example = torch.randint(0, 256, (4, 1, 36, 36), dtype=torch.uint8)
    layout = layout_of(policy, example)
    after = dict(policy.named_parameters())
    assert all(after[name] is parameter for name, (parameter, _) in before.items())
    assert all(torch.equal(parameter, value) for parameter, value in before.values())
    statuses = {group.status for name, group in layout.items() if "features_extractor" in name}
    assert statuses == {"exclusive"}
    regrama = ReGraMa(policy, policy.optimizer, layout=layout, initializer="snapshot", every=2, tau=0.1)
    agent.learn(64)
    assert regrama.measurements == regrama.steps // 2 > 0
    assert all(not torch.equal(parameter, value) for _, (parameter, value) in before.items())


def test_a_trunk_that_two_networks_of_sac_share_is_left_alone_if_that_is_said():
    kwargs = {"share_features_extractor": True, "net_arch": [16], "features_extractor_class": Extractor}
    agent = sb3.SAC("MlpPolicy", gymnasium.make("Pendulum-v1"), seed=0, policy_kwargs=kwargs)
    actor, critic, observations = agent.actor, agent.critic, torch.zeros(8, 3)
    trunk = "features_extractor.layer"
    assert layout_of(actor, observations)[trunk].status == "exclusive"
    layout = layout_of(actor, observations, readers=[lambda observation: critic(observation, torch.zeros(8, 1))])
    read = layout[trunk]  # by a critic that does not train it
    assert (read.status, read.reason) == ("unproved", "reaches the output on a path without gradient")
    assert layout["latent_pi.0"].status == "exclusive"
