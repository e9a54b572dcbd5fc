"""The fixture that runs a test on every array library."""

import pytest

from tests.neuroactivity.backends import BACKENDS
from tests.neuroactivity.cases import VARIED


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request):
    """An array library, in the mode in which its tests run."""
    with request.param.active():
        yield request.param


def pytest_collection_modifyitems(items):
    """JAX one operation at a time compiles each for itself: a few layouts, and the rest in the slow tests."""
    for item in items:
        chosen = item.callspec.params if hasattr(item, "callspec") else {}
        if chosen.get("case", VARIED[0]) not in VARIED and getattr(chosen.get("backend"), "name", "") == "jax":
            item.add_marker(pytest.mark.slow)
