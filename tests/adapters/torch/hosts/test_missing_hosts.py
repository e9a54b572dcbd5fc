"""A host module says which extra to install where its host is missing."""

import importlib
import sys

import pytest

HOSTS = {
    "lightning": "lightning",
    "rsl_rl": "rsl-rl",
    "skrl": "skrl",
    "stable_baselines3": "stable-baselines3",
    "tianshou": "tianshou",
    "torchrl": "torchrl",
    "transformers": "transformers",
}


@pytest.mark.parametrize(("host", "extra"), HOSTS.items())
def test_the_extra_of_a_missing_host_is_named(host, extra, monkeypatch):
    name = f"neuroactivity_torch.hosts.{host}"
    monkeypatch.setitem(sys.modules, host, None)
    for loaded in [each for each in sys.modules if each.startswith((f"{host}.", name))]:
        monkeypatch.delitem(sys.modules, loaded)
    with pytest.raises(ImportError, match=rf"is missing: pip install '\.\[{extra}\]' in a clone$"):
        importlib.import_module(name)
