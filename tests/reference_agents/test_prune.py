"""Removed neurons take no part in what an actor does, and a run that is pruned stays as it was."""

import itertools
import json
from importlib import import_module

import numpy as np
import pytest

from reference_agents import prune
from reference_agents.config import Config
from reference_agents.prune import METHODS, main, prune_run
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from reference_agents.running.recording import Recorder
from reference_agents.train import train
from tests.reference_agents.cases import OBSERVATION
from tests.reference_agents.runs import SHORT
from tests.reference_agents.torch import cases as agent_cases

RECORDED = SHORT | {"steps": 400, "record_scores": True, "evaluate_every": 0}


def small_agent(framework, algo):
    return import_module(f"tests.reference_agents.{framework}.cases").agent_of(algo)


@pytest.mark.parametrize(
    ("framework", "algo"),
    [
        pytest.param(
            framework,
            algo,
            marks=[pytest.mark.slow] * (framework == "jax" or (framework, algo) == ("tensorflow", "td3")),
        )
        for framework in ("torch", "jax", "tensorflow")
        for algo in ("sac", "td3")
    ],
)
def test_only_removed_neurons_are_gone(framework, algo):
    agent = small_agent(framework, algo)
    width = agent.config.width
    first, second = np.zeros(OBSERVATION, np.float32), np.linspace(-2, 2, OBSERVATION, dtype=np.float32)
    before, saved = agent.act(second, explore=False), agent.save()
    layers = [name for name, group in agent.activity.layouts["actor"].items() if group.resettable]
    assert len(layers) == 2

    agent.prune_actor({name: np.zeros(width, bool) for name in layers})
    np.testing.assert_array_equal(agent.act(second, explore=False), before)
    agent.prune_actor({layers[0]: np.ones(width, bool)})  # all that reads the observation
    np.testing.assert_array_equal(agent.act(second, explore=False), agent.act(first, explore=False))
    assert (agent.act(second, explore=False) != before).all()
    agent.load(saved)
    np.testing.assert_array_equal(agent.act(second, explore=False), before)


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_neurons_with_an_effect_are_not_taken_for_others(algo):
    agent = agent_cases.agent_of(algo)
    trunk = agent.actor.trunk if algo == "sac" else agent.actor
    heads = (agent.actor.mean, agent.actor.log_std) if algo == "sac" else (trunk.head,)
    prefix = "trunk." if algo == "sac" else ""
    mask = np.arange(agent.config.width) % 3 == 0
    kept = trunk.layer2.weight.detach().clone()
    agent.prune_actor({f"{prefix}layer2": mask})
    assert not trunk.layer2.weight[mask].any()
    assert not trunk.layer2.bias[mask].any()
    assert trunk.layer2.weight[~mask].equal(kept[~mask])
    for head in heads:
        assert not head.weight[:, mask].any()
        assert head.weight[:, ~mask].all()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run with scores, whose checkpoint is before its end."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    train(Config(**RECORDED), folder)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_returns_of_pruned_actors(recorded):
    before = contents(recorded)
    found = prune_run(recorded, [0.0, 0.5, 1.0], episodes=2)
    assert contents(recorded) == before
    training = Training(Config(**RECORDED), RunFolder(recorded))
    training.restore()
    assert found["step"] == training.progress.step
    assert found["scores"] == 100 + (found["step"] - 100) // 60 * 60
    intact, scores = training.evaluate(), {}
    for entry in found["pruned"]:
        scores.setdefault(entry["fraction"], {})[entry["method"]] = entry["evaluation"]["returns"]
        assert entry["neurons"] == 2 * 16 * entry["fraction"]
    assert [list(found) for found in scores.values()] == [list(METHODS)] * 3
    assert all(returns == intact for returns in scores[0.0].values())
    assert len({tuple(returns) for returns in scores[1.0].values()}) == 1  # nothing is left, whatever went first
    assert scores[1.0]["random"] != intact
    assert len({tuple(returns) for returns in scores[0.5].values()}) > 1


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_a_file(recorded, tmp_path, capsys):
    out = tmp_path / "new" / "pruned.json"
    assert main([str(recorded), "--fractions", "0", "0.5", "--episodes", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "lowest gradient score" in printed
    assert "50%" in printed
    assert len(json.loads(out.read_text())["pruned"]) == 6


def test_a_normalisation_goes_with_its_layer():
    """Otherwise what is removed at random is more than what the scores choose: they choose the same units of both."""
    agent = agent_cases.agent_of("sac", network="bronet", depth=1)
    layout, width = agent.activity.layouts["actor"], agent.config.width
    random = np.random.default_rng(0)
    scores = {name: random.random(width) for name in layout}
    masks = prune._lowest_scores(scores, layout, 0.5)
    pairs = [(layer, norm) for layer, norm in itertools.pairwise(masks) if "norm" in norm]
    assert [norm.removeprefix("trunk.") for _, norm in pairs] == ["norm", "block1.norm1", "block1.norm2"]
    for layer, norm in pairs:
        assert masks[layer].sum() == width // 2
        np.testing.assert_array_equal(masks[norm], masks[layer])


def test_a_normalisation_in_front_of_a_layer_has_units_of_its_own():
    layout = agent_cases.agent_of("sac", network="simba", depth=1).activity.layouts["actor"]
    pairs = itertools.pairwise(layout.values())
    assert not any(prune._is_normed(first, second) for first, second in pairs)


def test_what_cannot_be_pruned_is_refused(recorded, tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "error: run: expected the scores of a run" in capsys.readouterr().err
    Recorder(tmp_path / "scores.jsonl").write(
        {"step": 1, "network": "actor", "kind": "inactive", "tau": 0, "scores": {}, "reset": {}}
    )
    assert main([str(tmp_path)]) == 2
    assert "error: run: expected a checkpoint, as --checkpoint-every makes them" in capsys.readouterr().err
    assert main([str(recorded), "--episodes", "0"]) == 2
    assert "error: episodes: expected at least 1, got 0" in capsys.readouterr().err
    assert main([str(recorded), "--fractions", "1.5"]) == 2
    assert "error: fractions: expected numbers from 0 to 1, got 1.5" in capsys.readouterr().err
