"""The benchmark at scale, at the smallest scale: arithmetic, runs that go on where they stopped, and errors."""

import json
from contextlib import closing
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.scale import METHODS, Method, Settings, main, make_environments
from reference_agents.errors import UsageError

TINY = Settings(task="Hopper-v5", seeds=2, width=8, batch_size=4, every=4, round_steps=12, random_steps=12, capacity=20)


@pytest.mark.slow
def test_a_round_of_random_steps_fills_the_replay_and_goes_on_from_its_checkpoint(tmp_path):
    with closing(make_environments(TINY, parallel=False)) as envs:
        method = Method(TINY, "none", envs)
        first = method.round()
        rewards, seen, following = (np.asarray(method.run.replay[part]) for part in (2, 0, 3))
        method.save(tmp_path / "none.npz")
        method.rounds.clear()
        method.round()  # the same steps again, after the first ones
        assert (np.asarray(method.run.replay.rewards)[:, :12] == rewards[:, :12]).all()
    assert first["updates"] == 0
    np.testing.assert_allclose(rewards.sum((1, 2)), first["return"], rtol=1e-3)
    assert (seen[:, 1:12] == following[:, :11]).all()
    actor, critic = 11 * 8 + 2 * 8 * 8 + 8 * 6, 14 * 8 + 4 * 8 * 8 + 8  # a layer, blocks of two, heads
    assert method.flop_per_update() == 4 * (8 * actor + 24 * critic)
    method.run = jax.tree.map(jnp.zeros_like, method.run)
    method.restore(tmp_path / "none.npz")
    assert method.rounds == [first]
    assert (np.asarray(method.run.replay.observations) == seen).all()
    method.settings = replace(TINY, every=5)
    for damage in (None, b"PK\x03\x04", b""):
        if damage is not None:
            (tmp_path / "none.npz").write_bytes(damage)
        with pytest.raises(UsageError, match="expected a checkpoint with these settings"):
            method.restore(tmp_path / "none.npz")


@pytest.mark.slow
def test_methods_learn_and_go_on_where_they_stopped(tmp_path):
    options = {"task": TINY.task, "seeds": 2, "width": 8, "batch-size": 4, "every": 4, "round-steps": 12}
    options |= {"random-steps": 12, "capacity": 20, "minutes": 1e-6}
    args = [*(f"--{name}={value}" for name, value in options.items()), "--no-parallel", f"--out={tmp_path}"]
    for number in (1, 2):
        assert main(args) == 0
        results = json.loads((tmp_path / "scale.json").read_text())
        assert all(len(results[name]) == number for name in METHODS)
    assert all(results[name][1]["updates"] == 24 for name in METHODS)
    assert results["none"][1]["critic1/neurons_reset"] == [0, 0]
    assert results["none"][1]["critic1/inactive_fraction"] != [None, None]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--seeds=0", "seeds: expected at least 1, got 0"),
        ("--seed=-1", "seed: expected at least 0, got -1"),
        ("--minutes=0", "minutes: expected a positive number, got 0.0"),
        ("--task=Nothing-v0", "env: expected the id of an environment, got 'Nothing-v0'"),
    ],
)
def test_options_out_of_range_are_one_line(option, message, tmp_path, capsys):
    assert main([option, "--no-parallel", f"--out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
