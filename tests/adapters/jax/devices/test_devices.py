"""On eight devices the outcome is that of one, and little is sent; each setting runs in a process of its own."""

import os
import subprocess
import sys

import pytest

from tests.adapters.jax.devices import cells as _cells  # noqa: F401 - a broken import shows here, not in a process
from tests.adapters.jax.releases import AxisType

FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
pytestmark = pytest.mark.skipif(AxisType is None, reason="needs JAX 0.7 or newer")
ON_EIGHT = pytest.mark.counts(ranks=8)


def run(program, *arguments):
    """Run one of the programs beside this file, and return what it prints."""
    command = [sys.executable, "-m", f"tests.adapters.jax.devices.{program}", *arguments]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}",
    }
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.strip()


@pytest.mark.counts(ranks=8, cells=1)
def test_sharding_of_data_and_neurons_changes_nothing():
    assert run("cells", "explicit both run") == "1 cells are right"


@pytest.mark.counts(ranks=8, cells=1)
def test_copies_on_all_devices_stay_the_same_under_shard_map():
    assert run("cells", "shard_map checked run") == "1 cells are right"


@pytest.mark.counts(ranks=8, faults=8)
def test_what_shard_map_divides_or_does_not_reduce_is_refused():
    assert run("divided") == "8 refusals"


@ON_EIGHT
def test_a_step_between_two_measurements_sends_nothing_and_a_measurement_as_much_as_there_are_neurons():
    assert run("collectives", "automatic both measuring") == "1 programs send little"


@pytest.mark.slow
@pytest.mark.counts(ranks=8, cells=8)
@pytest.mark.parametrize("kind", ["regrama", "drawn", "run", "batches", "redo"])
def test_every_sharding_changes_nothing(kind):
    assert run("cells", f"automatic * {kind}", f"explicit * {kind}") == "8 cells are right"


@pytest.mark.slow
@pytest.mark.counts(ranks=8, cells=26)
def test_pmap_shard_map_and_uncompiled_steps_change_nothing():
    assert run("cells", "pmap *", "shard_map *", "members *", "uncompiled *") == "26 cells are right"


@pytest.mark.slow
@pytest.mark.counts(ranks=8, cells=20)
def test_no_sharding_sends_parameters_but_the_rows_of_a_snapshot():
    meshes = [f"{kind} {name}" for kind in ("automatic", "explicit") for name in ("data", "model", "both", "zero")]
    programs = [f"{mesh} {wrapper}" for mesh in meshes for wrapper in ("measuring", "resetting")]
    programs += [f"{kind} {name} snapshot" for kind in ("automatic", "explicit") for name in ("model", "both")]
    assert run("collectives", *programs) == "20 programs send little"
