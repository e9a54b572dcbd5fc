"""PPO on Catch and SAC on tasks that change: advantages and bodies against plain ones, resumed runs, and errors."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.plasticity import bodies, catch, ppo, sac
from benchmarks.plasticity.__main__ import AGENTS, finished
from benchmarks.plasticity.experiment import Experiment
from benchmarks.plasticity.networks import apply
from benchmarks.plasticity.record import restore, save
from neuroactivity_jax import summary
from reference_agents.envs.environments import make
from reference_agents.errors import UsageError

PPO = Experiment(agent="ppo", seeds=2, phases=2, steps_per_phase=40, width=8, every=20, batch=32, tau=0.5)
SAC = Experiment(
    world="mujoco", agent="sac", seeds=2, phases=2, steps_per_phase=48, episode=12, width=8, every=20, batch=8, tau=0.5
)


def test_advantages_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    rewards, values, ended = rng.normal(size=(7, 2)), rng.normal(size=(7, 2)), rng.random((7, 2)) < 0.3
    last = rng.normal(size=2)
    expected, later = np.zeros((7, 2)), np.zeros(2)
    for step in reversed(range(7)):
        following = values[step + 1] if step < 6 else last
        goes_on = ppo.DISCOUNT * ~ended[step]
        later = rewards[step] + goes_on * following - values[step] + goes_on * ppo.LAMBDA * later
        expected[step] = later
    got = ppo._advantages(*map(jnp.asarray, (rewards, ended, values, last)))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def check_resuming(experiment, folder):
    whole = finished(experiment, folder / "whole.json")
    module = AGENTS[experiment.agent]
    agent, functions = module.start(experiment)
    state, first = next(module.phases(experiment, agent, functions, 0))
    save(folder / "again.npz", experiment, state, [first])
    again = finished(experiment, folder / "again.json")
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(whole, again, strict=True))
    assert np.isfinite(whole.returns).all()
    assert whole.returns.shape == (2, 2)
    assert whole.curves.shape == (2, 2, 20)
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("reset", ["none", "regrama"])
@pytest.mark.parametrize("experiment", [PPO, SAC], ids=["ppo", "sac"])
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(experiment, reset, tmp_path):
    experiment = replace(experiment, reset=reset, tau=None if reset == "none" else 0.5)
    whole = check_resuming(experiment, tmp_path)
    assert (whole.resets > 0).all() == (reset == "regrama")
    assert (whole.measured_again.sum() > 0) == (reset == "regrama")


def test_a_rollout_is_what_the_world_gave():
    params = ppo._new(PPO)(jax.random.key(0))
    order = catch.order(PPO, jax.random.key(1))
    boards = jax.vmap(partial(catch.begin, PPO))(jax.random.split(jax.random.key(2), ppo.ENVIRONMENTS))
    scene = ppo.Scene(boards, jnp.zeros((ppo.ENVIRONMENTS, catch.pixels(PPO))))
    after, samples, rewards, ended = jax.jit(partial(ppo._play, PPO))(order, params, scene, jax.random.key(3))
    assert rewards.shape == ended.shape == (ppo.ROLLOUT, ppo.ENVIRONMENTS)
    assert samples.observation.shape == (ppo.ROLLOUT * ppo.ENVIRONMENTS, catch.pixels(PPO))
    assert (np.flatnonzero(ended[:, 0]) == [8, 17]).all()
    assert (np.asarray(rewards)[np.asarray(ended)] != 0).all()
    assert (np.asarray(after.boards.row) == 2).all()


@pytest.fixture(scope="module")
def started():
    return sac.start(replace(SAC, reset="none", tau=None, seeds=1))


@pytest.mark.slow
def test_log_probabilities_are_those_of_a_squashed_gaussian(started):
    agents, functions = started
    params = jax.tree.map(lambda leaf: leaf[0], agents.params["actor"])
    actions, log_prob = functions.act(params, jnp.ones((5, 4)), jax.random.key(0))
    mean, log_std = np.split(np.asarray(apply(SAC, params, jnp.ones((5, 4)))[0], float), 2, axis=1)
    std = np.exp(-5 + 7 * (np.tanh(log_std) + 1) / 2)
    raw = np.arctanh(np.asarray(actions, float))
    density = np.exp(-0.5 * ((raw - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi)) / (1 - np.tanh(raw) ** 2)
    np.testing.assert_allclose(log_prob, np.log(density).sum(1), rtol=1e-2, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [PPO, SAC], ids=["ppo", "sac"])
@pytest.mark.parametrize("reset", ["none", "new_network", "redo", "continual", "l2_init", "last_layer", "restart_adam"])
def test_every_method_runs_with_every_agent(experiment, reset, tmp_path):
    outcome = finished(replace(experiment, reset=reset, tau=None), tmp_path / "run.json")
    assert np.isfinite(outcome.returns).all()


@pytest.mark.slow
@pytest.mark.parametrize(("reset_in", "expected"), [("actor", ["actor"]), ("critics", ["critic1", "critic2"])])
def test_neurons_are_reset_in_the_networks_asked_for_alone(reset_in, expected):
    experiment = replace(SAC, reset_in=reset_in, seeds=1, phases=1)
    agents, functions = sac.start(experiment)
    [(after, outcome)] = sac.phases(experiment, agents, functions, 0)
    found = {name: jax.vmap(partial(summary, prefix="now"))(after.states[name]) for name in expected}
    resets = [int(of["now/neurons_reset"][0]) for of in found.values()]
    assert min(resets) > 0
    assert sum(resets) == outcome.resets[0]
    for name in set(after.states) - set(expected):
        with pytest.raises(ValueError, match="expected one state"):
            summary(after.states[name])


def test_a_damaged_checkpoint_is_told_before_anything_runs(started, tmp_path):
    path, experiment = tmp_path / "run.npz", started[1].experiment
    for damage in (b"PK\x03\x04", b""):
        path.write_bytes(damage)
        with pytest.raises(UsageError, match="expected a checkpoint of this experiment"):
            restore(path, experiment, started[0])
        assert path.read_bytes() == damage


def test_a_body_changes_with_seed_and_period_only():
    env = make("InvertedPendulum-v5")
    model, seen = env.unwrapped.model, {}
    for seed, step in ((0, 0), (0, 10), (0, 19), (0, 20), (1, 10), (0, 10)):
        model.actuator_gear[:], model.opt.gravity[:] = 100, (0, 0, -9.81)
        bodies.ChangingBody(env, every=10, seed=seed).set(step)
        seen.setdefault((seed, step // 10), set()).add((model.actuator_gear[0, 0], model.opt.gravity[2]))
    assert all(len(values) == 1 for values in seen.values())
    values = [value for of in seen.values() for value in of]
    assert len(set(values)) == 4
    assert (100.0, -9.81) in seen[0, 0]
    assert all(30 <= abs(gear) <= 100 and -19.62 <= gravity <= -4.905 for gear, gravity in values)


def test_a_task_with_ground_changes_its_friction():
    worlds = bodies.Worlds(replace(SAC, task="Hopper-v5", seeds=1, steps_per_phase=48))
    worlds.begin(0)
    ground = worlds._envs[0].unwrapped.model.geom_friction
    before = ground.copy()
    worlds.begin(1)
    assert (ground != before).any()


def test_the_ground_changes_within_a_phase_as_often_as_it_is_told():
    worlds = bodies.Worlds(replace(SAC, task="Hopper-v5", seeds=1, friction_every=16))
    worlds.begin(0)
    seen = []
    for number in range(48):
        worlds.step(number, np.zeros((1, worlds.action_size)))
        seen.append(worlds._envs[0].unwrapped.model.geom_friction[0, 0])
    assert [number for number in range(1, 48) if seen[number] != seen[number - 1]] == [16, 32]


def test_rewired_sensors_tell_the_same_in_another_order_with_other_signs():
    """A phase's wiring is that of all its observations, and differs between seeds and phases; phase 0 is as it was."""
    plain, rewired = (bodies.Worlds(replace(SAC, sensors=sensors)) for sensors in ("fixed", "rewired"))
    wirings = []
    for phase in range(3):
        first = [worlds.begin(phase) for worlds in (plain, rewired)]
        steps = [worlds.step(number, np.ones((2, 1))) for number in range(20) for worlds in (plain, rewired)]
        np.testing.assert_array_equal([step[:2] for step in steps[::2]], [step[:2] for step in steps[1::2]])
        seen = [np.stack([first[of], *(one[i] for one in steps[of::2] for i in (2, 3))], axis=2) for of in (0, 1)]
        for fixed, wired in zip(*seen, strict=True):  # (place, moment) of each seed
            order = [int(np.flatnonzero((np.abs(fixed) == np.abs(row)).all(axis=1))[0]) for row in wired]
            signs = [float(np.sign(row @ fixed[place])) for row, place in zip(wired, order, strict=True)]
            np.testing.assert_array_equal(wired, fixed[order] * np.array(signs)[:, None])
            assert sorted(order) == list(range(4))
            wirings.append((*order, *signs))
    assert wirings[:2] == [(0, 1, 2, 3, 1, 1, 1, 1)] * 2
    assert len(set(wirings)) == 5


