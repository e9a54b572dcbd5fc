"""On two replicas the outcome is that of one; each setting runs in a process of its own."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest


def run(*cells, **variables):
    """Run cells in a process of their own, with further environment variables; return what it prints."""
    command = [sys.executable, "-m", "tests.adapters.tensorflow.devices.replicas", *cells]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()


def free_ports(number):
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(number)]
        return [server.getsockname()[1] for server in held]


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
def test_only_a_measurement_sends_anything_and_each_gradient_once():
    """In a process of its own: eager collectives of several strategies get into each other's way."""
    assert run("sent") == ["sent"]


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


@pytest.mark.slow
@pytest.mark.counts(ranks=2, cells=6)
def test_workers_in_processes_of_their_own_stay_the_same_and_are_what_one_device_is():
    """In loops: `fit` of Keras itself fails under MultiWorkerMirroredStrategy."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    tasks = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in range(2)]
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda task: run("loop *", "eager layer", TF_CONFIG=task), tasks)
    assert first == second
    assert len(first) == 2 * 6  # a hash and a name
