"""``ActivityCallback`` in short trainings of Stable-Baselines3 and its contrib package."""

import copy
import io
import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from neuroactivity_torch import ReDo, parameters
from tests.hosts.audit import Audit, check_operations

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
sb3 = pytest.importorskip("stable_baselines3")
contrib = pytest.importorskip("sb3_contrib")
host = pytest.importorskip("neuroactivity_torch.hosts.stable_baselines3")
logger = pytest.importorskip("stable_baselines3.common.logger")
RMSpropTFLike = sb3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike

OFF = {"learning_starts": 8, "batch_size": 16, "policy_kwargs": {"net_arch": [12]}, "seed": 0, "device": "cpu"}
STEPWISE = {**OFF, "train_freq": 1}
ON = {"n_steps": 16, "batch_size": 8, "policy_kwargs": {"net_arch": [12]}, "seed": 0, "device": "cpu"}
RECURRENT = {**ON, "policy_kwargs": {"net_arch": [12], "lstm_hidden_size": 6}}
A2C = {"n_steps": 4, "policy_kwargs": {"net_arch": [12]}, "seed": 0, "device": "cpu"}
ALGORITHMS = {
    "SAC": (sb3.SAC, "Pendulum-v1", OFF, {"actor", "critic"}),
    "TD3": (sb3.TD3, "Pendulum-v1", OFF, {"actor", "critic"}),
    "DDPG": (sb3.DDPG, "Pendulum-v1", OFF, {"actor", "critic"}),
    "TQC": (contrib.TQC, "Pendulum-v1", OFF, {"actor", "critic"}),
    "CrossQ": (contrib.CrossQ, "Pendulum-v1", OFF, {"actor", "critic"}),
    "DQN": (sb3.DQN, "CartPole-v1", STEPWISE, {"q_net"}),
    "QRDQN": (contrib.QRDQN, "CartPole-v1", STEPWISE, {"quantile_net"}),
    "PPO": (sb3.PPO, "Pendulum-v1", ON, {"policy"}),
    "A2C": (sb3.A2C, "CartPole-v1", A2C, {"policy"}),
    "RecurrentPPO": (contrib.RecurrentPPO, "CartPole-v1", RECURRENT, {"policy"}),
}


class Observed(gymnasium.Env):
    """Random observations of any space, and a reward that is the first action."""

    def __init__(self, space, actions=None):
        self.observation_space = space
        self.action_space = spaces.Discrete(3) if actions is None else actions

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return (
            self.observation_space.sample(),
            float(np.ravel(action)[0]),
            False,
            bool(self.np_random.random() < 0.1),
            {},
        )


IMAGES = spaces.Box(0, 255, (36, 36, 1), np.uint8)
BOTH = spaces.Dict({"image": IMAGES, "vector": spaces.Box(-1, 1, (3,))})


def make(name, policy=None, env=None, **kwargs):
    algorithm, default, given, _ = ALGORITHMS[name]
    usual = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    return algorithm(policy or usual, env or default, **copy.deepcopy({**given, **kwargs}))


def audited(model, **options):
    """Make a callback whose reports are checked."""
    networks = {name: (each.model, each.optimizer) for name, each in host.networks(model).items()}
    ones = any(type(optimizer) is RMSpropTFLike for _, optimizer in networks.values())
    audit = Audit(model.policy, networks, starts={"square_avg": 1.0} if ones else {})
    callback = host.ActivityCallback(**{"every": 4, "tau": 0.4, "max_fraction": 0.5, "on_report": audit, **options})
    audit.layouts = {name: lambda name=name: callback.wrappers[name]._reported for name in networks}
    return audit, callback


@pytest.mark.parametrize("name", ALGORITHMS)
def test_scores_resets_and_moments(name):
    model = make(name)
    audit, callback = audited(model)
    model.learn(40, callback=callback)
    assert audit.networks.keys() == ALGORITHMS[name][-1]
    for network, wrapper in callback.wrappers.items():
        assert wrapper.measurements == wrapper.steps // 4 > 0
        assert wrapper.neurons_reset == audit.reset[network] > 0
    audit.check_detached()


@pytest.mark.parametrize(
    ("kwargs", "read_by"),
    [({}, []), ({"enable_critic_lstm": False, "shared_lstm": True}, ["mlp_extractor.value_net.0.weight"])],
    ids=["apart", "shared"],
)
def test_recurrent_neurons_are_known_by_all_that_reads_them(kwargs, read_by):
    model = make("RecurrentPPO", policy_kwargs={"net_arch": [12], "lstm_hidden_size": 6, **kwargs})
    group = host.networks(model)["policy"].layout(False)["lstm_actor"]
    assert group.status == "exclusive"
    assert [view.param for view in group.outgoing] == [
        "lstm_actor.weight_hh_l0",
        "mlp_extractor.policy_net.0.weight",
        *read_by,
    ]
    assert "forward" not in vars(model.policy)