def test_episodes_are_counted_where_they_end():
    worlds = bodies.Worlds(SAC)
    worlds.begin(0)
    for number in range(24):
        worlds.step(number, np.zeros((2, 1), np.float32))
    assert [(number, index) for number, index, _ in worlds.ended] == [(11, 0), (11, 1), (23, 0), (23, 1)]
    assert worlds.mean_returns(0, 12).tolist() == [12, 12]
    assert np.isnan(worlds.mean_returns(12, 23)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agent": "dqn"}, "agent: expected dqn or ppo for catch and sac for mujoco, got dqn"),
        ({"steps_per_phase": 47}, "steps_per_phase: expected at least 48, got 47"),
        ({"network": "conv"}, "network: expected one of dense layers for sac"),
        ({"friction_every": -1}, "friction_every: expected at least 0, got -1"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"rows": 8}, "rows: sac has none"),
        ({"entropy": 0.1}, "entropy: sac has none"),
        ({"reset": "none", "tau": None, "reset_in": "actor"}, "reset_in: expected all for none, got actor"),
        ({"world": "catch", "agent": "ppo", "sensors": "rewired"}, "sensors: ppo has none"),
        ({"world": "catch", "agent": "ppo", "reset_in": "critics"}, "reset_in: ppo has none"),
    ],
)
def test_settings_out_of_range_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        replace(SAC, **options)


@pytest.mark.parametrize("task", ["CartPole-v1", "Nothing-v0"])
def test_a_task_that_is_not_of_mujoco_is_refused(task):
    with pytest.raises(UsageError, match="expected"):
        bodies.Worlds(replace(SAC, task=task))
