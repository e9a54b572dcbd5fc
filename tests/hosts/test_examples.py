"""The two examples that need a host."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_stable_baselines3_with_a_callback(tmp_path: Path, capsys: pytest.CaptureFixture):
    pytest.importorskip("stable_baselines3")
    load("sb3_callback").main(["--steps", "300", "--every", "40", "--out", str(tmp_path)])
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 2 * (100 // 40)
    assert "<html" in (tmp_path / "page.html").read_text()
    assert "again" in capsys.readouterr().out


def test_sbx_attached_by_hand(capsys: pytest.CaptureFixture):
    pytest.importorskip("sbx")
    load("sbx_attach").main(["--steps", "300", "--every", "40"])
    assert "300 steps, qf" in capsys.readouterr().out
