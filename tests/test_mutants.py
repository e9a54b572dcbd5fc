"""Small faults in the code fail a test: some in one file here, all of them by ``make mutants``."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("cosmic_ray")
pytest.importorskip("coverage")


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(4, marks=pytest.mark.counts(mutants=4)),
        pytest.param(60, marks=[pytest.mark.counts(mutants=60), pytest.mark.slow]),
    ],
)
def test_small_faults_in_the_masks_are_killed(number):
    command = [sys.executable, "-m", "tests.mutation", "masks", "--sample", str(number), "--jobs", "1"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "HYPOTHESIS", "COVERAGE"))
    }
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    part, _, tried, *_ = ended.stdout.splitlines()[-1].split()
    assert (part, int(tried)) == ("masks", number)
