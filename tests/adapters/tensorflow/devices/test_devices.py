"""On two replicas the outcome is that of one; each setting runs in a process of its own."""

import os
import subprocess
import sys

import pytest


def run(*cells):
    command = [sys.executable, "-m", "tests.adapters.tensorflow.devices.replicas", *cells]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def right():
    """The quick cells that are right, of one process."""
    return run("scopes", "clipped", "fit layer")


@pytest.mark.counts(ranks=2, faults=7)
def test_model_optimizer_and_wrapper_of_different_scopes_are_refused(right):
    assert "scopes" in right


@pytest.mark.counts(ranks=2, cells=1)
def test_gradients_that_each_replica_clips_are_scored_as_the_step_uses_them(right):
    assert "clipped" in right


@pytest.mark.counts(ranks=2, cells=1)
def test_replicas_stay_the_same_in_fit(right):
    assert "fit layer" in right


@pytest.mark.slow
@pytest.mark.counts(ranks=2, cells=1)
def test_the_clock_of_replicas_is_that_of_each_entry():
    assert run("clock") == ["clock"]


@pytest.mark.slow
@pytest.mark.counts(ranks=2, cells=5)
@pytest.mark.parametrize("way", ["fit", "loop", "eager"])
def test_replicas_stay_the_same_and_are_what_one_device_is(way):
    assert len(run(f"{way} *")) == 5
