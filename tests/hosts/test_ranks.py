"""A host's two ranks stay the same through resets."""

import json
import os
import socket
import subprocess
import sys

import pytest


def on_two_ranks(host, folder):
    """Return what each rank says of itself, for each way to reset."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"TORCHELASTIC_RUN_ID": "ranks", "GROUP_RANK": "0", "OMP_NUM_THREADS": "1"}  # as torchrun sets them
    shared |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.hosts.ranks", host, str(folder)],
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    ended = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors[-2000:] for _, errors in ended)
    return [[json.loads(line) for line in lines.splitlines() if line.startswith('{"counts"')] for lines, _ in ended]


@pytest.mark.counts(ranks=4, cells=2)
@pytest.mark.parametrize("host", ["lightning", "transformers"])
def test_two_ranks_measure_reset_and_end_alike(host, tmp_path):
    pytest.importorskip(host)
    one, other = on_two_ranks(host, tmp_path)
    assert one == other
    assert len(one) == 2
    for outcome in one:
        steps, measurements, neurons_reset = outcome["counts"]
        assert (steps, measurements) == (8, 4)
        assert neurons_reset > 10
    if host == "transformers":
        assert len(list(tmp_path.glob("checkpoint-*/neuroactivity.pt"))) == 3
