"""The commands that write the tables of what was tried, and of PPO and SAC: what they run, and what they write."""

import numpy as np
import pytest

from benchmarks.plasticity import search, study, worlds
from benchmarks.plasticity.experiment import Experiment, Outcome
from benchmarks.plasticity.settings import AGAIN, RESULT, TRIAL

SEARCHED = ("rates", "worlds")


def page(folder, name, blocks):
    path = folder / name
    path.write_text("# A page\n" + "".join(f"\n<!-- {block} -->\n\n```text\nstale\n```\n" for block in blocks))
    return path


@pytest.fixture
def ran(monkeypatch):
    """Experiments that were asked for, which are not trained: the return is 0.5, and more with more of a setting."""
    found = {}

    def finish(one, path):
        assert path not in found or found[path] == one
        found[path] = one
        shape = (one.seeds, one.phases)
        better = {"none": 0.0, "new_network": 0.4}.get(one.reset, 0.2 + 0.1 * min(one.tau or one.strength or 0, 1))
        noise = 0.01 * np.random.default_rng(one.seed).normal(size=shape)
        count = np.full(shape, 4 if one.tau else 0)
        numbers = (np.full(shape, value) for value in (0.25, 3, 9))
        return Outcome(0.5 + better + noise, *numbers, count, count, count // 4, np.zeros((*shape, 20)))

    monkeypatch.setattr(study, "finished", finish)
    return found


def seeds(one):
    return set(range(one.seed, one.seed + one.seeds))


def test_what_was_tried_is_run_on_seeds_of_its_own_and_written(ran, tmp_path):
    written = page(tmp_path, "plasticity.md", SEARCHED)
    assert search.main(["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--jobs", "1"]) == 0
    assert "stale" not in written.read_text()
    others = [Experiment(**size) for size in (RESULT, TRIAL, *AGAIN)]
    assert all(seeds(one).isdisjoint(seeds(other)) for one in ran.values() for other in others)
    rows = written.read_text().splitlines()
    row = next(line for line in rows if line.startswith("LayerNorm  4 updates a step"))
    assert row.split()[-5:] == ["0.50", "25%", "0.90", "0.70", "0.70"]
    assert len(set(ran)) == len(set(map(repr, ran.values())))


@pytest.mark.parametrize("only_finished", [True, False])
def test_tables_of_ppo_and_sac_have_all_methods_and_tested_pairs(ran, tmp_path, only_finished):
    written = page(tmp_path, "plasticity_worlds.md", ["small_batches", "small_batches_pairs"])
    command = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--jobs", "1"]
    one = worlds.TABLES["small_batches"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "TABLES", {"small_batches": one})
        assert worlds.main(command + ["--only-finished"] * only_finished) == 0
    if only_finished:
        assert not ran
        assert "stale" in written.read_text()
        return
    rows = written.read_text().splitlines()
    assert [row.split("  ")[0] for row in rows if row.startswith(("none", "ReGraMa"))][:3] == [
        "none",
        "ReGraMa",
        "ReGraMa, 40 batches",
    ]
    assert len(ran) == 3


def test_the_value_that_was_best_is_run_on_other_seeds(ran, tmp_path):
    table = worlds.TABLES["ppo"]
    with study.finishing(1, only_finished=False) as finish:
        tried = worlds.tuned(table, tmp_path, finish)
        found = worlds.run(table, tried, tmp_path, finish)
    assert {len(one) for one in tried.values()} == {3}
    assert "ReGraMa, tuned (tau 0.1)" in found
    assert "weight decay (AdamW) (strength 1)" in found
    methods, pairs = worlds.lines(table, found)
    assert len(methods) == 2 + 1 + len(table.methods)
    assert methods[2].startswith("none")
    assert methods[3].startswith("new network")
    assert len(pairs) == 2 + len(table.pairs)
    tuning = [one for path, one in ran.items() if path.parent.name == "tuning"]
    results = [one for path, one in ran.items() if path.parent.name != "tuning"]
    assert all(seeds(one).isdisjoint(seeds(other)) for one in tuning for other in results)


def test_every_table_of_ppo_and_sac_can_be_run():
    for table in worlds.TABLES.values():
        for title in ("none", *table.methods):
            assert table.experiment(title).seeds <= 20
        assert {title for pair in table.pairs for title in pair} <= set(table.methods)
        assert set(table.tuned) <= set(table.methods)


@pytest.mark.parametrize(("module", "name"), [(search, "plasticity.md"), (worlds, "plasticity_worlds.md")])
def test_a_folder_without_the_page_and_no_processes_are_refused(module, name, ran, tmp_path, capsys):
    assert module.main(["--out", str(tmp_path)]) == 2
    assert f"expected a folder with {name}" in capsys.readouterr().err
    page(tmp_path, name, [])
    assert module.main(["--out", str(tmp_path), "--jobs", "0"]) == 2
    assert "jobs: expected at least 1, got 0" in capsys.readouterr().err
    assert not ran
