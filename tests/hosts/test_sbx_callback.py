"""In SBX: the callback measures and resets the networks of every algorithm, and leaves them as they were."""

import warnings

import gymnasium
import jax
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import parameters

pytestmark = pytest.mark.filterwarnings("default")  # what a host warns of is its own affair
sbx = pytest.importorskip("sbx")

from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402
from stable_baselines3.common.logger import KVWriter, Logger  # noqa: E402

from neuroactivity_jax.hosts.sbx import ActivityCallback, attach, detach, reports  # noqa: E402
from neuroactivity_jax.hosts.sbx_networks import Probe, attach_network, states  # noqa: E402
from neuroactivity_jax.hosts.train_state import detach_state  # noqa: E402

OFF, ON = {"learning_starts": 8, "batch_size": 8}, {"n_steps": 8, "batch_size": 8, "n_epochs": 2}


def make(algorithm="SAC", policy="MlpPolicy", env="Pendulum-v1", *, kwargs=(), **options):
    common = ON if algorithm == "PPO" else OFF
    kwargs = {"net_arch": [8], **dict(kwargs)}
    return getattr(sbx, algorithm)(policy, env, policy_kwargs=kwargs, seed=0, **common, **options)


ALGORITHMS = {
    "SAC": ({}, {"actor", "qf"}),
    "SimBa": ({"algorithm": "SAC", "policy": "SimbaPolicy"}, {"actor", "qf"}),
    "DroQ": (
        {"gradient_steps": 2, "policy_delay": 2, "kwargs": {"dropout_rate": 0.01, "layer_norm": True}},
        {"actor", "qf"},
    ),
    "TD3": ({"algorithm": "TD3"}, {"actor", "qf"}),
    "DDPG": ({"algorithm": "DDPG"}, {"actor", "qf"}),
    "TQC": ({"algorithm": "TQC"}, {"actor", "qf1", "qf2"}),
    "CrossQ": ({"algorithm": "CrossQ"}, {"actor", "qf"}),
    "DQN": ({"algorithm": "DQN", "env": "CartPole-v1", "train_freq": 1}, {"qf"}),
    "PPO": ({"algorithm": "PPO"}, {"actor", "vf"}),
    "PPO with discrete actions": ({"algorithm": "PPO", "env": "CartPole-v1"}, {"actor", "vf"}),
}


class Keys(KVWriter):
    """The keys that a logger has written, after which it forgets them."""

    def __init__(self):
        self.written = set()

    def write(self, key_values, key_excluded, step=0):
        self.written |= key_values.keys()

    def close(self):
        pass


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_network_that_has_an_optimizer_is_measured_and_reset_and_left_as_it_was(name):
    options, networks = ALGORITHMS[name]
    model, seen = make(**options), []
    before = {name: state.tx for name, state in states(model.policy).items()}
    keys = Keys()
    model.set_logger(Logger(None, [keys]))
    callback = ActivityCallback(every=2, tau=0.5, on_report=lambda network, report: seen.append((network, report)))
    model.learn(24, callback=callback)
    assert {network for network, _ in seen} == set(model.neuroactivity) == networks
    for network in networks:
        records = model.neuroactivity[network]["records"]
        assert records["measurements"] == records["steps"] // 2 > 0
        assert records["neurons_reset"] > 0
        statuses = {group.status for group in na.Layout.from_dict(model.neuroactivity[network]["layout"]).values()}
        assert statuses <= {"exclusive", "shared", "through_norm", "head"}
        logged = keys.written | model.logger.name_to_value.keys()
        assert f"neuroactivity/{network}/inactive_fraction" in logged
    assert {name: state.tx for name, state in states(model.policy).items()} == before
    assert "build" not in vars(model.policy)


@pytest.mark.parametrize("method", ["redo", "measure"])
@pytest.mark.parametrize("algorithm", ["SAC", "PPO", "CrossQ"])
def test_redo_judges_the_buffer_and_measuring_resets_nothing(algorithm, method):
    model = make(algorithm)
    model.learn(24, callback=ActivityCallback(method, every=2, tau=0.9))
    for kept in model.neuroactivity.values():
        assert kept["records"]["measurements"] > 0
        assert (kept["records"]["neurons_reset"] > 0) == (method == "redo")


def recorded(seen):
    """Make Adam that keeps the gradients of each step."""

    def recording_adam(learning_rate):
        adam = optax.adam(learning_rate)

        def update(grads, state, params=None):
            jax.debug.callback(seen.append, grads, ordered=False)
            return adam.update(grads, state, params)

        return optax.GradientTransformation(adam.init, update)

    return recording_adam


def test_scores_are_those_of_the_steps_own_gradients_and_its_neurons_alone_are_reset():
    seen = []
    model = make(kwargs={"optimizer_class": recorded(seen)})
    attach(model, networks=["qf"], every=16, tau=0.5, clock="run")
    model.learn(24)
    jax.effects_barrier()
    assert set(reports(model)) == {"qf"}
    state = model.policy.qf_state
    grads = [tree for tree in seen if "VmapContinuousCritic_0" in tree["params"]][-1]
    layout = state.tx.layout
    scores = na.grama(parameters(jax.tree.map(np.asarray, grads)), layout)
    masks = na.reset_masks(scores, tau=0.5)
    (hidden,) = [name for name, group in layout.items() if group.outgoing]
    np.testing.assert_allclose(state.opt_state.scores[hidden], scores[hidden], rtol=1e-5)
    assert masks[hidden].any()
    params, moments = parameters(state.params), parameters(state.opt_state.inner_state.inner_state[0].mu)
    (view,) = layout[hidden].outgoing
    np.testing.assert_array_equal((params[view.param] == 0).all(axis=-1), masks[hidden])
    assert not np.asarray(moments[view.param])[masks[hidden]].any()
    assert np.asarray(moments[view.param])[~masks[hidden]].all()
    assert not (parameters(state.target_params)[view.param] == 0).any()
    detach(model)
    assert int(model.policy.qf_state.opt_state.inner_state[0].count) == 16


