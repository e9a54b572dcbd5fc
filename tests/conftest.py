"""What `make test` leaves out, profiles of the property tests (``HYPOTHESIS_PROFILE=long``), and memory."""

import gc
import os
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The arrays are small; the time that one example takes says nothing.
COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", max_examples=60, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=1000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

gc.disable()  # a quarter of the time that collection takes; what is collected stays anyway

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
MAPS = Path("/proc/self/maps")


def pytest_collection_modifyitems(items):
    """Of a test that is ``sampled(n)``, n cases are quick, the same ones in all of a file that have the same cases."""
    cases = defaultdict(list)
    for item in items:
        if (sampled := item.get_closest_marker("sampled")) and not item.get_closest_marker("slow"):
            cases[item.nodeid.partition("[")[0], *sampled.args].append(item)
    for (name, number), found in cases.items():
        random.Random(name.partition("::")[0]).shuffle(found)
        for item in left_out(found, number):
            item.add_marker("slow")


def left_out(items, number):
    """Choose so many cases that each value of each parameter is in as many as any other; return the rest."""
    rest, seen = list(items), Counter()
    for _ in range(min(number, len(rest))):
        chosen = min(rest, key=lambda item: sum(seen[value] for value in item.callspec.id.split("-")))
        seen.update(chosen.callspec.id.split("-"))
        rest.remove(chosen)
    return rest


def pytest_collection_finish():
    """Collect garbage again, but not in what the tests themselves are made of."""
    gc.freeze()
    gc.enable()


def pytest_runtest_logfinish():
    """Forget what JAX has compiled before Linux has no memory maps left for it: a process may have 65,530.

    `make test` compiles less, and would only compile it again.
    """
    if LONG and "jax" in sys.modules and MAPS.exists() and MAPS.read_bytes().count(b"\n") > 20_000:
        sys.modules["jax"].clear_caches()


@pytest.fixture
def optimized():
    """Let JAX optimise as it does for everybody, which `make test` has it not do: where bits are compared."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
