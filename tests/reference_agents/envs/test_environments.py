"""Environments look alike to an agent, and a seed decides an episode whatever went before."""

import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from reference_agents.envs.environments import Environment, make
from reference_agents.errors import UsageError

ENVIRONMENTS = ("HalfCheetah-v5", "InvertedPendulum-v5", "dm_control/cartpole-swingup-v0")


def episode(env, seed, *, steps=60, actions=0):
    """Observations and rewards of an episode under actions that a seed decides."""
    rng = np.random.default_rng(actions)
    observation, _ = env.reset(seed=seed)
    observations, rewards = [observation], []
    for _ in range(steps):
        action = rng.uniform(-1, 1, env.action_size).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        if terminated or truncated:
            break
    return np.stack(observations), np.asarray(rewards)


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_a_seed_decides_an_episode_whatever_went_before(env_id):
    fresh, used = make(env_id), make(env_id)
    episode(used, seed=5, steps=37, actions=9)
    episode(used, seed=6, steps=3, actions=8)
    for ours, theirs in zip(episode(fresh, seed=1), episode(used, seed=1), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (episode(fresh, seed=2)[0][0] != episode(used, seed=1)[0][0]).any()


@pytest.mark.parametrize(("env_id", "sizes"), [*zip(ENVIRONMENTS, [(17, 6), (4, 1), (5, 1)], strict=True)])
def test_observations_are_flat_and_in_single_precision(env_id, sizes):
    env = make(env_id)
    assert (env.observation_size, env.action_size) == sizes
    observations, rewards = episode(env, seed=0, steps=5)
    assert observations.dtype == np.float32
    assert observations.shape[1:] == env.observation_space.shape == sizes[:1]
    assert env.action_space == gym.spaces.Box(-1, 1, sizes[1:], np.float32)
    assert all(isinstance(reward, float) for reward in rewards)


def test_actions_span_the_bounds_of_the_environment(monkeypatch):
    env, seen = make("InvertedPendulum-v5"), []
    step = env.env.step
    monkeypatch.setattr(env.env, "step", lambda action: (seen.append(action), step(action))[1])
    env.reset(seed=0)
    for value in (-1, 0, 0.5, 1):
        env.step(np.asarray([value], np.float32))
    np.testing.assert_allclose(np.concatenate(seen), [-3, 0, 1.5, 3])


def test_the_control_suite_looks_for_no_display():
    make("dm_control/cartpole-swingup-v0")
    assert os.environ["MUJOCO_GL"]


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_an_environment_is_made_in_silence(env_id, tmp_path):
    code = f"from reference_agents.envs.environments import Environment, make; make({env_id!r})"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")
    assert not list(tmp_path.iterdir())


def test_images_are_the_latest_pictures_of_the_environment():
    env = make("Pendulum-v1", image_size=20)
    observation, _ = env.reset(seed=0)
    assert observation.shape == env.observation_space.shape == (3 * 3 * 20 * 20,)
    assert observation.dtype == env.observation_space.dtype == np.uint8
    shown = [picture_of(env)]
    np.testing.assert_allclose(observation.reshape(3, 3, 20, 20), shown * 3, atol=1)  # pillow rounds on the way
    for _ in range(4):
        observation, *_ = env.step(np.ones(1, np.float32))
        shown.append(picture_of(env))
        latest = shown[-3:] if len(shown) > 2 else [shown[0], *shown]
        np.testing.assert_allclose(observation.reshape(3, 3, 20, 20), latest, atol=1)
    assert abs(shown[0] - shown[-1]).max() > 50


def picture_of(env):
    """What an environment draws of itself, as means over areas: (3, 20, 20)."""
    drawn = np.asarray(env.render(), np.float64)
    return drawn.reshape(20, 25, 20, 25, 3).mean((1, 3)).transpose(2, 0, 1)


def test_only_pictures_are_kept_as_bytes():
    inner = gym.wrappers.TransformObservation(
        gym.make("Pendulum-v1"), lambda o: (100 * abs(o)).astype(np.uint8), gym.spaces.Box(0, 255, (3,), np.uint8)
    )
    env = Environment(inner, inner.action_space)
    assert env.reset(seed=0)[0].dtype == env.observation_space.dtype == np.float32


def test_an_environment_that_is_seen_starts_each_episode_anew():
    fresh, used = (make("Pendulum-v1", image_size=15) for _ in range(2))
    episode(used, seed=5, steps=37, actions=9)
    for ours, theirs in zip(episode(fresh, seed=1), episode(used, seed=1), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_environment_that_cannot_be_drawn_is_refused():
    code = "from reference_agents.envs.environments import Environment, make; make('HalfCheetah-v5', image_size=20)"
    command, environment = [sys.executable, "-c", code], os.environ | {"MUJOCO_GL": "disable"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    last = result.stderr.splitlines()[-1]
    assert "UsageError: env: expected one that can be drawn here, got 'HalfCheetah-v5': " in result.stderr, last
    assert "for MuJoCo set MUJOCO_GL to egl, osmesa or glfw" in result.stderr


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("Nowhere-v1", "env: expected the id of an environment, got 'Nowhere-v1': Environment `Nowhere` doesn't exist"),
        ("dm_control/dog-fly-v0", "env: expected the id of an environment, got 'dm_control/dog-fly-v0': Environment"),
        ("", "env: expected the id of an environment, got '': Malformed environment ID"),
        ("CartPole-v1", "env: expected actions that are bounded vectors, got 'CartPole-v1' with Discrete(2)"),
    ],
)
def test_an_environment_that_will_not_do_is_refused_in_one_line(env_id, message):
    with pytest.raises(UsageError) as caught:
        make(env_id)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
