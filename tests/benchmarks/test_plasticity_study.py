"""The plasticity study: what it tunes on, what it runs, and that its page says what its record says."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.plasticity import study
from benchmarks.plasticity.experiment import Outcome
from benchmarks.plasticity.page import draw, draw_curves, filled, p_values, same_order, tables
from benchmarks.plasticity.settings import (
    AGAIN,
    AGAIN_IN,
    METHODS,
    PLAN,
    RESULT,
    SETTINGS,
    TUNED_IN,
    experiment,
    trials,
)
from reference_agents.errors import UsageError

RESULTS = Path(__file__).parents[2] / "docs" / "results"
BEST = {"none": -0.5, "new_network": 0.95, "regrama": 0.9, "ccbp": 0.8}


def outcome_of(one):
    """Returns that depend on the method, best where a method's own setting is in the middle of what is tried."""
    name = next(
        name for name, method in METHODS.items() if method.options.items() <= vars(one).items() and name in BEST
    )
    value = BEST[name]
    if (tried := METHODS[name].values) and getattr(one, METHODS[name].tuned) != tried[1]:
        value -= 0.5
    rng, shape = np.random.default_rng(one.seed), (one.seeds, one.phases)
    returns = value + 0.01 * rng.normal(size=shape)
    count = np.full(shape, 4 if name == "regrama" else 0)
    return Outcome(
        returns, 0.5 - returns / 2, 3 + returns, 9 - returns, count, count, count // 4, np.zeros((*shape, 20))
    )


@pytest.fixture
def small(monkeypatch):
    """A plan of four methods that are not trained."""
    plan = dict.fromkeys(SETTINGS, ("none", "new_network", "regrama"))
    plan[TUNED_IN] = tuple(BEST)
    for module in ("study", "page", "settings"):
        monkeypatch.setattr(f"benchmarks.plasticity.{module}.PLAN", plan)
    ran = []

    def finish(one, path):
        ran.append((path, one))
        return outcome_of(one)

    monkeypatch.setattr(study, "finished", finish)
    monkeypatch.setattr(study, "AGAIN_METHODS", ("none", "new_network", "regrama"))
    for module in ("study", "page"):
        monkeypatch.setattr(f"benchmarks.plasticity.{module}.SWEPT", {"regrama_tuned": ("regrama", (0.1, 0.3))})
    return ran


def seeds(one):
    return set(range(one.seed, one.seed + one.seeds))


def test_tuning_never_sees_a_seed_of_the_results():
    tried = [trial for method in METHODS for _, trial in trials(method)]
    results = [experiment(setting, name, None, **RESULT) for setting, names in PLAN.items() for name in names]
    again = [experiment(AGAIN_IN, "none", None, **size) for size in AGAIN]
    assert tried
    assert RESULT["seeds"] >= 20
    for one in tried:
        assert all(seeds(one).isdisjoint(seeds(other)) for other in results + again)
    assert all(seeds(first).isdisjoint(seeds(other)) for first in again for other in results)
    assert seeds(again[0]).isdisjoint(seeds(again[1]))


def test_every_method_is_given_the_same_budget():
    for name, method in METHODS.items():
        found = list(trials(name))
        assert len(found) == (3 if method.tuned else 0)
        assert {getattr(one, str(method.tuned)) for _, one in found} == set(method.values)
        assert len({(one.seed, one.seeds, one.phases, one.network) for _, one in found}) <= 1


def test_a_study_runs_what_was_best_and_writes_the_page(small, tmp_path, capsys):
    names = [*SETTINGS, "pairs", "thresholds", "measures", "again", "tuning", "missing"]
    page = "# A page\n" + "".join(f"\n<!-- {name} -->\n\n```text\nstale\n```\n" for name in names)
    (tmp_path / "plasticity.md").write_text(page)
    command = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--jobs", "1"]
    assert study.main(command) == 0
    written = (tmp_path / "plasticity.md").read_text()
    record = json.loads((tmp_path / "plasticity.json").read_text())
    assert "stale" not in written
    assert filled(written, tables(record)) == written
    for name in ("plasticity", "plasticity_curves"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len({path for path, _ in small}) == len(small)
    ccbp = [one for _, one in small if one.reset == "ccbp"]
    assert [one.strength for one in ccbp if one.seed == RESULT["seed"]] == [METHODS["ccbp"].values[1]]
    assert capsys.readouterr().out.count("ReGraMa") > 5
    row = next(line for line in tables(record)[TUNED_IN] if line.startswith("ReGraMa"))
    assert re.search(r" +0\.(89|90)\d +0\.\d+ to 0\.\d+ +\d\.\d% +3\.9 +8 +64 +75% +< 0\.001$", row)
    rows = [line.split() for line in tables(record)["thresholds"][2:]]
    assert [row[4] for row in rows] == ["0.01", "0.1", "0.3"] * 2
    assert [row[-1] == "usual" for row in rows] == [True, False, False] * 2
    assert same_order(record, p_values(record)) == (6, 6)
    record["results"][0]["returns"] = [0.123] * 20
    assert any("0.123" in line for line in tables(record)["plain"])


def test_a_page_without_a_place_for_a_table_is_refused(small, tmp_path, capsys):
    assert study.main(["--out", str(tmp_path)]) == 2
    assert "expected a folder with plasticity.md" in capsys.readouterr().err
    assert not small
    with pytest.raises(UsageError, match="expected one block of text below <!-- plain -->, found 0"):
        filled("# A page", {"plain": ["a"]})


def test_the_page_says_what_the_record_says():
    record = json.loads((RESULTS / "plasticity.json").read_text())
    page = (RESULTS / "plasticity.md").read_text()
    assert filled(page, tables(record)) == page
    assert draw(record).axes
    assert draw_curves(record).axes
    ran = {(one["setting"], one["method"]) for one in record["results"]}
    assert ran <= {(setting, method) for setting, methods in PLAN.items() for method in methods}
    same, pairs = same_order(record, p_values(record))
    assert pairs > 0
    assert same / pairs > 0.95
    assert all(len(one["returns"]) == RESULT["seeds"] for one in record["results"] if one["seed"] == RESULT["seed"])
