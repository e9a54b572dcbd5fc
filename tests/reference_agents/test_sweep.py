"""A sweep runs every combination, each once, goes on where it was, and tells which runs failed."""

import json
import sys

import pytest

from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.sweep import Run, main, plan, submit
from tests.reference_agents.runs import SHORT, arguments

TINY = arguments(SHORT | {"steps": 60, "learning_starts": 40, "evaluate_every": 0, "evaluation_episodes": 1})


def test_every_combination_has_a_folder_and_the_settings_that_it_names(tmp_path):
    runs = plan(["reset=none,redo", "seed=2..4"], tmp_path, ["--env", "Hopper-v5"])
    assert [run.folder.name for run in runs] == ["none_2", "none_3", "none_4", "redo_2", "redo_3", "redo_4"]
    assert [(run.config.reset, run.config.seed) for run in runs] == [
        (reset, seed) for reset in ("none", "redo") for seed in (2, 3, 4)
    ]
    assert {run.config.env for run in runs} == {"Hopper-v5"}
    assert runs[0].command[:3] == (sys.executable, "-m", "reference_agents.train")


def test_settings_that_follow_from_what_varies_follow(tmp_path):
    mlp, bronet = plan(["network=mlp,bronet"], tmp_path)
    assert (mlp.config, bronet.config) == (Config(network="mlp"), Config(network="bronet"))
    assert mlp.config.batch_size != bronet.config.batch_size


def test_a_task_with_a_slash_is_one_folder(tmp_path):
    (run,) = plan(["env=dm_control/dog-walk-v0"], tmp_path)
    assert run.folder == tmp_path / "dm_control-dog-walk-v0"


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (["seed"], "over: expected a setting and its values"),
        (["=1"], "over: expected a setting and its values"),
        (["seed=1,,2"], "over: seed: expected values"),
        (["seed=4..0"], "over: seed: expected values"),
        (["framework=jax,torch", "algo=dacer"], "framework: expected one of jax for dacer, got 'torch'"),
        (["seed=1,1"], "each once"),
        (["seed=0..2,1"], "each once"),
        (["seed=1", "seed=2"], "over: expected each setting once"),
        (["reset=none,often"], "often"),
        (["colour=red"], "--colour=red"),
        (["tau=-1"], "tau: expected at least 0"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_has_begun(over, message, tmp_path, capsys):
    out = tmp_path / "sweep"
    assert main(["--over", *over, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(("options", "message"), [(["--jobs", "0"], "jobs:"), (["--options", "x"], "options:")])
def test_bad_options_are_refused(options, message, tmp_path, capsys):
    cluster = ["--cluster", "local"] if options[0] == "--options" else []
    assert main(["--over", "seed=0", "--out", str(tmp_path), *cluster, *options]) == 2
    assert message in capsys.readouterr().err


def test_another_run_in_a_folder_is_refused(tmp_path):
    folder = tmp_path / "0"
    folder.mkdir()
    (folder / "config.json").write_text(Config(env="Hopper-v5").to_json())
    with pytest.raises(UsageError, match="env: expected 'Hopper-v5' as in the run to resume"):
        plan(["seed=0"], tmp_path, ["--env", "Ant-v5"])


@pytest.mark.slow
def test_a_sweep_goes_on_with_what_is_not_finished_and_tells_what_failed(tmp_path, capfd):
    command = ["--over", "env=InvertedPendulum-v5,Nowhere-v1", "--out", str(tmp_path), "--jobs", "2", "--", *TINY[1:]]
    assert main(command) == 1
    assert json.loads((tmp_path / "InvertedPendulum-v5" / "summary.json").read_text())["updates"] == 20
    assert "agent" in (tmp_path / "InvertedPendulum-v5.log").read_text()
    printed = capfd.readouterr()
    assert "2 of 2 runs to do" in printed.out
    assert "failed" in printed.err
    assert "expected the id of an environment, got 'Nowhere-v1'" in printed.err
    command[1] = "env=InvertedPendulum-v5"
    assert main(command) == 0
    assert "0 of 1 runs to do" in capfd.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_runs_are_handed_to_a_scheduler(tmp_path):
    files = [tmp_path / "first", tmp_path / "second"]
    runs = [Run(Config(), file, ("touch", str(file))) for file in files]
    for job in submit(runs, tmp_path / "submitit", "local", {"timeout_min": 1}):
        job.result()
    assert all(file.exists() for file in files)


def test_an_unknown_scheduler_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cluster: .*abacus"):
        submit([], tmp_path, "abacus", {})
