"""The page on hosts: its code runs where the host is installed, and the tests that it names exist."""

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("host", BLOCKS)
def test_the_code_of_the_page(host, tmp_path, monkeypatch):
    """What a reader has already, the page does not show: it is made here."""
    package = re.search(r"neuroactivity_torch\.hosts\.(\w+)", BLOCKS[host])[1]
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    given = {each.__name__: each for each in (skrl, rsl_rl, tianshou)}.get(package)
    namespace = {"__name__": "page", **(given(tmp_path) if given else {})}
    exec(compile(BLOCKS[host], host, "exec"), namespace)
    for wrapper in namespace.get("attached", {}).values():
        assert wrapper.steps > 0 or host == "TorchRL"


def test_the_tests_that_the_table_names_exist():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| .*\(`test_\w+`\)", line)]
    assert len(rows) == 7
    for row in rows:
        file, *names = re.findall(r"`(test_\w+)`", row)
        source = (HERE / f"{file}.py").read_text(encoding="utf-8")
        assert [name for name in names if f"def {name}(" not in source] == []
