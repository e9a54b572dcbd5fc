"""What the tests of the agents share."""

import functools
from pathlib import Path

import pytest

from reference_agents.config import Config
from reference_agents.train import train
from tests.reference_agents.runs import SHORT


@functools.cache
def _layouts():
    """Layouts found so far, by the structure of the network."""
    return {}


@pytest.fixture
def layouts_found_once(monkeypatch):
    """Find the layout of each structure only once: it takes longer than the rest of most tests."""
    from reference_agents.torch import sac, td3

    def once(model, *inputs):
        key = (repr(model), *(tuple(value.shape) for value in inputs))
        if key not in _layouts():
            _layouts()[key] = find(model, *inputs)
        return _layouts()[key]

    find = sac.layout_of
    for module in (sac, td3):
        monkeypatch.setattr(module, "layout_of", once)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An uninterrupted run for each way to reset."""
    runs = {}

    def run(reset):
        if reset not in runs:
            runs[reset] = tmp_path_factory.mktemp("whole") / reset
            train(Config(**SHORT, reset=reset), runs[reset])
        return runs[reset]

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Agents of the tests measure every few steps, so what they reset does not last."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:.*resets do not last:neuroactivity.ActivityWarning"))
