"""Every example trains, measures and resets, and leaves its pictures. ``pytest`` runs them short."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
pytest.importorskip("gymnasium")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sac_in_pytorch(tmp_path: Path):
    arguments = "--steps 60 --learning-starts 20 --every 20 --tau 0.3 --out"
    agent = load("sac_torch").main([*arguments.split(), str(tmp_path)])
    assert [regrama.steps for regrama in agent.regrama.values()] == [40, 40]
    assert [regrama.measurements for regrama in agent.regrama.values()] == [2, 2]
    assert all(regrama.neurons_reset > 0 for regrama in agent.regrama.values())
    assert (tmp_path / "activity.png").stat().st_size > 10_000


@pytest.mark.slow
def test_td3_in_jax(tmp_path: Path):
    arguments = "--steps 60 --learning-starts 20 --every 20 --tau 0.3 --out"
    agent = load("td3_jax").main([*arguments.split(), str(tmp_path)])
    assert (int(agent.state.critic_state.steps), int(agent.state.actor_state.steps)) == (40, 20)
    assert (int(agent.state.critic_state.measurements), int(agent.state.actor_state.measurements)) == (2, 1)
    assert agent.state.critic_state.neurons_reset > 0
    assert (tmp_path / "activity.png").stat().st_size > 10_000


def test_dqn_in_keras(tmp_path: Path):
    arguments = "--steps 60 --learning-starts 20 --every 20 --tau 0.3 --out"
    agent = load("dqn_keras").main([*arguments.split(), str(tmp_path)])
    assert int(agent.optimizer.steps) == 40
    assert len(agent.reports) == 2
    assert int(agent.optimizer.neurons_reset) > 0
    assert (tmp_path / "activity.png").stat().st_size > 10_000


def test_ppo_in_pytorch_with_scores_of_an_epoch(tmp_path: Path):
    trainer = load("ppo_torch").main(["--updates", "2", "--every", "1", "--tau", "0.3", "--out", str(tmp_path)])
    assert trainer.regrama.steps == 2 * 4 * 8
    assert trainer.regrama.measurements == len(trainer.reports) == 2
    assert trainer.regrama.neurons_reset > 0
    assert (tmp_path / "activity.png").stat().st_size > 10_000


def test_gpt_in_pytorch_is_measured_and_never_reset(tmp_path: Path):
    monitor = load("gpt_torch").main(["--steps", "8", "--every", "4", "--out", str(tmp_path)])
    assert (monitor.steps, monitor.measurements, monitor.resets) == (8, 2, 0)
    assert {group.status for group in monitor.last_report.groups} == {"listed"}
    assert (tmp_path / "activity.png").exists()
    assert (tmp_path / "scores.png").exists()


@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_added_lines_are_marked_and_files_are_short(example: str):
    text = (EXAMPLES / f"{example}.py").read_text()
    assert "# <- neuroactivity" in text
    assert len(text.splitlines()) <= 260
