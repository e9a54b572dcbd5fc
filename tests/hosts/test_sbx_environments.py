"""In SBX: observations by name, several environments at once, observations that are normalised."""

import gymnasium
import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("default")  # what a host warns of is its own affair
sbx = pytest.importorskip("sbx")

from stable_baselines3.common.callbacks import EveryNTimesteps  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402

import neuroactivity as na  # noqa: E402
from neuroactivity_jax.hosts.sbx import ActivityCallback, attach, detach  # noqa: E402
from neuroactivity_jax.hosts.sbx_networks import Probe  # noqa: E402

OPTIONS = {"every": 2, "tau": 0.5}


class Named(gymnasium.Env):
    """Observations of two parts, which say how many steps have passed."""

    observation_space = gymnasium.spaces.Dict(
        {"place": gymnasium.spaces.Box(-1, 1, (2,)), "steps": gymnasium.spaces.Box(0, 99, (1,))}
    )
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def _observe(self):
        return {"place": self.np_random.uniform(-1, 1, 2).astype("f"), "steps": np.full(1, self.steps, "f")}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        return self._observe(), float(action[0]), False, self.steps == 8, {}


def make(algorithm, policy, env):
    sizes = {"n_steps": 8, "n_epochs": 2} if algorithm == "PPO" else {"learning_starts": 8}
    return getattr(sbx, algorithm)(policy, env, policy_kwargs={"net_arch": [8]}, seed=0, batch_size=8, **sizes)


def normalised(envs):
    return VecNormalize(make_vec_env("Pendulum-v1", n_envs=envs, vec_env_cls=DummyVecEnv, seed=0))


def check(model, *, method="regrama"):
    model.learn(24, callback=ActivityCallback(method, **OPTIONS))
    model.learn(24, callback=ActivityCallback(method, **OPTIONS), reset_num_timesteps=False)
    assert set(model.neuroactivity) >= {"actor"}
    for kept in model.neuroactivity.values():
        records = kept["records"]
        assert records["measurements"] == records["steps"] // 2 > 2
        assert records["neurons_reset"] > 0


@pytest.mark.parametrize("method", ["regrama", "redo"])
def test_observations_by_name(method):
    model = make("SAC", "MultiInputPolicy", Named())
    check(model, method=method)
    observations, actions = Probe(model)(2)
    assert observations.shape == (256, 3)
    assert actions.shape == (256, 1)
    assert set(observations[:, 2]) <= set(range(9))


@pytest.mark.parametrize("algorithm", ["SAC", "PPO"])
def test_several_environments_whose_observations_are_normalised(algorithm, tmp_path):
    model = make(algorithm, "MlpPolicy", normalised(2))
    check(model, method="redo")
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=normalised(2))
    loaded.learn(24, callback=ActivityCallback("redo", **OPTIONS))
    before, after = (one.neuroactivity["actor"]["records"] for one in (model, loaded))
    assert after["steps"] > before["steps"]
    assert after["measurements"] > before["measurements"]


def test_redo_judges_observations_as_the_networks_see_them():
    model = make("SAC", "MlpPolicy", normalised(2))
    model.learn(24)
    seen = Probe(model)(1)[0]
    stored = model.replay_buffer.observations[:12].reshape(-1, 3)
    expected = {tuple(row) for row in model.get_vec_normalize_env().normalize_obs(stored).astype("f")}
    assert {tuple(row) for row in seen.astype("f")} <= expected


def test_a_model_with_other_layers_starts_anew():
    model = sbx.PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [12]}, n_steps=16, batch_size=8, seed=0)
    attach(model, every=2)
    detach(model)
    model.policy, model.policy_kwargs = None, {"net_arch": [12, 12]}
    model._setup_model()
    with pytest.warns(na.ActivityWarning, match="^actor starts anew: its state is of a network with other parameters$"):
        attach(model, every=2)
    layout = model.policy.actor_state.tx.layout
    assert {"params/Dense_0", "params/Dense_1", "params/Dense_2"} <= layout.keys()
    detach(model)


def test_a_callback_that_another_one_triggers_is_refused():
    model = sbx.PPO("MlpPolicy", "Pendulum-v1", n_steps=16, batch_size=8)
    with pytest.raises(ValueError, match=r"^callback: give it to learn\(\) itself, not to EveryNTimesteps$"):
        model.learn(1, callback=EveryNTimesteps(10, ActivityCallback()))
    with pytest.raises(ValueError, match=r"^networks: expected names in a list, or None for all, got 'qf'$"):
        ActivityCallback(networks="qf")
