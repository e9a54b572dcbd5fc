"""``attach`` in short trainings of Tianshou."""

import gymnasium
import numpy as np
import pytest
import torch

from neuroactivity_torch import ReDo
from tests.hosts.audit import Audit, check_operations

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
pytest.importorskip("tianshou")
host = pytest.importorskip("neuroactivity_torch.hosts.tianshou")
algorithms, data = pytest.importorskip("tianshou.algorithm"), pytest.importorskip("tianshou.data")
factory = pytest.importorskip("tianshou.algorithm.optim").AdamOptimizerFactory
envs, trainer = pytest.importorskip("tianshou.env"), pytest.importorskip("tianshou.trainer")
common, continuous, discrete = [
    pytest.importorskip(f"tianshou.utils.net.{name}") for name in ("common", "continuous", "discrete")
]
sac, dqn, reinforce = [
    pytest.importorskip(f"tianshou.algorithm.modelfree.{name}") for name in ("sac", "dqn", "reinforce")
]


def make(kind, hidden=(12,)):
    torch.manual_seed(0)
    np.random.seed(0)
    env = gymnasium.make("Pendulum-v1" if kind == "SAC" else "CartPole-v1")
    state, space = env.observation_space.shape, env.action_space
    if kind == "SAC":
        actor = continuous.ContinuousActorProbabilistic(
            preprocess_net=common.Net(state_shape=state, hidden_sizes=[12]), action_shape=space.shape, unbounded=True
        )
        critics = [
            continuous.ContinuousCritic(
                preprocess_net=common.Net(state_shape=state, action_shape=space.shape, hidden_sizes=[12], concat=True)
            )
            for _ in range(2)
        ]
        policy = sac.SACPolicy(actor=actor, action_space=space)
        return env, algorithms.SAC(
            policy=policy, policy_optim=factory(), critic=critics[0], critic_optim=factory(),
            critic2=critics[1], critic2_optim=factory(),
        )  # fmt: skip
    if kind == "DQN":
        net = common.Net(state_shape=state, action_shape=space.n, hidden_sizes=[12])
        policy = dqn.DiscreteQLearningPolicy(model=net, action_space=space)
        return env, algorithms.DQN(policy=policy, optim=factory(), target_update_freq=10)
    trunks = [common.Net(state_shape=state, hidden_sizes=hidden) for _ in range(2)]
    actor = discrete.DiscreteActor(preprocess_net=trunks[0], action_shape=space.n)
    critic = discrete.DiscreteCritic(preprocess_net=trunks[0 if kind == "shared" else 1])
    policy = reinforce.ProbabilisticActorPolicy(
        actor=actor, dist_fn=torch.distributions.Categorical, action_space=space, action_scaling=False
    )
    return env, algorithms.PPO(policy=policy, critic=critic, optim=factory())


def parameters_of(kind, env, algorithm, buffer, steps=60, batch_size=16):
    """Return what a training goes by."""
    collector = data.Collector(algorithm, envs.DummyVectorEnv([lambda: env]), buffer)
    collector.reset()
    usual = {"training_collector": collector, "max_epochs": 1, "epoch_num_steps": steps, "batch_size": batch_size}
    usual |= {"test_collector": None, "show_progress": False, "verbose": False}
    if kind in ("PPO", "shared"):
        return trainer.OnPolicyTrainerParams(**usual, collection_step_num_env_steps=20, update_step_num_repetitions=2)
    collector.collect(n_step=20, random=True)
    return trainer.OffPolicyTrainerParams(
        **usual, collection_step_num_env_steps=10, update_step_num_gradient_steps_per_sample=0.5
    )


def train(kind, env, algorithm, buffer, **options):
    algorithm.run_training(parameters_of(kind, env, algorithm, buffer, **options))


