"""A shortened run of each agent with each network: it learns, is measured, is reset, and survives a break."""

import copy

import pytest

from reference_agents.agent import FACTORIES
from reference_agents.config import Config
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from reference_agents.train import train
from tests.reference_agents.runs import PowerFailureError, break_at_record, records, summary, untimed

pytestmark = [
    pytest.mark.usefixtures("layouts_found_once"),
    pytest.mark.filterwarnings("ignore:.*resets do not last"),
]

QUICK = ("torch", "td3", "mlp")
AGENTS = [(framework, algo, "mlp") for framework, algo in FACTORIES]
AGENTS += [(framework, algo, "bronet") for framework, algo in FACTORIES if algo in ("sac", "td3")]
AGENTS = [pytest.param(*agent, marks=[pytest.mark.slow] * (agent != QUICK)) for agent in AGENTS]
ON_LARGE_TASKS = [
    pytest.param(env, *agent, marks=[pytest.mark.slow] * ((env, agent) != ("humanoid-walk", ("torch", "td3"))))
    for env in ("dog-walk", "humanoid-walk")
    for agent in FACTORIES
    if agent[1] != "drqv2"  # whose images take a machine that draws them
]
SHORTENED = {
    "env": "InvertedPendulum-v5",
    "steps": 260,
    "learning_starts": 60,
    "replay_ratio": 1,
    "width": 16,
    "batch_size": 32,
    "reset_every": 24,
    "tau": 0.2,
    "record_every": 50,
    "evaluate_every": 0,
    "evaluation_episodes": 2,
    "checkpoint_every": 60,
}
SEEN = {"env": "Pendulum-v1", "image_size": 15}  # which needs nothing to draw it


def torch_parameters(agent):
    """Copies of every parameter of the networks that are trained, by name."""
    networks = {name: getattr(agent, name) for name in ("actor", "critics", "critic") if hasattr(agent, name)}
    return {
        f"{name}.{key}": copy.deepcopy(value.detach().numpy())
        for name, network in networks.items()
        for key, value in network.named_parameters()
    }


def jax_parameters(agent):
    """The same for an agent in JAX."""
    from tests.reference_agents.jax.cases import parts

    return {name: value for name, value in parts(agent).items() if not name.startswith("target")}


def tensorflow_parameters(agent):
    """The same for an agent in TensorFlow."""
    from tests.reference_agents.tensorflow.cases import parts

    return {name: value for name, value in parts(agent).items() if not name.startswith("target")}


PARAMETERS = {"torch": torch_parameters, "jax": jax_parameters, "tensorflow": tensorflow_parameters}


@pytest.fixture
def compiled_once(framework):
    """Spend little time on the compilation of JAX agents."""
    if framework != "jax":
        yield
        return
    from tests.reference_agents.jax import cases as jax_cases

    with jax_cases.compiled_once():
        yield


def learned(config, out):
    """Train, check that the run has learned, measured and reset, and return its summary."""
    train(config, out)
    final = summary(out)
    critics = ("critic",) if config.algo == "drqv2" else ("critic1", "critic2")
    actor_steps = 200 if config.algo in ("sac", "drqv2") else 100
    assert final["updates"] == 200
    assert final["measurements"] == actor_steps // 24 + len(critics) * (200 // 24)
    assert 0 < final["resets"] <= final["measurements"]
    assert final["neurons_reset"] >= final["resets"]
    assert all(records(out)[-1][f"neurons_reset/{name}"] for name in ("actor", *critics))
    return final


@pytest.mark.sampled(1)
@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize("framework", ["jax", "tensorflow"])
def test_a_shortened_run_learns_measures_and_resets(framework, tmp_path):
    """Compiled once; the slow tests break it off and compile it again."""
    learned(Config(**SHORTENED, framework=framework, algo="sac", network="mlp"), tmp_path)


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(("framework", "algo", "network"), AGENTS)
def test_a_shortened_run_learns_measures_resets_and_survives_a_break(framework, algo, network, tmp_path, monkeypatch):
    settings = SHORTENED | (SEEN if algo == "drqv2" else {})
    config = Config(**settings, framework=framework, algo=algo, network=network)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    final = learned(config, whole)
    with monkeypatch.context() as patch:
        break_at_record(patch, 4)
        with pytest.raises(PowerFailureError):
            train(config, broken)
    training = Training(config, RunFolder(broken))
    first = PARAMETERS[framework](training.agent)
    training.restore()
    for name, value in PARAMETERS[framework](training.agent).items():
        assert (value != first[name]).any(), name
    assert 0 < training.summary()["neurons_reset"] < final["neurons_reset"]  # resets before the break, and after it
    train(config, broken, resume=True)
    assert untimed(broken) == untimed(whole)  # the same seed gave the same records too
    assert summary(broken) == final


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(("env", "framework", "algo"), ON_LARGE_TASKS)
def test_agents_learn_on_the_large_tasks_of_the_control_suite(env, framework, algo, tmp_path):
    settings = SHORTENED | {
        "env": f"dm_control/{env}-v0",
        "steps": 300,
        "learning_starts": 200,
        "evaluation_episodes": 1,
    }
    config = Config(**settings, framework=framework, algo=algo)
    training = Training(config, RunFolder(tmp_path))
    first = PARAMETERS[framework](training.agent)
    training.run()
    for name, value in PARAMETERS[framework](training.agent).items():
        assert (value != first[name]).any(), name
    last = records(tmp_path)[-1]
    actor_steps = 100 if algo == "sac" else 50
    assert (last["step"], last["updates"]) == (300, 100)
    assert last["measurements"] == actor_steps // 24 + 2 * (100 // 24)
    assert 0 < last["resets"] <= last["measurements"]
    assert last["neurons_reset"] >= last["resets"]
    assert all(last[f"neurons_reset/{name}"] for name in ("actor", "critic1", "critic2"))
    assert last["loss/critic"] > 0
