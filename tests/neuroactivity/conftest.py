"""The fixture that runs a test on every array library."""

import pytest

from tests.neuroactivity.backends import BACKENDS


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request):
    """An array library, in the mode in which its tests run."""
    with request.param.active():
        yield request.param
