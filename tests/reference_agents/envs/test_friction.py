"""The ground changes when it should, by the seed and the step alone, and what touches it slips."""

import numpy as np
import pytest

from reference_agents.config import Config
from reference_agents.envs.environments import make
from reference_agents.envs.friction import HIGHEST, LOWEST, ChangingFriction
from reference_agents.errors import UsageError
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from reference_agents.train import train
from tests.reference_agents.runs import SHORT, PowerFailureError, break_at_record, records, untimed

TASKS = ("HalfCheetah-v5", "dm_control/walker-walk-v0")
HOPPER = SHORT | {"env": "Hopper-v5", "steps": 400, "evaluate_every": 0, "record_every": 50, "friction_every": 80}


def path(env, *, steps=40):
    """Observations of an episode that is always the same, but for the ground."""
    rng = np.random.default_rng(0)
    env.reset(seed=3)
    return np.stack([env.step(rng.uniform(-1, 1, env.action_size).astype(np.float32))[0] for _ in range(steps)])


@pytest.mark.parametrize("env_id", TASKS)
def test_the_ground_changes_and_changes_back(env_id):
    env = make(env_id)
    ground = ChangingFriction([env], every=100, seed=0)
    before = path(env)
    ground.set(100)
    slippery = path(env)
    ground.set(199)
    np.testing.assert_array_equal(path(env), slippery)
    ground.set(200)
    assert (path(env) != slippery).any()
    ground.set(99)
    np.testing.assert_array_equal(path(env), before)
    assert (slippery != before).any()


def sliding(env, friction):
    """How fast the cheetah still is after it was pushed, on a ground of a friction."""
    ground = ChangingFriction([env], every=1, seed=0)
    ground.at = lambda step: friction
    ground.set(1)
    env.reset(seed=0)
    env.unwrapped.data.qvel[0] = 5
    for _ in range(40):
        env.step(np.zeros(env.action_size, np.float32))
    return env.unwrapped.data.qvel[0]


def test_a_low_friction_holds_against_the_friction_of_what_stands_on_the_ground():
    ice, wet, own = (sliding(make("HalfCheetah-v5"), friction) for friction in (0.02, 0.2, None))
    assert ice > 4
    assert 0.5 < wet < 2
    assert abs(own) < 0.1


def test_frictions_are_log_uniform_and_depend_on_seed_and_step_alone():
    env = make("HalfCheetah-v5")
    ground, other = (ChangingFriction([env], every=10, seed=seed) for seed in (0, 1))
    assert ground.at(9) is None
    assert ground.at(10) == ground.at(19) != ground.at(20)
    assert ground.at(10) != other.at(10)
    drawn = np.array([ground.at(10 * period) for period in range(1, 2001)])
    assert LOWEST <= drawn.min() < 1.1 * LOWEST
    assert HIGHEST >= drawn.max() > HIGHEST / 1.1
    places = np.log(drawn / LOWEST) / np.log(HIGHEST / LOWEST)  # uniform from 0 to 1
    np.testing.assert_allclose(np.quantile(places, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.04)


@pytest.mark.parametrize(
    "env_id", ["InvertedPendulum-v5", "InvertedDoublePendulum-v5", "dm_control/cartpole-swingup-v0", "Pendulum-v1"]
)
def test_a_task_without_a_ground_is_refused(env_id, tmp_path):
    with pytest.raises(UsageError, match=f"friction_every: expected a MuJoCo task with a ground.*{env_id}"):
        Training(Config(**SHORT | {"env": env_id, "friction_every": 10}), RunFolder(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("layouts_found_once")
def test_a_run_on_changing_ground_records_it_and_goes_on_after_a_break(monkeypatch, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(Config(**HOPPER), whole)
    found = [record["friction"] for record in records(whole)]
    ground = ChangingFriction([make("Hopper-v5")], every=80, seed=0)
    assert found == [ground.at(step - 1) for step in range(50, 401, 50)]
    assert found[0] is None
    assert len(set(found)) == 5
    with monkeypatch.context() as patch:
        break_at_record(patch, 6)
        with pytest.raises(PowerFailureError):
            train(Config(**HOPPER), broken)
    assert (broken / "checkpoint.npz").exists()
    train(Config(**HOPPER), broken, resume=True)
    assert untimed(broken) == untimed(whole)


@pytest.mark.slow
@pytest.mark.usefixtures("layouts_found_once")
def test_without_changes_nothing_is_recorded(tmp_path):
    train(Config(**HOPPER | {"friction_every": 0}), tmp_path)
    assert "friction" not in records(tmp_path)[0]