class Saver(BaseCallback):
    """Saves the model in the middle of a training."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def _on_step(self):
        if self.n_calls == 16:
            self.model.save(self.path)
        return True


@pytest.mark.parametrize(("algorithm", "method", "alone"), [("SAC", "redo", 8), ("PPO", "regrama", 4)])
def test_counts_go_on_in_the_next_learn_and_through_save_and_load(algorithm, method, alone, tmp_path):
    options = {"every": 2, "tau": 0.5}
    model = make(algorithm)
    model.learn(24, callback=[ActivityCallback(method, **options), Saver(tmp_path / "middle")])
    steps = int(model.neuroactivity["actor"]["records"]["steps"])
    model.save(tmp_path / "end")
    for path, before in (("middle", None), ("end", steps)):
        loaded = type(model).load(tmp_path / path, env=gymnasium.make("Pendulum-v1"))
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*starts anew")
            loaded.learn(16, callback=ActivityCallback(method, **options))
        records = loaded.neuroactivity["actor"]["records"]
        assert records["steps"] > alone  # than in sixteen steps of the environment alone
        assert before is None or records["steps"] > before
    with pytest.warns(na.ActivityWarning, match="actor starts anew: it was attached with other options"):
        loaded.learn(8, callback=ActivityCallback(method, **options, batches=2))


def test_networks_that_sbx_builds_anew_are_attached_to_again():
    model = make(param_resets=[16])
    attach(model, every=2, tau=0.5)
    model.learn(24)
    assert model.reset_idx == 1
    assert 0 < model.policy.qf_state.opt_state.steps < 16
    assert model.policy.qf_state.opt_state.measurements > 0


def test_a_network_whose_train_state_is_replaced_while_it_learns_is_named_once():
    class Replace(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 12:
                self.model.policy.qf_state = detach_state(self.model.policy.qf_state)
            return True

    model = make()
    with pytest.warns(na.ActivityWarning) as told:
        model.learn(24, callback=[ActivityCallback(every=2), Replace()])
    assert [str(warning.message).split(",")[0] for warning in told].count("qf: a train state was put in its place") == 1
    assert set(model.neuroactivity) == {"actor"}


def test_a_second_attachment_is_refused_until_the_first_is_detached():
    model = make()
    attach(model, "measure")
    assert reports(model) == {"actor": None, "qf": None}
    for again in (lambda: attach(model, "measure"), lambda: model.learn(8, callback=ActivityCallback())):
        with pytest.raises(ValueError, match=r"something is attached to it already; call detach\(model\) first"):
            again()
    detach(model)
    detach(model)
    assert reports(model) == {}
    callbacks = [ActivityCallback("measure"), ActivityCallback("measure")]
    with pytest.raises(ValueError, match="something is attached to it already"):
        model.learn(8, callback=callbacks)


def test_what_is_wrong_is_said_when_learning_begins_and_nothing_is_attached():
    model = make()
    with pytest.raises(ValueError, match="networks: expected some of actor, qf, got critic"):
        attach(model, networks=["critic"])
    with pytest.raises(TypeError, match="evry"):
        attach(model, "measure", evry=2)
    with pytest.raises(ValueError, match="method: expected 'regrama', 'redo' or 'measure', got 'gramma'"):
        attach(model, "gramma")
    assert reports(model) == {}


def test_the_probe_takes_rows_of_the_buffer_and_leaves_numpys_generator_alone():
    model = make()
    model.learn(12)
    state = np.random.get_state()[1].copy()
    observations, actions = Probe(model)(2)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    buffer = model.replay_buffer
    stored = {(*o, *a) for o, a in zip(buffer.observations[:12, 0], buffer.actions[:12, 0], strict=True)}
    assert {(*o, *a) for o, a in zip(observations, actions, strict=True)} <= stored


class Images(gymnasium.Env):
    """Random images."""

    observation_space = gymnasium.spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def test_the_extractor_that_ppo_copies_between_its_networks_is_measured_and_never_reset():
    kwargs = {"features_extractor_kwargs": {"features_dim": 8}, "net_arch": [6]}
    model = make("PPO", "CnnPolicy", Images(), kwargs=kwargs)
    layouts = {
        name: attach_network(model.policy, name, method="regrama", probe=Probe(model), layout=None).tx.layout
        for name in ("actor", "vf")
    }
    for layout in layouts.values():
        copied = {name: group for name, group in layout.items() if "NatureCNN" in name}
        assert len(copied) == 4
        assert not any(group.resettable for group in copied.values())
        assert {group.reason for group in copied.values()} == {"copied between actor and critic by SBX"}
        assert layout["params/Dense_0"].resettable
