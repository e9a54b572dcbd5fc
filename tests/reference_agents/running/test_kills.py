"""A run that is killed at any moment leaves no corrupt file, and goes on to the same numbers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from reference_agents.agent import FACTORIES
from reference_agents.config import Config
from reference_agents.running.files import DRAFT
from reference_agents.running.folder import RunFolder
from reference_agents.running.recording import read_records
from reference_agents.train import train
from tests.reference_agents.runs import SHORT, arguments, summary, untimed

AGENTS = [(framework, algo, "bronet" if algo == "td3" else "mlp") for framework, algo in FACTORIES]
SEEN = {"env": "Pendulum-v1", "image_size": 15}


def start(settings, out, sabotage="pass"):
    """Start a training, or go on with it, in a process of its own."""
    code = (
        "import sys; from reference_agents.train import main; from tests.reference_agents.running import sabotage; "
        f"{sabotage}; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, *arguments(settings), "--out", str(out), "--resume"]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def wait_for(condition, process):
    """Wait until a condition holds or the process ends."""
    deadline = time.monotonic() + 300
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def check_files(out, config):
    """Every file is whole, but for a last record that may be cut short."""
    folder = RunFolder(out)
    if folder.config.exists():
        assert Config.from_json(folder.config.read_text()) == config
    if folder.checkpoint.exists():
        assert folder.load_checkpoint()[0]["step"] > 0
    if folder.summary.exists():
        assert json.loads(folder.summary.read_text())["step"] == config.steps
    if folder.metrics.exists():
        for line in folder.metrics.read_text().splitlines(keepends=True):
            assert not line.endswith("\n") or json.loads(line)["step"] > 0
    if folder.plot.exists():
        assert folder.plot.read_bytes().endswith(b"IEND\xaeB`\x82")


def check_same(out, whole):
    """The run has come to the same records and the same end as the other, and left nothing else."""
    assert untimed(out) == untimed(whole)
    assert summary(out) == summary(whole)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.slow
def test_a_run_killed_outright_resumes(whole, tmp_path):
    process = start(SHORT, tmp_path / "run")
    wait_for((tmp_path / "run" / "checkpoint.npz").exists, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    check_files(tmp_path / "run", Config(**SHORT))
    train(Config(**SHORT), tmp_path / "run", resume=True)
    check_same(tmp_path / "run", whole("regrama"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sabotage", "name", "count"),
    [
        ("kill_before_replacing", "config.json", 1),
        ("kill_before_replacing", "metrics.jsonl", 1),
        ("kill_before_replacing", "checkpoint.npz", 1),
        ("kill_before_replacing", "checkpoint.npz", 3),
        ("kill_before_replacing", "activity.png", 1),
        ("kill_before_replacing", "summary.json", 1),
        ("kill_while_writing", DRAFT.format("checkpoint.npz"), 2),
        ("kill_while_writing", "metrics.jsonl", 6),
    ],
)
def test_a_run_killed_while_it_writes_resumes(whole, tmp_path, sabotage, name, count):
    process = start(SHORT, tmp_path / "run", f"sabotage.{sabotage}({name!r}, {count})")
    assert process.wait() == -signal.SIGKILL
    check_files(tmp_path / "run", Config(**SHORT))
    if sabotage == "kill_before_replacing":
        assert (tmp_path / "run" / DRAFT.format(name)).exists()
    train(Config(**SHORT), tmp_path / "run", resume=True)
    check_same(tmp_path / "run", whole("regrama"))


def killed_at_a_random_moment(settings, out, rng):
    """Start a training or go on with it, kill it soon after it has begun, if at all, and say whether that was so."""

    def version():
        return metrics.stat().st_mtime_ns if metrics.exists() else None

    metrics = out / "metrics.jsonl"
    before, process = version(), start(settings, out)
    wait_for(lambda: version() != before, process)
    if rng is not None:
        time.sleep(rng.uniform(0.05, 1.5))
        process.kill()
    status = process.wait()
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:neurons could not be judged")  # DrQ-v2's encoder soon has no gradient at all here
@pytest.mark.parametrize(("framework", "algo", "network"), AGENTS)
def test_a_run_killed_again_and_again_at_random_moments_comes_to_the_same_end(framework, algo, network, tmp_path):
    chosen = {"framework": framework, "algo": algo, "network": network, "replay_ratio": 1}
    settings = SHORT | {"checkpoint_every": 50, "reset_every": 40} | chosen | (SEEN if algo == "drqv2" else {})
    config, out = Config(**settings), tmp_path / "run"
    train(config, tmp_path / "whole")
    rng, kills = np.random.default_rng(len(network) + len(algo)), 0
    while not (out / "summary.json").exists():
        kills += killed_at_a_random_moment(settings, out, rng if kills < 4 else None)
        check_files(out, config)
    assert kills
    check_same(out, tmp_path / "whole")
    assert read_records(out / "metrics.jsonl")[-1]["resets"] > 0