def attach(env, algorithm, **options):
    parts = {**dict(algorithm.policy.named_children()), **dict(algorithm.named_children())}
    pairs = host.trained(parts, [wrapped._optim for wrapped in algorithm._optimizers])
    pairs.pop("policy")
    audit = Audit(algorithm, pairs)
    options = {"every": 2, "tau": 0.4, "max_fraction": 0.5, "on_report": audit, **options}
    seen = np.stack([env.observation_space.sample() for _ in range(8)])
    attached = host.attach(algorithm, seen, **options)
    audit.layouts = {name: lambda name=name: attached[name]._reported for name in attached}
    return audit, attached


NAMES = {"SAC": {"actor", "critic", "critic2"}, "DQN": {"model"}, "PPO": {"actor", "critic"}}


@pytest.mark.parametrize("kind", NAMES)
def test_scores_resets_and_moments(kind):
    env, algorithm = make(kind)
    audit, attached = attach(env, algorithm)
    train(kind, env, algorithm, data.VectorReplayBuffer(200, 1))
    assert attached.keys() == NAMES[kind]
    for name, wrapper in attached.items():
        assert "exclusive" in {group.status for group in wrapper.layout.values()}
        assert wrapper.neurons_reset == audit.reset[name] > 0
    attached.detach()
    audit.check_detached()


@pytest.mark.parametrize("kind", NAMES)
def test_redo_runs_the_networks_on_the_buffer(kind):
    env, algorithm = make(kind)
    buffer = data.VectorReplayBuffer(200, 1)
    seen = np.stack([env.observation_space.sample() for _ in range(8)])
    with pytest.raises(ValueError, match=r"^method: there is nothing to judge the activations of"):
        host.attach(algorithm, seen, "redo")
    attached = host.attach(algorithm, seen, "redo", buffer=buffer, every=2, tau=0.4)
    train(kind, env, algorithm, buffer)
    assert all(isinstance(wrapper, ReDo) and wrapper.measurements > 1 for wrapper in attached.values())


def test_a_trunk_that_actor_and_critic_share_is_left_alone():
    env, algorithm = make("shared")
    _, attached = attach(env, algorithm)
    train("shared", env, algorithm, data.VectorReplayBuffer(200, 1))
    for wrapper in attached.values():
        assert not wrapper.layout["preprocess.model.model.0"].resettable


def test_measuring_writes_nothing_and_the_logger_gets_every_report():
    seen = {}
    logger = type("Logger", (), {"write": lambda self, kind, step, values: seen.update(values)})()
    env, algorithm = make("DQN")
    audit, attached = attach(env, algorithm, method="measure", logger=logger)
    train("DQN", env, algorithm, data.VectorReplayBuffer(200, 1))
    assert not any(audit.reset.values())
    assert 0 <= seen["neuroactivity/model/inactive_fraction"] <= 1
    again = host.attach(algorithm, np.zeros((4, 4), np.float32), "measure")
    again.load_state_dict(attached.state_dict())
    assert again["model"].measurements == attached["model"].measurements > 0


def test_a_logger_that_cannot_write_is_refused():
    _, algorithm = make("DQN")
    with pytest.raises(ValueError, match=r"^logger: expected one with a method write\(\), got 3$"):
        host.attach(algorithm, np.zeros((4, 4), np.float32), logger=3)


def test_between_measurements_nothing_is_computed():
    def learn(size, **options):
        env, algorithm = make("DQN")
        if options:
            host.attach(algorithm, np.zeros((4, 4), np.float32), "measure", **options)
        train("DQN", env, algorithm, data.VectorReplayBuffer(200, 1), batch_size=size)

    check_operations(learn)


@pytest.mark.parametrize("method", ["regrama", "redo"])
def test_the_inner_layers_of_a_shared_trunk_are_left_alone_too(method):
    env, algorithm = make("shared", hidden=[12, 12])
    buffer = data.VectorReplayBuffer(200, 1)
    attached = host.attach(algorithm, np.zeros((8, 4), np.float32) + 0.1, method, every=2, buffer=buffer)
    train("shared", env, algorithm, buffer)
    for wrapper in attached.values():
        assert wrapper.measurements > 0
        assert not any(group.resettable for name, group in wrapper.layout.items() if name.startswith("preprocess"))
