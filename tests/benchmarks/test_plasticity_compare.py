"""Experiments beside each other: the table, the picture, and what cannot be compared."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.plasticity import compare
from benchmarks.plasticity.experiment import Experiment, Outcome
from benchmarks.plasticity.record import write

NONE = Experiment(reset="none", seeds=6, phases=3)


def outcome(returns, resets=0):
    """What six seeds got in each of three phases, all seeds alike but for a tenth."""
    values = np.array(returns) + np.arange(6)[:, None] / 10
    counts = np.full((6, 3), resets)
    return Outcome(
        values, *(np.full((6, 3), value) for value in (0.25, 3, 9)), counts, counts, counts // 4, np.zeros((6, 3, 20))
    )


@pytest.fixture
def files(tmp_path):
    for name, one, found in (
        ("none", NONE, outcome([3.0, 1.0, 1.0])),
        ("regrama", replace(NONE, reset="regrama"), outcome([3.0, 2.0, 4.0], resets=8)),
        ("others", replace(NONE, seed=9), outcome([3.0, 1.0, 1.0])),
    ):
        write(one, found, tmp_path / f"{name}.json")
    return {path.stem: str(path) for path in sorted(tmp_path.glob("*.json"))}


def test_runs_are_compared_with_the_first_one_from_a_phase_on(files, capsys):
    """Six seeds of which each is better: of 64 choices of signs, two are as far from zero."""
    assert compare.main([files["none"], files["regrama"], "--failed", "1.25"]) == 0
    header, _, none, regrama = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "run"
    assert none.split()[:2] + none.split()[5:] == ["none", "1.25", "1,", "1.5", "25%", "6", "of", "12"]
    ours = ["regrama", "3.25", "3,", "3.5", "25%", "0", "of", "12", "24", "75%", "0.031"]
    assert regrama.split()[:2] + regrama.split()[5:] == ours
    assert compare.main([files["none"], files["regrama"], "--first", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[1] == "4.25"


def test_the_picture_has_a_line_for_each_run(files, tmp_path):
    paths = [tmp_path / "none.json", tmp_path / "regrama.json"]
    returns, inactive = compare.draw(compare.read_all(paths)).axes
    assert [line.get_label() for line in returns.lines] == ["none", "regrama"]
    np.testing.assert_allclose(returns.lines[1].get_ydata(), [3.25, 2.25, 4.25])
    np.testing.assert_allclose(inactive.lines[0].get_ydata(), 0.25)
    assert compare.main([*map(str, paths), "--out", str(tmp_path / "picture.png")]) == 0
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none"], "runs: expected 2 to 8 files, got 1"),
        (["none", "none"], "runs: expected files of different names"),
        (["none", "others"], "runs: others has other seeds or phases than none"),
        (["none", "regrama", "--first", "4"], "first: expected 1 to 3, got 4"),
    ],
)
def test_what_cannot_be_compared_is_named(files, args, message, capsys):
    assert compare.main([files.get(arg, arg) for arg in args]) == 2
    assert message in capsys.readouterr().err
