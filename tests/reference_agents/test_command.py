"""The command line says what is wrong in one line, and does nothing then."""

import subprocess
import sys
from pathlib import Path

import pytest

from reference_agents import agent
from reference_agents.commandline import parse as read
from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.train import Command, main

BAD = [
    (["--steps", "0"], "error: steps: expected at least 1, got 0"),
    (["--max-fraction", "2"], "error: max_fraction: expected a value from 0 to 1, got 2.0"),
    (["--steps", "many"], "error: Error parsing --steps: invalid literal for int() with base 10: 'many'"),
    (["--stps", "3"], "error: Unrecognized options: --stps, 3"),
    (["--reset", "all"], "error: invalid choice 'all' for argument '--reset'. Expected one of"),
    (["--framework", "theano"], "error: invalid choice 'theano' for argument '--framework'. Expected one of"),
    (["--env", "Nowhere-v1"], "error: env: expected the id of an environment, got 'Nowhere-v1'"),
    (["--env", "CartPole-v1"], "error: env: expected actions that are bounded vectors, got 'CartPole-v1'"),
    (["surplus"], "error: Unrecognized options: surplus"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_bad_command_gets_one_line_and_writes_nothing(arguments, message, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--out", str(tmp_path / "runs" / "run")]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert not list(tmp_path.iterdir())


def parse(args):
    return read(Command, args, prog="train")


def test_a_folder_is_required(capsys):
    assert main([]) == 2
    assert "--out" in capsys.readouterr().err


def test_an_agent_that_does_not_exist_is_refused_in_one_line(tmp_path, capfd, monkeypatch):
    agents = {("torch", "sac"): ("a", "A"), ("jax", "sac"): ("b", "B"), ("torch", "td3"): ("c", "C")}
    monkeypatch.setattr(agent, "FACTORIES", agents)
    command = ["--env", "Pendulum-v1", "--algo", "sac", "--framework", "tensorflow"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    message = "error: framework: expected one of torch, jax for sac, got 'tensorflow'\n"
    assert capfd.readouterr() == ("", message)
    assert not list(tmp_path.iterdir())


def test_a_framework_that_is_not_installed_is_refused_in_one_line(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(agent, "FACTORIES", {("jax", "sac"): ("absent_framework.sac", "SAC")})
    assert main(["--env", "Pendulum-v1", "--framework", "jax", "--out", str(tmp_path / "run")]) == 2
    message = "error: framework: 'jax' is not installed here: No module named 'absent_framework'\n"
    assert capfd.readouterr() == ("", message)
    assert not list(tmp_path.iterdir())


def test_a_module_of_our_own_that_is_missing_is_no_usage_error(monkeypatch):
    monkeypatch.setattr(agent, "FACTORIES", {("jax", "sac"): ("reference_agents.absent", "SAC")})
    with pytest.raises(ModuleNotFoundError):
        agent.make_agent(Config(framework="jax"), 3, 1)


@pytest.mark.parametrize("place", ["file", "file/run", "file/below/run"])
def test_a_folder_that_cannot_be_is_refused_in_one_line(place, tmp_path, capfd):
    (tmp_path / "file").write_text("in the way")
    assert main(["--env", "Pendulum-v1", "--out", str(tmp_path / place)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: out: expected a folder")
    assert err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "in the way"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_bad_command_exits_with_status_2_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "reference_agents.train", "--env", "Nowhere-v1", "--out", str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: env: ")
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_settings_come_from_the_command_line():
    arguments = """
        --framework torch --algo sac --env Pendulum-v1 --steps 20 --seed 3 --network mlp --activation tanh
        --reset redo --tau 0.1 --reset-every 7 --max-fraction 0.05 --learning-starts 4 --out runs/demo --resume
    """
    command = parse(arguments.split())
    assert command.config == Config(
        env="Pendulum-v1",
        steps=20,
        reset="redo",
        activation="tanh",
        seed=3,
        tau=0.1,
        reset_every=7,
        max_fraction=0.05,
        learning_starts=4,
    )
    assert command.out == Path("runs/demo")
    assert command.resume


@pytest.mark.parametrize(
    ("option", "settings"),
    [
        ("--policy-every=3", {"policy_delay": 3}),
        ("--policy_every 3", {"policy_delay": 3}),
        ("--target-rate 0.1", {"polyak": 0.1}),
        ("--entropy-every=7", {"alpha_delay": 7}),
    ],
)
def test_former_names_of_settings_go_on_working(option, settings):
    assert parse([*option.split(), "--out", "runs/demo"]).config == Config(**settings)


def test_settings_that_are_not_given_are_those_of_the_network():
    assert parse(["--network", "bronet", "--out", "runs/demo"]).config == Config(network="bronet")
    given = ["--tau", "0", "--actor-lr", "0.1", "--batch-size", "9"]
    config = parse(["--network", "bronet", *given, "--out", "runs/demo"]).config
    assert config == Config(network="bronet", tau=0.0, actor_lr=0.1, batch_size=9)


def test_every_setting_has_its_help(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in Config.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in text
    for words in ("the one setting that may be increased", "Polyak averaging", "Resume from the checkpoint"):
        assert words in " ".join(text.replace("│", " ").split())


def test_only_the_framework_that_is_chosen_is_imported():
    code = "import sys, reference_agents.train; print([m for m in ('torch', 'jax', 'tensorflow') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    with_torch = code.replace("reference_agents.train", "reference_agents.torch.sac, reference_agents.torch.td3")
    result = subprocess.run([sys.executable, "-c", with_torch], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['torch']"


def test_a_usage_error_is_a_value_error():
    assert issubclass(UsageError, ValueError)
