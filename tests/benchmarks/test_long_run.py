"""Nothing grows in a long run, and two runs with one seed end alike."""

import itertools
import json
import subprocess
import sys

import pytest

from benchmarks.long_run import LEARNERS, long_run

frameworks = pytest.mark.parametrize("framework", LEARNERS)
quickest = [pytest.param(name, marks=pytest.mark.slow if name != "torch" else ()) for name in LEARNERS]


@pytest.mark.parametrize("framework", quickest)
def test_two_runs_with_one_seed_are_equal_and_nothing_grows(framework, tmp_path):
    (tenths, digest), (_, again) = (long_run(framework, steps=1000, seed=3, out=tmp_path / name) for name in "ab")
    assert digest == again
    assert (tmp_path / "a/records.jsonl").read_bytes() == (tmp_path / "b/records.jsonl").read_bytes()
    assert tenths[-1].resets > 0
    assert {tenth.compiled for tenth in tenths} == {int(framework != "torch")}
    assert tenths[-1].file_bytes == pytest.approx(10 * tenths[0].file_bytes, rel=0.05)


@pytest.mark.slow
@frameworks
def test_memory_stays_flat_for_200_000_steps(framework, tmp_path):
    command = [sys.executable, "-m", "benchmarks.long_run", "--framework", framework, "--out", str(tmp_path)]
    subprocess.run(command, check=True)
    tenths = json.loads((tmp_path / "long_run.json").read_text())["tenths"]
    assert tenths[-1]["steps"] == 200_000
    assert all(earlier["resets"] < later["resets"] for earlier, later in itertools.pairwise(tenths))
    assert tenths[-1]["mebibytes"] - tenths[1]["mebibytes"] < 8
    assert tenths[-1]["compiled"] == int(framework != "torch")
    assert tenths[-1]["file_bytes"] < 10.5 * tenths[0]["file_bytes"]
