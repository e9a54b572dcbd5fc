"""The plasticity benchmark: its world against a plain one, runs that go on where they stopped, and errors."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuroactivity as na
from benchmarks.plasticity import catch, dqn, ppo
from benchmarks.plasticity.__main__ import finished, main
from benchmarks.plasticity.experiment import Experiment
from benchmarks.plasticity.measures import measure
from benchmarks.plasticity.record import picture, read, restore, save, write
from reference_agents.errors import UsageError

SMALL = Experiment(seeds=2, phases=3, steps_per_phase=40, width=8, every=20)


def play(experiment, policy, steps, seed=0):
    """Boards, rewards and ends of one environment."""
    board, seen = catch.begin(experiment, jax.random.key(seed)), []
    for number, key in enumerate(jax.random.split(jax.random.key(seed + 1), steps)):
        after, reward, ended = catch.step(experiment, board, jnp.int32(policy(board, number)), key)
        seen.append((board, float(reward), bool(ended)))
        board = after
    return seen


def test_a_paddle_below_the_ball_catches_it_and_one_that_flees_does_not():
    def follow(board, _):
        return 1 + np.sign(int(board.column) - int(board.paddle))

    def flee(board, _):
        return 0 if int(board.column) >= 2 else 2

    for policy, reward in ((follow, 1.0), (flee, -1.0)):
        seen = play(SMALL, policy, 3 * catch.episode_length(SMALL))
        assert [r for _, r, ended in seen if ended] == [reward] * 3
        assert all(r == 0 for _, r, ended in seen if not ended)
        assert [int(board.row) for board, _, _ in seen] == 3 * list(range(catch.episode_length(SMALL)))


def test_the_observation_is_the_board_in_the_order_of_the_phase():
    experiment = replace(SMALL, rows=4, columns=3, distractors=5)
    board = catch.Board(jnp.int32(1), jnp.int32(2), jnp.int32(0))
    order = catch.order(experiment, jax.random.key(3))
    seen = np.asarray(catch.observe(experiment, board, order, jax.random.key(0)))
    pixels = np.empty(17)
    pixels[np.asarray(order)] = seen
    assert np.flatnonzero(pixels[:12]).tolist() == [1 * 3 + 2, 3 * 3 + 0]
    assert set(pixels[12:]) <= {0.0, 1.0}


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path):
    whole = finished(SMALL, tmp_path / "whole.json")
    agent, layout = dqn.start(SMALL)
    state, first = next(dqn.phases(SMALL, agent, layout, 0))
    save(tmp_path / "again.npz", SMALL, state, [first])
    again = finished(SMALL, tmp_path / "again.json")
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(whole, again, strict=True))
    assert (tmp_path / "whole.json").read_text() == (tmp_path / "again.json").read_text()
    assert whole.resets.sum() > 0
    assert whole.returns.shape == (2, 3)
    assert not (tmp_path / "again.npz").exists()


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "layernorm", "residual", "conv"])
@pytest.mark.parametrize(
    "reset",
    [
        "none",
        "new_network",
        "redo",
        "continual",
        "ccbp",
        "reborn",
        "shrink_perturb",
        "l2_init",
        "weight_decay",
        "last_layer",
        "layer_in_turn",
        "all_layers",
        "restart_adam",
        "adam_rel",
        "large_eps",
        "equal_betas",
        "regrama_l2_init",
        "regrama_weight_decay",
    ],
)
def test_every_method_runs_on_every_network(reset, network, tmp_path):
    if reset in ("continual", "ccbp", "reborn") and network == "conv":
        pytest.skip("refused: for networks of dense layers only")
    outcome = finished(
        Experiment(**vars(SMALL) | {"reset": reset, "network": network, "tau": None, "strength": None}),
        tmp_path / "run.json",
    )
    assert np.isfinite(outcome.returns).all()
    assert (outcome.resets.sum() > 0) <= (reset in ("redo", "continual", "reborn") or reset.startswith("regrama"))


@pytest.mark.parametrize(
    ("agent", "options"),
    [("dqn", {}), pytest.param("ppo", {"batch": 32}, marks=pytest.mark.slow)],
)
def test_measures_are_of_the_network_before_a_reset_at_the_end_of_a_phase(agent, options):
    """Adam's steps of 1 make the weights large; the last of 80 updates draws all layers anew."""
    chosen = {"reset": "all_layers", "tau": None, "every": 80, "activation": "tanh", "learning_rate": 1.0}
    experiment = replace(SMALL, agent=agent, seeds=1, phases=1, **chosen, **options)
    module = {"dqn": dqn, "ppo": ppo}[agent]
    [(after, outcome)] = module.phases(experiment, *module.start(experiment), 0)
    norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(after.params)))
    assert outcome.norm[0] > 2 * norm


