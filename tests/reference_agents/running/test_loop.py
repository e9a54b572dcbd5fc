"""A run from end to end: it learns, leaves its files, repeats itself, and goes on after a break."""

import json

import numpy as np
import pytest

from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from reference_agents.running.recording import Recorder
from reference_agents.train import main, train
from tests.reference_agents.runs import (
    SHORT,
    PowerFailureError,
    arguments,
    as_older_versions_left_it,
    break_at_record,
    records,
    summary,
    untimed,
)

pytestmark = pytest.mark.usefixtures("layouts_found_once")


def test_a_run_leaves_its_files(whole):
    out = whole("regrama")
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "activity.png",
        "checkpoint.npz",
        ".lock",
    }
    assert Config.from_json((out / "config.json").read_text()) == Config(**SHORT, reset="regrama")
    assert (out / "activity.png").read_bytes().startswith(b"\x89PNG")


def test_records_come_at_their_steps_with_all_they_hold(whole):
    found = records(whole("regrama"))
    assert [record["step"] for record in found] == [90, 180, 250, 270, 360, 450, 500, 540, 630, 700]
    assert len({frozenset(record) for record in found}) == 1
    assert [record["step"] for record in found if record["evaluation"] is not None] == [250, 500]
    assert [record["updates"] for record in found] == [max(record["step"] - 100, 0) for record in found]
    first, last = found[0], found[-1]
    assert first["loss/critic"] is None
    assert first["inactive/critic1/layer1"] is None
    assert first["return"] > 0
    for key in ("loss/critic", "loss/actor", "alpha", "entropy", "inactive/critic1/layer1", "inactive/actor/mean"):
        assert isinstance(last[key], float)


