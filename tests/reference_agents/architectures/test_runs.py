"""Agents with an MLP with LayerNorm, SimBa and attention: they learn, are measured and are reset."""

import numpy as np
import pytest

from reference_agents.config import Config
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from tests.reference_agents.architectures.cases import ALL, FRAMEWORKS, KINDS, WIDE, WIDTH, common, expected, plain
from tests.reference_agents.cases import batch
from tests.reference_agents.runs import records
from tests.reference_agents.test_combinations import PARAMETERS, SHORTENED

pytestmark = pytest.mark.filterwarnings("ignore:.*resets do not last")


@pytest.fixture
def compiled_once(framework):
    """Spend little time on the compilation of JAX agents."""
    if framework != "jax":
        yield
        return
    from tests.reference_agents.jax import cases as jax_cases

    with jax_cases.compiled_once():
        yield


QUICK = ("torch", "sac", "attention")
RUNS = [
    pytest.param(framework, algo, kind, marks=[pytest.mark.slow] * ((framework, algo, kind) != QUICK))
    for framework in FRAMEWORKS
    for algo in ("sac", "td3")
    for kind in ALL
]


@pytest.mark.usefixtures("compiled_once", "layouts_found_once")
@pytest.mark.parametrize(("framework", "algo", "kind"), RUNS)
def test_agents_learn_are_measured_and_reset(framework, algo, kind, tmp_path):
    settings = SHORTENED | {"steps": 160, "depth": 1, "tau": 0.5, "checkpoint_every": 1_000, "evaluation_episodes": 1}
    config = Config(**settings, framework=framework, algo=algo, network=kind)
    training = Training(config, RunFolder(tmp_path))
    first = PARAMETERS[framework](training.agent)
    training.run()
    for name, value in PARAMETERS[framework](training.agent).items():
        assert (value != first[name]).any(), name
        assert np.isfinite(value).all(), name
    last = records(tmp_path)[-1]
    actor_steps = 100 if algo == "sac" else 50
    assert (last["step"], last["updates"]) == (160, 100)
    assert last["measurements"] == actor_steps // 24 + 2 * (100 // 24)
    assert last["resets"] == last["measurements"]
    assert all(last[f"neurons_reset/{name}"] for name in ("actor", "critic1", "critic2"))
    fractions = {name: value for name, value in last.items() if name.startswith("inactive/")}
    assert {plain(name.split("/", 2)[2]) for name in fractions if "/actor/" in name} == set(
        expected(kind, 1, {"mean": 1, "log_std": 1} if algo == "sac" else {"head": 1})
    )
    assert all(0 <= value <= 1 for value in fractions.values())


def agent_of(framework, algo, **settings):
    if framework == "torch":
        from tests.reference_agents.torch.cases import agent_of as make
    elif framework == "jax":
        from tests.reference_agents.jax.cases import agent_of as make
    else:
        from tests.reference_agents.tensorflow.cases import agent_of as make
    return make(algo, **settings)


CASES = [
    pytest.param(framework, kind, marks=[pytest.mark.slow] * ((framework, kind) != ("torch", "attention")))
    for framework in FRAMEWORKS
    for kind in KINDS
]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once", "layouts_found_once")
@pytest.mark.parametrize(("framework", "kind"), CASES)
def test_a_reset_draws_from_the_initial_distribution(framework, kind):
    settings = {"width": 64, "depth": 1, "tau": 1e9, "max_fraction": 0.5, "reset_every": 2, "policy_delay": 1}
    agent = agent_of(framework, "td3", network=kind, **settings, actor_lr=0.0, critic_lr=0.0)  # only resets move
    before = PARAMETERS[framework](agent)
    agent.update(batch(0))
    agent.update(batch(1))
    for name, value in PARAMETERS[framework](agent).items():
        layer, leaf = common(name).split(".")[-2:]
        moved = value != before[name]
        emptied, fresh = (value == 0) & moved, value[moved & (value != 0)]
        if layer == "head":
            assert not fresh.size
            assert emptied.mean() == (0.5 if leaf == "weight" else 0)  # where the last norm's neurons fed it
            continue
        if "norm" in layer:
            assert not moved.any()  # it has learned nothing yet
            continue
        read = leaf == "weight" and layer in ("layer1", "layer2", "query", "key", "value", "out")
        assert emptied.mean() == (0.5 if read else 0), name
        assert moved.mean() == (0.75 if read else 0.5), name
        fan_in = {"layer": 5 if name.startswith(("actor", "0/")) else 7, "layer2": WIDE[kind] * 64}.get(layer, 64)
        assert 0.7 * fan_in**-0.5 < abs(fresh).max() <= fan_in**-0.5, name
        assert fresh.std() == pytest.approx(fan_in**-0.5 / 3**0.5, rel=0.35), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ReDo does not measure", "ignore:no activations for .*tokens")
@pytest.mark.usefixtures("compiled_once", "layouts_found_once")
@pytest.mark.parametrize(("framework", "kind"), CASES)
def test_redo_measures_what_is_read_alone(framework, kind):
    agent = agent_of(framework, "sac", network=kind, depth=1, width=WIDTH, reset="redo", reset_every=2, tau=0.5)
    for seed in range(4):
        agent.update(batch(seed))
    fractions = {
        plain(name.split("/", 2)[2]): value
        for name, value in agent.activity.fractions.items()
        if name.startswith("dormant/actor/")
    }
    assert fractions.keys() == expected(kind, 1, {"mean": 1, "log_std": 1}).keys()
    exclusive = {name for name, group in expected(kind, 1, {}).items() if group[1] == "exclusive"}
    assert {name for name in exclusive if fractions[name] is None} == set()
    assert fractions.get("tokens.intercept") is None
    assert fractions.get("tokens.slope") is None or framework == "jax"  # which follows scales
    assert all(count.neurons_reset > 0 for count in agent.activity.counts().values())
