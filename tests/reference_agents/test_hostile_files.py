"""Small files that ask for much, or say what cannot be: one line each, in little time and memory, nothing touched."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import reference_agents.compare.__main__ as compare
from neuroactivity import plotting
from neuroactivity.analysis import Spell
from neuroactivity.looking import commandline as looking
from reference_agents import analyze, prune
from reference_agents.config import Config
from reference_agents.envs.environments import make
from reference_agents.errors import UsageError
from reference_agents.jax.learning import unpack
from reference_agents.running.files import check_target, replacing
from reference_agents.running.folder import RunFolder
from reference_agents.running.recording import Recorder
from tests.reference_agents.compare.run_folders import write
from tests.reference_agents.runs import SHORT, arguments


@pytest.mark.counts(faults=1)
def test_a_run_that_asks_for_more_evaluations_than_memory_holds_is_left_out(tmp_path, capsys):
    write(tmp_path / "good")
    settings = json.loads((tmp_path / "good" / "config.json").read_text())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text(json.dumps({**settings, "steps": 10**15, "evaluate_every": 1}))
    assert compare.main([str(tmp_path / "good"), str(tmp_path / "bad")]) == 0
    assert "bad" in capsys.readouterr().out


@pytest.mark.counts(faults=1)
def test_more_tasks_than_a_picture_holds_are_refused_before_anything_is_written(tmp_path, capsys):
    for number in range(101):
        write(tmp_path / str(number), env=f"Task{number}-v0")
    out = tmp_path / "out"
    assert compare.main([str(tmp_path), "--out", str(out)]) == 2
    assert "runs: expected at most 100 tasks" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.counts(faults=1)
def test_many_long_spells_take_little_memory():
    """As a matrix of spells and lengths they would take 400 megabytes."""
    spells = [Spell(neuron=0, member=None, start=0, length=length, end="open") for length in range(1, 20_001)]
    axes = plotting.lifetimes({"fc": spells})
    counts = axes.patches[-1].get_data().values
    assert (counts[0], counts[-1]) == (20_000, 1)
    np.testing.assert_array_equal(counts, np.arange(20_000, 0, -1))


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("again", [[1], [1, 2]])
def test_a_run_recorded_anew_without_scores_is_drawn(again, tmp_path):
    group = {"neurons": 2, "inactive": 0}
    lines = [
        {"version": 1, "step": step, "tau": 0.01, "groups": {"fc": {**group, "scores": [[1, 1]]}}} for step in (1, 2)
    ]
    lines += [{"version": 1, "step": step, "tau": 0.01, "groups": {"fc": group}} for step in again]
    (tmp_path / "run.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert looking.main(["plot", str(tmp_path / "run.jsonl"), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").exists()


def scored(path, *, tau=0.01, highest=1.0, network="actor"):
    for step in (1, 2):
        for kind in ("dormant", "inactive"):
            line = {"step": step, "network": network, "kind": kind, "tau": tau, "scores": {"fc": [[0.0, highest]]}}
            with (path / "scores.jsonl").open("a") as file:
                file.write(json.dumps(line | {"reset": {"fc": [[]]}}) + "\n")
    return path


@pytest.mark.counts(faults=4)
@pytest.mark.parametrize("tau", [float("nan"), float("inf"), -1.0])
def test_a_threshold_that_is_none_is_told_before_anything_is_made(tau, tmp_path, capsys):
    assert analyze.main([str(scored(tmp_path, tau=tau))]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "neurons").exists()


@pytest.mark.counts(faults=1)
def test_networks_whose_names_look_alike_are_refused(tmp_path, capsys):
    scored(tmp_path, network="a" * 201)
    assert analyze.main([str(scored(tmp_path, network="a" * 100 + "b" + "a" * 100))]) == 2
    assert "names can be told apart" in capsys.readouterr().err


@pytest.mark.counts(faults=1)
@pytest.mark.filterwarnings("error")
def test_the_largest_scores_that_there_are_can_be_drawn(tmp_path):
    assert analyze.main([str(scored(tmp_path, highest=1.5e308))]) == 0


@pytest.mark.counts(faults=4)
@pytest.mark.parametrize("damage", ["a flag", "a header", "a size", "a pipe"])
def test_a_damaged_checkpoint_is_one_clear_error(damage, tmp_path):
    folder = RunFolder(tmp_path)
    with folder.claimed(Config()):
        folder.save_checkpoint({"step": 1}, bytes(20_000), {"added": np.zeros(3)})
    content = folder.checkpoint.read_bytes()
    match damage:
        case "a flag":
            place = content.rindex(b"PK\x01\x02") + 8
            content = content[:place] + bytes([content[place] | 1]) + content[place + 1 :]
        case "a header":
            content = content.replace(b"'shape': (20000,), }", b"'shape': (20000,), )")
        case "a size":
            content = content.replace(b"'shape': (20000,), }       ", b"'shape': (99999999999999), }")
    folder.checkpoint.unlink()
    if damage == "a pipe":
        os.mkfifo(folder.checkpoint)
    else:
        folder.checkpoint.write_bytes(content)
    with pytest.raises(UsageError, match="out: expected a checkpoint, got"):
        folder.load_checkpoint()


@pytest.mark.counts(faults=1)
def test_an_agents_arrays_may_not_be_larger_than_they_lie_on_the_disk(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", values=np.zeros(10**6))
    with pytest.raises(ValueError, match="not compressed"):
        unpack((tmp_path / "bomb.npz").read_bytes(), {})


@pytest.mark.counts(faults=1)
def test_records_in_a_pipe_are_refused(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(UsageError, match="expected a file of records"):
        Recorder(tmp_path / "metrics.jsonl").rewind(0)


@pytest.mark.counts(faults=1)
def test_a_folder_that_was_written_to_since_it_was_looked_at_is_refused(tmp_path):
    """Another process finished the run between the check and the lock."""
    folder, config = RunFolder(tmp_path / "run"), Config()
    folder.check(config, resume=False)
    write(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(UsageError, match="expected a folder that no other process writes to"), folder.claimed(config):
        pytest.fail("it trains")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    with RunFolder(tmp_path / "run").claimed(config):  # the lock has been released
        pass


@pytest.mark.counts(faults=1)
def test_of_two_that_write_a_file_at_once_each_writes_it_whole(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as first:
        first.write(b"first")
        with replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.counts(faults=1)
def test_a_link_in_the_place_of_a_draft_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "out" / ".x.json.draft").symlink_to(elsewhere)
    check_target(tmp_path / "out" / "x.json")
    assert not elsewhere.exists()


@pytest.mark.counts(faults=1)
def test_a_summary_is_kept_where_the_settings_cannot_be_written(tmp_path, monkeypatch):
    folder = RunFolder(write(tmp_path / "run"))
    summary = folder.summary.read_bytes()

    def full(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("reference_agents.running.folder.write_text", full)
    with pytest.raises(UsageError, match="No space left on device"), folder.claimed(Config()):
        pytest.fail("it trains")
    assert folder.summary.read_bytes() == summary


@pytest.mark.counts(faults=4)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("neurons_reset/actor", None),
        ("measured_again/actor", 2.5),
        ("reset_again/actor", -1),
        ("inactive/actor/fc", 1.7e308),
    ],
)
def test_numbers_that_no_run_records_are_told_when_it_is_to_go_on(key, value, tmp_path):
    Recorder(tmp_path / "metrics.jsonl").write({"step": 1, key: value})
    with pytest.raises(UsageError, match=f"line 1: {key}: expected a "):
        Recorder(tmp_path / "metrics.jsonl").check(1, 10)


@pytest.mark.counts(faults=2)
def test_nothing_that_a_file_names_is_imported(tmp_path, monkeypatch, capsys):
    (tmp_path / "payload.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    run = scored(write(tmp_path / "run", env="Pendulum-v1"))
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**settings, "env": "payload:X-v0"}))
    (run / "checkpoint.npz").write_bytes(b"")
    assert prune.main([str(run), "--out", str(tmp_path / "new" / "pruned.json")]) == 2
    assert "expected an environment of a module that is imported already" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert "payload" not in sys.modules


@pytest.mark.counts(faults=3)
@pytest.mark.parametrize("name", ["a:b:c", ":Hopper-v5", "..x:Y-v0"])
def test_an_odd_id_of_an_environment_is_one_line(name):
    with pytest.raises(UsageError, match="env: expected the id of an environment, got"):
        make(name)


@pytest.mark.slow
@pytest.mark.counts(faults=1)
def test_after_an_interrupt_no_thread_trains_on(tmp_path):
    command = [sys.executable, "-m", "reference_agents.jax.vmap_seeds", "--seeds", "0..1", "--out", str(tmp_path)]
    options = arguments({**SHORT, "steps": 10**7, "learning_starts": 10**6, "record_every": 500})
    process = subprocess.Popen([*command, "--", *options], stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "0" / "metrics.jsonl"
    while not metrics.exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "interrupted" in error
    size = metrics.stat().st_size
    time.sleep(1)
    assert metrics.stat().st_size == size
