"""The command prints what the comparison found, writes it to files, and says what is wrong in one line."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from reference_agents.compare.__main__ import main
from reference_agents.compare.report import CAUTION
from tests.reference_agents.compare.run_folders import DOG, HIGH, LOW, PENDULUM, WALKER, write, write_group


def run(*arguments):
    return main([*map(str, arguments), "--resamples", "500"])


def test_neurons_that_were_reset_and_that_are_inactive_at_the_end(tmp_path, capsys):
    shares = {"inactive/actor/a": 0.5, "inactive/actor/b": None, "inactive/critic1/a": 0.1, "dormant/actor/a": 0.9}
    counts = {"measured_again": 800, "reset_again": 200}
    for seed in range(2):
        write(tmp_path / f"old{seed}", seed=seed, reset="none")
        write(tmp_path / f"new{seed}", seed=seed, activity=counts | {"neurons_reset": 1000 * (seed + 1)} | shares)
    assert main([str(tmp_path), "--resamples", "10"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^  reset=none +- +- +-$", printed, re.MULTILINE)
    assert re.search(
        r"^  reset=regrama +1,500 \[1,000 to 2,000\]  75% \[75% to 75%\]  30.0% \[30.0% to 30.0%\]$",
        printed,
        re.MULTILINE,
    )


def test_a_run_that_is_left_out_is_named_with_the_reason(tmp_path, capsys):
    one, other = write_group(tmp_path, "run", [90, 100])
    (other / "summary.json").unlink()
    assert run(tmp_path) == 0
    out = capsys.readouterr().out
    assert re.search(
        rf"^left out\n  {re.escape(str(other))}  unfinished: recorded up to step 400 of 400$", out, re.MULTILINE
    )
    assert re.search(r"^  all runs +1 +1 +90\.0 \[one seed\]", out, re.MULTILINE)
    assert str(one) not in out


@pytest.mark.parametrize("text", ["", "[]", '{"stops": 3}', None])
def test_settings_that_cannot_be_read_are_an_error(text, tmp_path, capsys):
    write(tmp_path / "whole")
    path = write(tmp_path / "broken")
    (path / "config.json").unlink()
    if text is not None:
        (path / "config.json").write_text(text)
    assert run(tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: runs: expected the settings of a run in {path / 'config.json'}: ")
    assert err.count("\n") == 1


def test_the_report_and_the_files_say_what_was_found(tmp_path, capsys, monkeypatch):
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), savefig(self, *a, **k))[1])
    for reset, finals in (("none", LOW), ("regrama", HIGH)):
        write_group(tmp_path / "runs", reset, finals, reset=reset)
        write_group(tmp_path / "runs", f"{reset}-walker", finals, reset=reset, env=WALKER, steps=300)
    write(tmp_path / "runs" / "single", reset="redo", seed=0)
    out = tmp_path / "below" / "comparison"
    assert run(tmp_path / "runs", "--out", out) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  group +seeds +left out +final +step 100 +step 200 +step 300$", text, re.MULTILINE)
    assert re.search(r"^  reset=none +5 +0 +3\.0 \[1\.\d, 4\.\d\] +0\.8 +1\.5 +2\.2$", text, re.MULTILINE)
    assert re.search(r"^  reset=redo +1 +0 +100\.0 \[one seed\] +25\.0 +50\.0 +75\.0$", text, re.MULTILINE)
    assert re.search(
        r"^  reset=none > reset=regrama +0\.00 \[0\.00, 0\.00\]  on 2 tasks  reset=regrama does better$",
        text,
        re.MULTILINE,
    )
    assert re.search(r"^  reset=none > reset=redo .* no claim: fewer than 5 seeds$", text, re.MULTILINE)
    assert "no mean over all tasks: they have no scale in common" in text
    assert " ".join(text.split("\n\n")[-1].split()) == CAUTION

    saved = json.loads((out / "comparison.json").read_text())
    assert set(saved) == {"cells", "overall", "pairs", "left_out", "caution"}
    cell = next(cell for cell in saved["cells"] if cell["group"] == "reset=regrama" and cell["task"] == PENDULUM)
    assert cell["seeds"] == [0, 1, 2, 3, 4]
    assert [returns[-1] for returns in cell["returns"]] == HIGH
    assert cell["curve"][-1]["value"] == 12
    assert [point["low"] for cell in saved["cells"] if len(cell["seeds"]) == 1 for point in cell["curve"]] == [None] * 4

    panels = {axes.get_title("left") or axes.get_title(): axes for axes in figures[0].axes}
    assert set(panels) == {PENDULUM, WALKER}
    lines = {line.get_label(): line.get_xydata() for line in panels[PENDULUM].lines}
    assert set(lines) == {"reset=none", "reset=redo", "reset=regrama"}
    np.testing.assert_allclose(lines["reset=regrama"], [[100, 3], [200, 6], [300, 9], [400, 12]])
    assert len({line.get_color() for line in panels[PENDULUM].lines}) == 3
    walker = {line.get_label(): line.get_xydata() for line in panels[WALKER].lines}
    assert set(walker) == {"reset=none", "reset=regrama"}
    np.testing.assert_allclose(walker["reset=none"], [[100, 1], [200, 2], [300, 3]])
    assert imread(out / "learning_curves.png").shape[1] == 1500


def test_the_tasks_of_the_suite_get_a_mean(tmp_path, capsys):
    for env in (WALKER, DOG):
        write_group(tmp_path, env, [100, 200, 300], env=env)
    assert run(tmp_path) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  all runs  0\.200 \[0\.1\d\d, 0\.2\d\d\]$", text, re.MULTILINE)
    write_group(tmp_path, "partly", [1, 2], reset="none", env=DOG)
    assert run(tmp_path) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  reset=regrama +0\.200 .*\n  reset=none +-$", text, re.MULTILINE)
    for path in tmp_path.glob("partly*"):
        shutil.rmtree(path)
    write(tmp_path / "fourth", env=DOG, seed=3)
    assert run(tmp_path) == 0
    assert "no mean over all tasks: no group has as many seeds on every task" in capsys.readouterr().out


def test_a_long_curve_is_shown_at_a_few_steps(tmp_path, capsys):
    write(tmp_path / "run", steps=2_000, evaluate_every=100)
    assert run(tmp_path) == 0
    assert re.search(r"final +step 500 +step 1,000 +step 1,500$", capsys.readouterr().out, re.MULTILINE)


def test_a_run_with_no_evaluation_but_the_last_is_shown_and_drawn(tmp_path, capsys):
    write(tmp_path / "run", evaluate_every=0)
    assert run(tmp_path, "--out", tmp_path) == 0
    assert re.search(r"^  all runs +1 +0 +100\.0 \[one seed\]$", capsys.readouterr().out, re.MULTILINE)


def test_a_group_without_a_run_left_is_shown_and_drawn(tmp_path, capsys):
    write_group(tmp_path, "none", HIGH, reset="none")
    write(tmp_path / "other", finished=False)
    assert run(tmp_path, "--out", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert re.search(r"^  reset=regrama +0 +1 +-$", out, re.MULTILINE)
    assert re.search(r"^  reset=none > reset=regrama +- .* not compared: no task with runs of both$", out, re.MULTILINE)


BAD = [
    ([], "error: runs: expected folders of runs, got none"),
    (["nowhere"], "error: runs: expected folders of runs, got 'nowhere', where there is nothing"),
    (["no*where"], "error: runs: expected folders of runs, got 'no*where', where there is nothing"),
    (["empty"], "error: runs: expected folders of runs, got none"),
    (["run", "--resamples", "0"], "error: resamples: expected at least 1, got 0"),
    (["run", "--seed", "-1"], "error: seed: expected at least 0, got -1"),
    (["run", "--out", "file"], "error: out: expected a folder to write to, got file: File exists"),
    (["run", "--out", "file/below"], "error: out: expected a folder to write to, got file/below: Not a directory"),
    (["run", "--ouch", "file"], "error: Unrecognized options: --ouch, file"),
    (["run", "--resamples", "x"], "error: Error parsing --resamples: invalid literal for int() with base 10: 'x'"),
    (["run", "copy"], "error: runs: expected a seed once in a group, got 0 in run and copy"),
    (
        ["unfinished"],
        "error: runs: expected a finished run, got unfinished (unfinished: recorded up to step 400 of 400)",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_bad_command_gets_one_line_and_status_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "run")
    write(tmp_path / "copy")
    write(tmp_path / "unfinished", finished=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert err == message + "\n"
    assert out == ""
    assert (tmp_path / "file").read_text() == "in the way"


def test_it_runs_as_a_module(tmp_path):
    write(tmp_path / "run")
    command = [sys.executable, "-m", "reference_agents.compare", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"{PENDULUM}: return")
    result = subprocess.run([*command, "nowhere"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def test_an_ascii_terminal_gets_one_line_too(tmp_path):
    command = [sys.executable, "-m", "reference_agents.compare", "--seed", "x"]
    surroundings = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings)
    assert result.stderr == "error: Error parsing --seed: invalid literal for int() with base 10: 'x'\n"


def test_every_option_has_its_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in ("Run folders", "comparison.json", "Bootstrap resamples", "Seed of the bootstrap"):
        assert words in text
