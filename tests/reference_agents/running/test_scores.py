"""Scores of single neurons are recorded at each measurement, and a break leaves no trace in them."""

import pytest

from reference_agents.config import Config
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from reference_agents.running.recording import read_records
from reference_agents.train import train
from tests.reference_agents.runs import SHORT, PowerFailureError, break_at_record

pytestmark = pytest.mark.usefixtures("layouts_found_once")
RECORDED = SHORT | {"steps": 400, "evaluate_every": 0, "record_every": 60, "record_scores": True}
NETWORKS = ("critic1", "critic2", "actor")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("reset", [pytest.param("none", marks=pytest.mark.slow), "redo", "regrama"])
def test_scores_by_gradients_and_by_activations_are_recorded_at_each_measurement(reset, tmp_path):
    training = Training(Config(**RECORDED, reset=reset), RunFolder(tmp_path))
    training.run()
    found = read_records(tmp_path / "scores.jsonl")
    for network in NETWORKS:
        for kind in ("inactive", "dormant"):
            own = [record for record in found if (record["network"], record["kind"]) == (network, kind)]
            assert [record["step"] for record in own] == list(range(160, 401, 60))
            resets = (reset, kind) in {("redo", "dormant"), ("regrama", "inactive")}
            assert any(any(row) for record in own for rows in record["reset"].values() for row in rows) == resets
            for record in own:
                for group, rows in record["reset"].items():
                    (scores,), (places,) = record["scores"][group], rows
                    assert all(scores[place] <= record["tau"] for place in places)
    reset_neurons = sum(len(row) for record in found for rows in record["reset"].values() for row in rows)
    assert reset_neurons == training.summary()["neurons_reset"]
    assert len(found[0]["scores"]["layer1"][0]) == 16


@pytest.mark.slow
def test_a_break_leaves_no_trace(monkeypatch, tmp_path):
    train(Config(**RECORDED), tmp_path / "whole")
    with monkeypatch.context() as patch:
        break_at_record(patch, 4)
        with pytest.raises(PowerFailureError):
            train(Config(**RECORDED), tmp_path / "broken")
    before = (tmp_path / "broken" / "scores.jsonl").read_bytes()
    train(Config(**RECORDED), tmp_path / "broken", resume=True)
    whole = (tmp_path / "whole" / "scores.jsonl").read_bytes()
    assert (tmp_path / "broken" / "scores.jsonl").read_bytes() == whole
    assert 0 < len(before) < len(whole)


def test_without_being_asked_for_no_scores_are_recorded(tmp_path):
    train(Config(**SHORT | {"steps": 200, "evaluate_every": 0}), tmp_path)
    assert not (tmp_path / "scores.jsonl").exists()
