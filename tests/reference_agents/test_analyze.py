"""What is said and drawn of a run's neurons is what was planted in its scores."""

import dataclasses

import numpy as np
import pytest

from reference_agents import analyze
from reference_agents.analyze import describe, main, read_histories
from reference_agents.running.recording import Recorder

GRADIENT = [  # by measurement: neuron 0 learns again by itself, 1 is reset after the second, 2 never learns
    [0.0, 0.0, 0.0, 2.0, 1.0, 1.0, 1.0, 3.0],
    [0.0, 0.0, 0.0, 2.0, 1.0, 1.0, 1.0, 3.0],
    [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0],
]
ACTIVATION = [[3.0, 1.0, 0.0, 2.0, 1.0, 1.0, 0.5, 0.4]] * 3


def write(folder, *, stacked=False):
    recorder = Recorder(folder / "scores.jsonl")
    for time, step in enumerate((100, 200, 300)):
        for kind, tau, scores in (("dormant", 0.02, ACTIVATION), ("inactive", 0.01, GRADIENT)):
            rows = [scores[time]] * (2 if stacked else 1)
            marked = [[1] if kind == "inactive" and time == 1 else []] * len(rows)
            recorder.write(
                {
                    "step": step,
                    "network": "critic1",
                    "kind": kind,
                    "tau": tau,
                    "scores": {"layer1": rows, "broken": [[float("nan")] * 4]},
                    "reset": {"layer1": marked, "broken": [[]]},
                }
            )
    return folder


def test_scores_and_resets_come_back_as_arrays(tmp_path):
    found = read_histories(write(tmp_path))["critic1"]
    assert list(found) == ["dormant", "inactive"]
    history = found["inactive"]
    assert (history.steps, history.tau) == ([100, 200, 300], 0.01)
    np.testing.assert_array_equal(history.scores["layer1"], GRADIENT)
    np.testing.assert_array_equal(np.argwhere(history.resets["layer1"]), [[1, 1]])
    assert np.isnan(history.scores["broken"]).all()
    assert not history.inactive["broken"].any()
    assert read_histories(write(tmp_path / ".", stacked=False))["critic1"]["dormant"].tau == 0.02


def test_a_stack_keeps_its_members(tmp_path):
    history = read_histories(write(tmp_path, stacked=True))["critic1"]["inactive"]
    assert history.scores["layer1"].shape == (3, 2, 8)
    np.testing.assert_array_equal(np.argwhere(history.resets["layer1"]), [[1, 0, 1], [1, 1, 1]])


def rows(lines, title):
    """The cells of the table below a title, by the first of each row."""
    lines = "\n".join(lines).split("\n")
    start = next(place for place, line in enumerate(lines) if line.startswith(title)) + 3
    table = []
    for line in lines[start:]:
        if not line:
            break
        table.append([cell for cell in line.split("  ") if cell])
    return {cells[0]: [cell.strip() for cell in cells[1:]] for cells in table}


def test_what_was_planted_is_found(tmp_path):
    lines = list(describe("critic1", read_histories(write(tmp_path))["critic1"], fraction=0.25))
    spells = rows(lines, "spells of inactivity by gradient, score <= 0.01")
    assert spells["layer1"] == ["3", "1", "1", "1", "33.3%", "2", "3"]  # one reset, one open, one recovered
    assert spells["broken"][0] == "0"
    spells = rows(lines, "spells of inactivity by activation, score <= 0.02")
    assert spells["layer1"] == ["1", "0", "1", "0", "0.0%", "3", "3"]
    kinds = rows(lines, "kinds of neurons, highest and lowest 25% of each layer")
    assert kinds["active, not learning"][1:] == ["0.0%", "100.0%"]  # neuron 0 at first: only the gradient tells
    assert kinds["hardly active, not learning"][1:] == ["100.0%", "100.0%"]  # neuron 2
    assert kinds["hardly active, learning"][1:] == ["0.0%", "0.0%"]  # neuron 7
    thresholds = rows(lines, "inactive neurons at other thresholds")
    assert thresholds["by gradient"][0] == f"{7 / 24:.1%}"
    assert thresholds["by activation"][0] == f"{3 / 24:.1%}"


def test_neurons_that_lasted_are_counted_at_the_measurement_after_their_reset(tmp_path):
    lines = list(describe("critic1", read_histories(write(tmp_path))["critic1"], fraction=0.25))
    assert "1 neurons reset, 100% of them alive at the next measurement" in lines


def test_the_command_prints_and_draws(tmp_path, capsys):
    assert main([str(write(tmp_path))]) == 0
    assert "critic1: 3 measurements, at step 100 to 300" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "neurons").iterdir()}
    parts = ("lifetimes_dormant", "lifetimes_inactive", "scores_dormant", "scores_inactive")
    assert names == {"critic1_kinds.png", *(f"critic1_{part}.png" for part in parts)}
    for path in (tmp_path / "neurons").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_neuron_that_the_other_method_has_reset_has_not_recovered(tmp_path):
    """Neuron 1, reset by its gradients after the second measurement, was dormant before and is not afterwards."""
    recorder = Recorder(tmp_path / "scores.jsonl")
    for time, step in enumerate((100, 200, 300)):
        for kind, low in (("dormant", time < 2), ("inactive", time < 2)):
            marked = [[1] if kind == "inactive" and time == 1 else []]
            rows = {"layer1": [[1.0, 0.0 if low else 1.0]]}
            recorder.write(
                {
                    "step": step,
                    "network": "actor",
                    "kind": kind,
                    "tau": 0.01,
                    "scores": rows,
                    "reset": {"layer1": marked},
                }
            )
    found = read_histories(tmp_path)["actor"]
    for history in found.values():
        np.testing.assert_array_equal(np.argwhere(history.resets["layer1"]), [[1, 1]])
    lines = "\n".join(describe("actor", found, fraction=0.25))
    assert lines.count("1 spells in all: 1 reset, 0 open, 0 recovered; 0 of 10 measurements or more: ") == 2


def test_several_measurements_of_a_step_are_drawn_as_one(tmp_path):
    """As with SAC, which visits the actor twice in a row."""
    history = read_histories(write(tmp_path))["critic1"]["inactive"]
    twice = dataclasses.replace(history, steps=[100, 100, 200])
    seen = twice.by_step()
    assert seen.steps == [100, 200]
    np.testing.assert_array_equal(seen.scores["layer1"], history.scores["layer1"][1:])
    np.testing.assert_array_equal(np.argwhere(seen.resets["layer1"]), [[0, 1]])
    assert history.by_step().steps == history.steps
    analyze.draw("critic1", {"dormant": twice, "inactive": twice}, tmp_path, fraction=0.25)


def test_a_line_that_a_kill_cut_short_is_passed_over(tmp_path):
    path = write(tmp_path) / "scores.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 400, "netw')
    assert read_histories(tmp_path)["critic1"]["inactive"].steps == [100, 200, 300]


@pytest.mark.parametrize("options", [[], ["--fraction", "0.7"]])
def test_a_run_without_scores_and_bad_options_are_refused(options, tmp_path, capsys):
    if options:
        write(tmp_path)
    assert main([str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: fraction: expected" if options else "error: run: expected the scores")
    assert not (tmp_path / "neurons").exists()
