"""The picture of a run shows what its records hold."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from reference_agents.running.plots import plot_run
from reference_agents.running.recording import Recorder


def record(step, *, kinds=("inactive",), networks=("actor", "critic1"), **values):
    fractions = {
        f"{kind}/{network}/{group}": 0.5 if step > 1 else None
        for kind in kinds
        for network in networks
        for group in ("layer1", "layer2")
    }
    resets = {f"neurons_reset/{network}": 3 * step for network in networks}
    return {"step": step, "return": float(step), "evaluation": None, **fractions, **resets, **values}


def write(path, records):
    recorder = Recorder(path)
    for entry in records:
        recorder.write(entry)


@pytest.mark.parametrize("kinds", [("inactive",), ("inactive", "dormant")])
def test_the_picture_is_drawn(tmp_path, kinds, monkeypatch):
    figures = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), savefig(self, *a, **k))[1])
    write(tmp_path / "metrics.jsonl", [record(step, kinds=kinds, evaluation=2.0 * step) for step in range(1, 6)])
    plot_run(tmp_path / "metrics.jsonl", tmp_path / "activity.png", title="SAC", random_policy=-1.0)

    returns, *panels = figures[0].axes
    lines = {line.get_label(): line.get_xydata() for line in returns.lines}
    np.testing.assert_array_equal(lines["training episodes"][:, 1], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(lines["evaluation"][:, 1], [2, 4, 6, 8, 10])
    assert [axes.get_title("left") for axes in panels] == ["actor: 15 neurons reset", "critic1: 15 neurons reset"]
    for axes in panels:
        drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
        assert set(drawn) == {"layer1", "layer2", "neurons reset"} | (
            {"layer1, ReDo", "layer2, ReDo"} if "dormant" in kinds else set()
        )
        np.testing.assert_array_equal(drawn["layer1"], [[step, 0.5] for step in (2, 3, 4, 5)])
        np.testing.assert_array_equal(drawn["neurons reset"][:, 0], [1, 2, 3, 4, 5])
    assert imread(tmp_path / "activity.png").shape[:2] == (930, 1500)


def test_resets_that_did_not_last_are_circled(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self))
    again = [{"measured_again/actor": 10 * step, "reset_again/actor": 9 * (step > 1)} for step in range(1, 4)]
    write(tmp_path / "metrics.jsonl", [record(step, **more) for step, more in enumerate(again, start=1)])
    plot_run(tmp_path / "metrics.jsonl", tmp_path / "activity.png", title="SAC")
    _, actor, critic = figures[0].axes
    drawn = {line.get_label(): line.get_xdata() for line in actor.lines}
    np.testing.assert_array_equal(drawn["most did not last"], [2])
    assert actor.get_title("left") == "actor: 9 neurons reset, 70% lasted"
    assert critic.get_title("left") == "critic1: 9 neurons reset"  # as in records of earlier versions


def test_a_run_too_short_for_anything_is_drawn_too(tmp_path):
    empty = dict.fromkeys(("return", "evaluation", *(key for key in record(1) if key.startswith("inactive"))))
    write(tmp_path / "metrics.jsonl", [record(1) | empty])
    plot_run(tmp_path / "metrics.jsonl", tmp_path / "activity.png", title="SAC")
    assert (tmp_path / "activity.png").exists()


def test_a_single_measurement_is_a_point(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self))
    for count, marker in ((2, "o"), (3, "")):  # the first record has no measurement
        write(tmp_path / f"{count}.jsonl", [record(step) for step in range(1, count + 1)])
        plot_run(tmp_path / f"{count}.jsonl", tmp_path / "activity.png", title="SAC")
        drawn = {line.get_label(): line for line in figures[-1].axes[1].lines}
        assert len(drawn["layer1"].get_xdata()) == count - 1
        assert drawn["layer1"].get_marker() == drawn["layer2"].get_marker() == marker


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("kinds", [("inactive",), ("inactive", "dormant")])
def test_many_groups_are_told_apart_and_their_legend_fits(tmp_path, kinds, separator, monkeypatch):
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), savefig(self, *a, **k))[1])
    blocks = [f"block{number}.{part}" for number in (1, 2) for part in ("layer1", "norm1", "layer2", "norm2")]
    keys = [f"actor/trunk.{group}" for group in blocks[:4]] + [f"critic1/{group}" for group in [*blocks, "head"]]
    keys = [key.replace(".", separator) for key in keys]
    many = {f"{kind}/{key}": place / len(keys) for kind in kinds for place, key in enumerate(keys)}
    write(tmp_path / "metrics.jsonl", [record(step, kinds=()) | many for step in (1, 2)])
    plot_run(tmp_path / "metrics.jsonl", tmp_path / "activity.png", title="SAC")

    _, *panels = figures[0].axes
    drawn = [{line.get_label(): line.get_color() for line in axes.lines} for axes in panels]
    actor, critic = ({name: colour for name, colour in lines.items() if name in blocks} for lines in drawn)
    assert list(actor) == blocks[:4]
    assert list(critic) == blocks
    assert len(set(critic.values())) == len(blocks)
    assert actor.items() <= critic.items()
    legend = figures[0].legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figures[0].bbox.x1
    assert {text.get_text() for text in figures[0].legends[0].texts} >= set(blocks)
