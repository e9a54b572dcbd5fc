"""The page on hosts: its code runs where the host is installed, and the tests that it names exist."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "hosts.md").read_text(encoding="utf-8")
BLOCKS = {
    section.splitlines()[0]: "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    for section in PAGE.split("\n## ")[1:]
    if "```python" in section
}


def skrl(folder):
    from tests.hosts.test_skrl import SequentialTrainer, make

    env, agent = make("TD3", folder)
    cfg = {"timesteps": 12, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    return {"agent": agent, "trainer": SequentialTrainer(cfg=cfg, env=env, agents=agent)}


def rsl_rl(folder):
    from tests.hosts.test_rsl_rl import make

    return {"runner": make()}


def tianshou(folder):
    from tests.hosts.test_tianshou import data, envs, make, parameters_of

    env, algorithm = make("DQN")
    buffer = data.VectorReplayBuffer(200, 1)
    params = parameters_of("DQN", env, algorithm, buffer)
    return {"algorithm": algorithm, "envs": envs.DummyVectorEnv([lambda: env]), "buffer": buffer, "params": params}


def leanrl(folder):
    from tests.hosts.test_leanrl import Agent, Critic, tensordict

    agent, actor = Agent(), nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizers = {"q_optimizer": agent.optimizer, "actor_optimizer": torch.optim.Adam(actor.parameters())}
    names = {"make_critic": Critic, "from_modules": tensordict.from_modules, "n_obs": 3, "n_act": 1}
    return {"qnet_params": agent.params, "actor": actor, **optimizers, **names}


@pytest.mark.parametrize("host", BLOCKS)
def test_the_code_of_the_page(host, tmp_path, monkeypatch):
    """What a reader has already, the page does not show: it is made here."""
    package = re.search(r"neuroactivity_torch\.hosts\.(\w+)", BLOCKS[host])
    pytest.importorskip(package[1] if package else "tensordict")
    monkeypatch.chdir(tmp_path)
    given = {"skrl": skrl, "rsl-rl": rsl_rl, "Tianshou": tianshou, "LeanRL": leanrl}.get(host, lambda folder: {})
    namespace = {"__name__": "page", **given(tmp_path)}
    exec(compile(BLOCKS[host], host, "exec"), namespace)
    for wrapper in namespace.get("attached", {}).values():
        assert wrapper.steps > 0 or host == "TorchRL"
    if host == "LeanRL":
        assert [
            namespace[name].layout["fc2" if name == "critics" else "0"].status for name in ("critics", "policy")
        ] == [
            "exclusive",
            "exclusive",
        ]


def test_the_tests_that_the_table_names_exist():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| .*\(`test_\w+`\)", line)]
    assert len(rows) == 8
    for row in rows:
        file, *names = re.findall(r"`(test_\w+)`", row)
        source = (HERE / f"{file}.py").read_text(encoding="utf-8")
        assert [name for name in names if f"def {name}(" not in source] == []