def test_a_network_is_measured_by_its_gradients_outputs_and_weights():
    rng = np.random.default_rng(0)
    params = {name: {"kernel": jnp.full((4, 4), 2.0), "bias": jnp.zeros(4)} for name in ("hidden1", "hidden2", "out")}
    layout = na.Layout([na.dense(name, weight=(f"{name}/kernel", "in neuron")) for name in ("hidden1", "hidden2")])
    grads = jax.tree.map(jnp.ones_like, params)
    grads["hidden1"]["kernel"] = grads["hidden1"]["kernel"].at[:, 0].set(0)
    outputs = {"hidden2": jnp.asarray(np.diag([1.0, 1, 1, 0]) @ np.linalg.qr(rng.normal(size=(4, 4)))[0])}
    found = measure(layout, params, grads, outputs)
    np.testing.assert_allclose(found, (1 / 8, 3, 2 * np.sqrt(48)), rtol=1e-4)


def test_a_picture_is_drawn(tmp_path):
    experiment = replace(SMALL, phases=1)
    shapes = [(2, 1)] * 7 + [(2, 1, 20)]
    picture(experiment, dqn.Outcome(*map(np.zeros, shapes)), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phases": 0}, "phases: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected at least 0"),
        ({"batches": 21}, "batches: expected 1 to every=20"),
        ({"steps_per_phase": 39}, "steps_per_phase: expected at least 40"),
        ({"learning_rate": 0.0}, "learning_rate: expected a positive number"),
        ({"tau": -1.0}, "tau: expected a number of 0 or more"),
        ({"strength": 1.0}, "strength: regrama has none"),
        ({"network": "conv", "distractors": 1}, "distractors: expected 0 with a conv network"),
        ({"network": "conv", "reset": "continual", "tau": None}, "continual is there for networks of dense layers"),
    ],
)
def test_settings_out_of_range_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        replace(SMALL, **options)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"config": {"phases": 1, "odd": 2}}', b"\xff"])
def test_a_file_that_is_no_record_is_one_line(damage, tmp_path, capsys):
    path = tmp_path / "run.json"
    path.write_bytes(damage)
    assert main(["--out", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: expected the record of an experiment")
    assert error.count("\n") == 1
    assert path.read_bytes() == damage


@pytest.mark.sampled(1)
@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04"])
def test_a_damaged_checkpoint_is_told_before_anything_runs(damage, tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(damage)
    agent, _ = dqn.start(SMALL)
    with pytest.raises(UsageError, match="expected a checkpoint of this experiment"):
        restore(path, SMALL, agent)
    assert path.read_bytes() == damage


def test_another_experiments_files_are_refused(tmp_path):
    other = replace(SMALL, phases=1)
    agent, _ = dqn.start(other)
    save(tmp_path / "run.npz", other, agent, [dqn.Outcome(*map(np.zeros, [2] * 7 + [(2, 20)]))])
    with pytest.raises(UsageError, match="another experiment's"):
        restore(tmp_path / "run.npz", SMALL, agent)
    write(other, dqn.Outcome(*map(np.zeros, [(2, 1)] * 7 + [(2, 1, 20)])), tmp_path / "run.json")
    assert read(tmp_path / "run.json")[0] == other
    assert json.loads((tmp_path / "run.json").read_text())["config"]["phases"] == 1
    with pytest.raises(UsageError, match="expected Experiment"):
        finished(SMALL, tmp_path / "run.json")