def test_neurons_are_measured_and_reset(whole):
    last = records(whole("regrama"))[-1]
    assert last["measurements"] == 3 * (600 // 60)
    assert 0 < last["resets"] <= last["measurements"]
    networks = [last[f"neurons_reset/{network}"] for network in ("actor", "critic1", "critic2")]
    assert all(networks)
    assert last["neurons_reset"] == sum(networks)
    assert 0 <= last["reset_again"] <= last["measured_again"] < last["neurons_reset"]
    assert last["reset_again/critic1"] <= last["measured_again/critic1"] <= last["neurons_reset/critic1"]
    counted = ("updates", "measurements", "resets", "neurons_reset", "measured_again", "reset_again")
    assert {key: last[key] for key in counted}.items() <= summary(whole("regrama")).items()


def test_every_step_brings_as_many_updates_as_asked_for(tmp_path):
    settings = SHORT | {"steps": 110, "record_every": 110, "evaluate_every": 0, "replay_ratio": 3}
    training = Training(Config(**settings), RunFolder(tmp_path))
    training.run()
    assert records(tmp_path)[-1]["updates"] == training.agent.updates == 30


def transitions(tmp_path, env):
    """What a run of 400 random steps remembers."""
    settings = SHORT | {"env": env, "steps": 400, "learning_starts": 400, "buffer_size": 400, "evaluate_every": 0}
    training = Training(Config(**settings), RunFolder(tmp_path))
    training.run()
    return training.replay.state()


def test_a_time_limit_does_not_terminate(tmp_path):
    assert not transitions(tmp_path, "Pendulum-v1")["terminated"].any()


def test_a_fall_terminates(tmp_path):
    seen = transitions(tmp_path, "InvertedPendulum-v5")
    falls = np.flatnonzero(seen["terminated"][:-1, 0])
    assert len(falls) > 5
    for row in range(399):
        carried_on = (seen["next_observations"][row] == seen["observations"][row + 1]).all()
        assert carried_on == (row not in falls)
    starts = seen["observations"][falls + 1]
    assert len(np.unique(starts, axis=0)) == len(falls)  # every episode from a seed of its own


@pytest.mark.slow
def test_nothing_is_reset_when_not_asked_to(whole):
    last = records(whole("none"))[-1]
    assert last["measurements"] == 30
    assert last["resets"] == last["neurons_reset"] == 0
    assert last["inactive/critic1/layer2"] > 0


@pytest.mark.slow
def test_redo_is_recorded_beside_grama(whole):
    last = records(whole("redo"))[-1]
    assert last["neurons_reset"] > 0
    assert 0 <= last["dormant/actor/trunk.layer1"] <= 1
    assert 0 <= last["inactive/actor/trunk.layer1"] <= 1


@pytest.mark.slow
def test_the_summary_compares_with_a_random_policy_on_the_same_episodes(whole):
    values = {reset: summary(whole(reset)) for reset in ("none", "regrama")}
    for value in values.values():
        for policy in ("evaluation", "random_policy"):
            assert value[policy]["mean"] == pytest.approx(np.mean(value[policy]["returns"]))
            assert value[policy]["std"] == pytest.approx(np.std(value[policy]["returns"]))
            assert len(value[policy]["returns"]) == 2
    assert values["none"]["random_policy"] == values["regrama"]["random_policy"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_gives_another(whole, tmp_path):
    for seed in (0, 1):
        train(Config(**SHORT, reset="regrama", seed=seed), tmp_path / str(seed))
    assert untimed(tmp_path / "0") == untimed(whole("regrama"))
    assert summary(tmp_path / "0") == summary(whole("regrama"))
    assert untimed(tmp_path / "1") != untimed(whole("regrama"))


@pytest.mark.parametrize(
    ("reset", "number"),
    [
        ("regrama", 6),
        pytest.param("redo", 8, marks=pytest.mark.slow),
        pytest.param("regrama", 0, marks=pytest.mark.slow),
        pytest.param("none", 9, marks=pytest.mark.slow),
    ],
)
def test_a_run_resumed_is_the_run_uninterrupted(whole, tmp_path, monkeypatch, reset, number):
    config = Config(**SHORT, reset=reset)
    with monkeypatch.context() as patch:
        break_at_record(patch, number)
        with pytest.raises(PowerFailureError):
            train(config, tmp_path)
    checkpoint = tmp_path / "checkpoint.npz"
    assert checkpoint.exists() == (number > 0)
    if reset == "regrama" and checkpoint.exists():  # resets before the break, and after it
        training = Training(config, RunFolder(tmp_path))
        training.restore()
        assert 0 < training._counts()["neurons_reset"] < records(whole(reset))[-1]["neurons_reset"]
    train(config, tmp_path, resume=True)
    assert untimed(tmp_path) == untimed(whole(reset))
    assert summary(tmp_path) == summary(whole(reset))


@pytest.mark.slow
def test_a_run_may_be_made_longer(whole, tmp_path):
    train(Config(**SHORT | {"steps": 475}, reset="regrama"), tmp_path)
    assert records(tmp_path)[-1]["step"] == 475
    train(Config(**SHORT, reset="regrama"), tmp_path, resume=True)
    assert untimed(tmp_path) == untimed(whole("regrama"))
    assert summary(tmp_path) == summary(whole("regrama"))
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 700


@pytest.mark.slow
def test_a_run_of_an_older_version_goes_on(whole, tmp_path):
    train(Config(**SHORT | {"steps": 475}, reset="regrama"), tmp_path)
    as_older_versions_left_it(tmp_path)
    train(Config(**SHORT, reset="regrama"), tmp_path, resume=True)
    assert untimed(tmp_path) == untimed(whole("regrama"))
    assert Config.from_json((tmp_path / "config.json").read_text()) == Config(**SHORT, reset="regrama")
    assert json.loads((tmp_path / "config.json").read_text())["policy_delay"] == 2


def test_a_finished_run_is_left_as_it_is(whole, capsys):
    out = whole("regrama")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    train(Config(**SHORT, reset="regrama"), out, resume=True)
    assert capsys.readouterr().out == f"{out} holds the finished run\n"
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("settings", "resume", "message"),
    [
        ({}, False, "out: expected a folder without a run, got {out}; --resume goes on with its run"),
        ({"tau": 0.3}, True, "tau: expected 0.2 as in the run to resume, got 0.3"),
        ({"steps": 600}, True, "steps: expected at least the 700 of the run to resume, got 600"),
    ],
)
def test_a_folder_with_another_run_is_refused(whole, settings, resume, message):
    out = whole("regrama")
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UsageError) as caught:
        train(Config(**SHORT | settings, reset="regrama"), out, resume=resume)
    assert str(caught.value) == message.format(out=out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (json.dumps({"env": "InvertedPendulum-v5"}).encode(), "config: expected every setting, got none for framework"),
        (b"\xff\xfe", "'utf-8' codec can't decode"),
        (b"{", "config: expected the settings of a run as JSON"),
    ],
)
def test_settings_of_another_version_are_refused_and_left_alone(tmp_path, content, reason):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(
        UsageError, match=r"^out: expected a run of this version to resume, got .*config\.json: "
    ) as caught:
        train(Config(**SHORT), tmp_path, resume=True)
    assert reason in str(caught.value)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("config.json", content)]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a checkpoint"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    config = Config(**SHORT)
    (tmp_path / "config.json").write_text(config.to_json())
    (tmp_path / "checkpoint.npz").write_bytes(content)
    with pytest.raises(UsageError, match="out: expected a checkpoint, got"):
        train(config, tmp_path, resume=True)


def test_ctrl_c_ends_a_run_in_one_line(tmp_path, monkeypatch, capsys):
    def interrupt(self, record):
        raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "write", interrupt)
    assert main([*arguments(SHORT), "--out", str(tmp_path / "run")]) == 130
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "interrupted; the same command with --resume goes on from the last checkpoint"


def test_a_folder_is_one_processs_at_a_time(tmp_path, capsys):
    """Two sweeps of the same runs, or a run resumed that is still under way, would mix their records."""
    config, message = Config(**SHORT), "out: expected a folder without a run under way"
    folder, other = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    with folder.claimed(config):
        with pytest.raises(UsageError, match=message), other.claimed(config):
            pytest.fail("claimed twice")
        assert main(["--out", str(tmp_path / "run"), "--resume", *arguments(SHORT)]) == 2
        assert message in capsys.readouterr().err
        assert not folder.metrics.exists()
    with other.claimed(config):
        assert folder.config.exists()
