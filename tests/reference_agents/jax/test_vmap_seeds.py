"""Agents of several seeds that are updated together do what each would do alone."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from reference_agents.config import Config
from reference_agents.jax import vmap_seeds
from reference_agents.jax.vmap_seeds import VmappedUpdate, main
from reference_agents.running.recording import Recorder
from reference_agents.train import train
from tests.reference_agents.runs import SHORT, PowerFailureError, arguments, records, summary

SETTINGS = SHORT | {"framework": "jax", "steps": 400, "evaluate_every": 0, "record_every": 100, "checkpoint_every": 100}


def counting_agent(traces):
    """What VmappedUpdate uses of an agent."""

    def update(state, batch, with_actor):
        traces.append(state["sum"].shape)
        return {"sum": state["sum"] + batch, "turns": state["turns"] + jnp.where(with_actor, 1, 0)}

    return SimpleNamespace(_update=update, _compiled_update=None)


def test_updates_wait_for_each_other_and_are_one():
    traces = []
    agents = [counting_agent(traces) for _ in range(3)]
    VmappedUpdate(agents)

    def go(place):
        state = {"sum": jnp.zeros(2), "turns": jnp.zeros((), int)}
        for step in range(4):
            state = agents[place]._compiled_update(state, np.full(2, 10.0**place, np.float32), step % 2 == 0)
        return state

    with ThreadPoolExecutor(3) as pool:
        states = list(pool.map(go, range(3)))
    assert [float(state["sum"][0]) for state in states] == [4.0, 40.0, 400.0]
    assert [int(state["turns"]) for state in states] == [2, 2, 2]
    assert traces == [(2,)]  # the first agent's update was traced once, for all


def test_agents_whose_turns_differ_are_refused():
    agents = [counting_agent([]) for _ in range(2)]
    VmappedUpdate(agents)
    with ThreadPoolExecutor(2) as pool:
        waiting = [
            pool.submit(
                agent._compiled_update, {"sum": jnp.zeros(2), "turns": jnp.zeros(())}, np.zeros(2, np.float32), turn
            )
            for agent, turn in zip(agents, (True, False), strict=True)
        ]
    kinds = {type(run.exception()) for run in waiting}
    assert RuntimeError in kinds
    assert kinds <= {RuntimeError, threading.BrokenBarrierError}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--seeds", "0,0"], "seeds: expected values, each once"),
        (["--seeds", "a"], "seed"),
        (["--seeds", "0..1", "--", "--framework", "torch"], "framework: expected jax"),
        (["--seeds", "0..1", "--", "--env", "Nowhere-v1"], "env: expected the id of an environment"),
    ],
)
def test_what_cannot_be_run_is_refused(command, message, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*command[:2], "--out", str(out), *command[2:]]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture
def compiled_once():
    from tests.reference_agents.jax import cases as jax_cases

    with jax_cases.compiled_once():
        yield


def fails_at(monkeypatch, folder, number):
    """Let the power fail when a record of one run is to be written."""
    write = Recorder.write

    def failing(self, record):
        if self.path.parent == folder and self.count == number:
            raise PowerFailureError
        write(self, record)

    monkeypatch.setattr(Recorder, "write", failing)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_together_they_do_what_they_do_alone_also_after_a_break(monkeypatch, tmp_path):
    for seed in range(2):
        train(Config(**SETTINGS, seed=seed), tmp_path / "alone" / str(seed))
    command = ["--seeds", "0..1", "--out", str(tmp_path / "both"), "--", *arguments(SETTINGS)]
    with monkeypatch.context() as patch:
        fails_at(patch, tmp_path / "both" / "1", 2)
        with pytest.raises(PowerFailureError):
            main(command)
    assert not (tmp_path / "both" / "0" / "summary.json").exists()
    assert main(command) == 0
    for seed in "01":
        alone, both = (records(tmp_path / kind / seed) for kind in ("alone", "both"))
        assert len(alone) == len(both)
        for mine, theirs in zip(alone, both, strict=True):
            assert (mine["step"], mine["neurons_reset"]) == (theirs["step"], theirs["neurons_reset"])
        losses = [[record["loss/critic"] for record in found[1:]] for found in (alone, both)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)
        assert both[-1]["neurons_reset"] > 0
        assert summary(tmp_path / "both" / seed)["updates"] == 300
    assert main(command) == 0  # nothing is left to do
    assert vmap_seeds.parse_range("seeds", "0..1") == ["0", "1"]
