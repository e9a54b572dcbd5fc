"""``attach`` in short trainings of skrl."""

import gymnasium
import pytest
import torch
from torch import nn

from neuroactivity_torch import ReDo
from tests.hosts.audit import Audit, check_operations

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
skrl = pytest.importorskip("skrl")
host = pytest.importorskip("neuroactivity_torch.hosts.skrl")
agents, models, memories = [pytest.importorskip(f"skrl.{part}.torch") for part in ("agents", "models", "memories")]
td3 = pytest.importorskip("skrl.agents.torch.td3")
ppo = pytest.importorskip("skrl.agents.torch.ppo")
wrap_env = pytest.importorskip("skrl.envs.wrappers.torch").wrap_env
SequentialTrainer = pytest.importorskip("skrl.trainers.torch").SequentialTrainer


def mlp(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, outputs))


class Actor(models.DeterministicMixin, models.Model):
    def __init__(self, env):
        models.Model.__init__(
            self, observation_space=env.observation_space, action_space=env.action_space, device="cpu"
        )
        models.DeterministicMixin.__init__(self)
        self.net = mlp(3, 1)

    def compute(self, inputs, role):
        return torch.tanh(self.net(inputs["observations"])), {}


class Value(Actor):
    def compute(self, inputs, role):
        return self.net(inputs["observations"]), {}


class Critic(Actor):
    def __init__(self, env):
        super().__init__(env)
        self.net = mlp(4, 1)

    def compute(self, inputs, role):
        return self.net(torch.cat([inputs["observations"], inputs["taken_actions"]], -1)), {}


class Gaussian(models.GaussianMixin, models.Model):
    def __init__(self, env):
        models.Model.__init__(
            self, observation_space=env.observation_space, action_space=env.action_space, device="cpu"
        )
        models.GaussianMixin.__init__(self)
        self.net, self.log_std = mlp(3, 1), nn.Parameter(torch.zeros(1))

    def compute(self, inputs, role):
        return self.net(inputs["observations"]), {"log_std": self.log_std}


def make(kind, folder, **options):
    torch.manual_seed(0)
    env = wrap_env(gymnasium.make("Pendulum-v1"), verbose=False)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    experiment = {"directory": str(folder), "write_interval": 10, "checkpoint_interval": 0}
    if kind == "TD3":
        nets = {"policy": Actor(env), "target_policy": Actor(env)}
        nets |= {name: Critic(env) for name in ("critic_1", "critic_2", "target_critic_1", "target_critic_2")}
        cfg = {"batch_size": 16, "learning_starts": 8, "random_timesteps": 8, "experiment": experiment}
        memory = memories.RandomMemory(memory_size=100, num_envs=1, device="cpu")
        return env, td3.TD3(models=nets, memory=memory, cfg={**cfg, **options}, **spaces)
    nets = {"policy": Gaussian(env), "value": Value(env)}
    cfg = {"rollouts": 16, "mini_batches": 2, "learning_epochs": 2, "experiment": experiment}
    memory = memories.RandomMemory(memory_size=16, num_envs=1, device="cpu")
    return env, ppo.PPO(models=nets, memory=memory, cfg={**cfg, **options}, **spaces)


def train(env, agent, steps=48):
    cfg = {"timesteps": steps, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    SequentialTrainer(cfg=cfg, env=env, agents=agent).train()


def attach(agent, **options):
    """Attach, and check the reports."""
    pairs = host.trained(*host._parts(agent))
    audit = Audit(nn.ModuleDict(agent.models), pairs)
    options = {"every": 4, "tau": 0.4, "max_fraction": 0.5, "on_report": audit, **options}
    attached = host.attach(agent, **options)
    audit.layouts = {name: lambda name=name: attached[name]._reported for name in pairs}
    return audit, attached


@pytest.mark.parametrize("kind", ["TD3", "PPO"])
def test_scores_resets_and_moments(kind, tmp_path):
    env, agent = make(kind, tmp_path)
    audit, attached = attach(agent)
    train(env, agent)
    names = {"policy", "critic_1", "critic_2"} if kind == "TD3" else {"policy", "value"}
    assert attached.keys() == names
    for name, wrapper in attached.items():
        assert wrapper.layout["net.0"].status == "exclusive"
        assert wrapper.neurons_reset == audit.reset[name] > 0
    attached.detach()
    audit.check_detached()


@pytest.mark.parametrize("kind", ["TD3", "PPO"])
def test_redo_runs_the_networks_on_the_memory(kind, tmp_path):
    env, agent = make(kind, tmp_path)
    attached = host.attach(agent, "redo", every=4, tau=0.4)
    train(env, agent)
    assert all(isinstance(wrapper, ReDo) and wrapper.measurements > 0 for wrapper in attached.values())
    assert sum(wrapper.neurons_reset for wrapper in attached.values()) > 0


def test_measuring_writes_nothing(tmp_path):
    env, agent = make("PPO", tmp_path)
    audit, _ = attach(agent, method="measure")
    train(env, agent, 16)
    assert len(audit.reports) == 2
    assert not any(audit.reset.values())


def test_reports_are_tracked(tmp_path):
    env, agent = make("PPO", tmp_path)
    host.attach(agent, "measure", every=1)
    agent.track_data = lambda tag, value: seen.setdefault(tag, value)
    seen = {}
    train(env, agent, 20)
    assert 0 <= seen["neuroactivity/policy/net.0/inactive_fraction"] <= 1


def test_checkpoints_hold_the_state(tmp_path):
    env, agent = make("TD3", tmp_path)
    attached = host.attach(agent, every=4, tau=0.4)
    train(env, agent)
    agent.save(str(tmp_path / "agent.pt"))
    env, other = make("TD3", tmp_path)
    again = host.attach(other, every=4, tau=0.4)
    other.load(str(tmp_path / "agent.pt"))
    counts = {name: (wrapper.steps, wrapper.neurons_reset) for name, wrapper in attached.items()}
    assert {name: (wrapper.steps, wrapper.neurons_reset) for name, wrapper in again.items()} == counts
    train(env, other)
    assert again["critic_1"].steps > attached["critic_1"].steps


def test_one_model_in_two_roles_is_refused_unless_it_is_measured(tmp_path):
    _, agent = make("PPO", tmp_path)
    agent.models["value"] = agent.models["policy"]
    with pytest.raises(ValueError, match=r"^agent: policy and value are one model"):
        host.attach(agent)
    host.attach(agent, "measure")


def test_between_measurements_nothing_is_computed(tmp_path):
    def learn(size, **options):
        env, agent = make("TD3", tmp_path, batch_size=size)
        if options:
            host.attach(agent, "measure", **options)
        train(env, agent, 24)

    check_operations(learn)