def test_the_rmsprop_of_stable_baselines_starts_with_ones():
    model = make("A2C", policy_kwargs={"net_arch": [12], "optimizer_class": RMSpropTFLike})
    audit, callback = audited(model)
    model.learn(40, callback=callback)
    assert audit.reset["policy"] > 0


@pytest.mark.parametrize("name", ["SAC", "DQN", "PPO", "RecurrentPPO"])
def test_redo_runs_the_networks_on_what_the_buffer_holds(name):
    model = make(name)
    seen = []
    callback = host.ActivityCallback("redo", every=4, tau=0.4, on_report=lambda network, report: seen.append(report))
    model.learn(40, callback=callback)
    assert all(isinstance(wrapper, ReDo) and wrapper.measurements > 1 for wrapper in callback.wrappers.values())
    generator = np.random.get_state()[1].copy()
    samples = host.stored(model)
    assert np.array_equal(np.random.get_state()[1], generator)
    held = (getattr(model, "replay_buffer", None) or model.rollout_buffer).observations[:40]
    held = held.reshape(-1, samples["obs"].shape[-1])
    assert all((held == row.numpy()).all(-1).any() for row in samples["obs"])


def test_measuring_changes_nothing():
    plain = make("TD3").learn(30)
    callback = host.ActivityCallback("measure", every=3)
    measured = make("TD3").learn(30, callback=callback)
    assert callback.wrappers["critic"].measurements > 1
    for old, new in zip(plain.policy.parameters(), measured.policy.parameters(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("policy", ["CnnPolicy", "MultiInputPolicy"])
@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_images(name, policy):
    actions = spaces.Box(-1, 1, (2,)) if name == "SAC" else None
    env = Observed(IMAGES if policy == "CnnPolicy" else BOTH, actions)
    model = make(name, policy, env, **({} if name == "PPO" else {"buffer_size": 100}))
    audit, callback = audited(model)
    model.learn(32 if name == "PPO" else 20, callback=callback)
    assert all(count > 0 for count in audit.reset.values())
    wrapper = callback.wrappers["policy" if name == "PPO" else next(iter(audit.networks))]
    convolutions = [group for name, group in wrapper.layout.items() if "cnn." in name or "extractors.image" in name]
    assert {group.status for group in convolutions} == {"exclusive"}


@pytest.mark.parametrize("name", ["SAC", "TD3"])
def test_an_extractor_that_two_networks_share_is_left_alone(name):
    shared = {"share_features_extractor": True, "features_extractor_class": Extractor, "net_arch": [12]}
    model = make(name, policy_kwargs=shared)
    _, callback = audited(model)
    model.learn(30, callback=callback)
    assert callback.wrappers["actor"].layout["features_extractor.layer"].status == "unproved"
    assert not callback.wrappers["critic"].layout["features_extractor.layer"].resettable
    assert callback.wrappers["critic"].neurons_reset > 0


class Extractor(sb3.common.torch_layers.BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 9)
        self.layer = torch.nn.Linear(3, 9)

    def forward(self, observation):
        return torch.relu(self.layer(observation))


@pytest.mark.parametrize("share", [True, False], ids=["shared", "apart"])
def test_fresh_values_are_those_of_a_policy_made_anew(share):
    kwargs = {"net_arch": [12], "share_features_extractor": share, "features_extractor_class": Extractor}
    model = make("PPO", policy_kwargs=kwargs)
    fresh = host.networks(model)["policy"].initializer(0)
    assert fresh.keys() == parameters(model.policy).keys()
    first = fresh["mlp_extractor.policy_net.0.weight"]
    torch.testing.assert_close(first.T @ first, 2 * torch.eye(9))  # orthogonal, of gain sqrt 2
    assert not fresh["mlp_extractor.policy_net.0.bias"].any()


def test_the_logger_gets_totals_on_the_screen_and_groups_in_files(tmp_path, capsys):
    model = make("PPO", "CnnPolicy", Observed(IMAGES))
    model.set_logger(logger.configure(str(tmp_path), ["stdout", "csv", "json"]))
    model.learn(48, callback=host.ActivityCallback(every=2))
    model.logger.close()
    shown = capsys.readouterr().out
    assert "policy/inactive_fraction" in shown
    assert "cnn" not in shown
    last = json.loads((tmp_path / "progress.json").read_text().splitlines()[-1])
    assert 0 <= last["neuroactivity/policy/features_extractor.cnn.0/inactive_fraction"] <= 1
    assert last["neuroactivity/policy/reset"] >= 0
    assert "neuroactivity/policy/inactive_fraction" in (tmp_path / "progress.csv").read_text().splitlines()[0]


@pytest.fixture
def searches(monkeypatch):
    """Count the searches for layouts."""
    from neuroactivity_torch.hosts import attachments

    found, search = [], attachments.layout_of
    monkeypatch.setattr(attachments, "layout_of", lambda *args, **kw: found.append(args) or search(*args, **kw))
    return found


def test_a_second_learn_goes_on_from_the_first_without_a_search(searches):
    model = make("SAC")
    first = host.ActivityCallback(every=4)
    model.learn(30, callback=first)
    steps, searched = first.wrappers["critic"].steps, len(searches)
    for callback in (first, host.ActivityCallback(every=4)):
        audit, _ = audited(model)
        model.learn(20, callback=callback, reset_num_timesteps=False)
        assert callback.wrappers["critic"].steps > steps
        steps = callback.wrappers["critic"].steps
        audit.check_detached()
    assert len(searches) == searched == 2
    model.learn(10, callback=None)
    assert callback.wrappers["critic"].steps == steps


def test_save_and_load_keep_the_state(searches):
    model = make("DQN")
    callback = host.ActivityCallback(every=4, tau=0.4, protect=2)
    model.learn(30, callback=callback)
    file = io.BytesIO()
    model.save(file)
    loaded = sb3.DQN.load(file, env=model.get_env())
    again = host.ActivityCallback(every=4, tau=0.4, protect=2)
    loaded.learn(20, callback=again, reset_num_timesteps=False)
    old, new = callback.wrappers["q_net"], again.wrappers["q_net"]
    assert new.steps > old.steps
    assert new.neurons_reset >= old.neurons_reset > 0
    assert new.layout == old.layout
    assert len(searches) == 1
    kept, since = [wrapper._memory.since.parts() for wrapper in (old, new)]
    assert new.resets > old.resets or all(torch.equal(value, since[name]) for name, value in kept.items())


def test_a_learn_that_was_broken_off_is_not_attached_to_twice():
    model, done = make("DQN"), []

    def stop(network, report):
        done.append(report)
        raise KeyboardInterrupt

    broken = host.ActivityCallback(every=4, on_report=stop)
    with pytest.raises(KeyboardInterrupt):
        model.learn(40, callback=broken)
    callback = host.ActivityCallback(every=4)
    model.learn(40, callback=callback)
    assert len(done) == 1
    assert callback.wrappers["q_net"].measurements > 1
    assert not model.policy.optimizer._optimizer_step_post_hooks


def test_two_callbacks_in_one_learn_are_refused():
    model = make("DQN")
    two = [host.ActivityCallback("measure", every=4), host.ActivityCallback(every=4)]
    with pytest.raises(ValueError, match=r"^callback: two ActivityCallbacks in one learn"):
        model.learn(20, callback=two)
    model.learn(20, callback=two[1])
    assert two[1].wrappers["q_net"].measurements > 0


def test_some_networks_only():
    model = make("SAC")
    callback = host.ActivityCallback("measure", networks=["critic"], every=4)
    model.learn(20, callback=callback)
    assert list(callback.wrappers) == ["critic"]
    with pytest.raises(ValueError, match=r"^networks: expected some of actor, critic, got critics$"):
        model.learn(20, callback=host.ActivityCallback(networks=["critics"]))
    assert not model.critic.optimizer._optimizer_step_post_hooks


def test_wrong_options_are_named_before_training():
    with pytest.raises(ValueError, match=r"^method: expected 'regrama', 'redo' or 'measure'"):
        host.ActivityCallback("grama")
    with pytest.raises(ValueError, match=r"^every: "):
        host.ActivityCallback(every=0)
    with pytest.raises(TypeError, match="evry"):
        host.ActivityCallback(evry=10)


def test_an_algorithm_without_an_optimizer():
    model = contrib.ARS("LinearPolicy", "Pendulum-v1", n_delta=1)
    with pytest.raises(ValueError, match="ARS trains no network by an optimizer"):
        model.learn(1, callback=host.ActivityCallback())


def test_reports_as_json_lines(tmp_path):
    model, file = make("SAC"), tmp_path / "run.jsonl"

    def write(network, report):
        line = {"step": model.num_timesteps, "network": network, **report.to_dict()}
        with file.open("a") as lines:
            lines.write(json.dumps(line) + "\n")

    model.learn(20, callback=host.ActivityCallback("measure", every=4, on_report=write))
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert {record["network"] for record in records} == {"actor", "critic"}


def test_between_measurements_nothing_is_computed():
    def train(size, **options):
        callback = host.ActivityCallback("measure", **options) if options else None
        make("SAC", batch_size=size).learn(20, callback=callback)

    check_operations(train)
