"""Runs are grouped by their settings and compared over their seeds; what cannot be compared is said, never dropped."""

import dataclasses
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

from reference_agents.compare.comparison import (
    Run,
    compare,
    evaluation_steps,
    find_runs,
    group_runs,
    have_one_scale,
    read_run,
)
from reference_agents.compare.statistics import probability_of_improvement, stratified_bootstrap
from reference_agents.config import Config
from reference_agents.running.recording import write_json
from tests.reference_agents.compare.run_folders import DOG, HIGH, LOW, PENDULUM, WALKER, runs, write
from tests.reference_agents.runs import as_older_versions_left_it


def read(*places):
    return [read_run(path) for path in find_runs(map(str, places))]


# Finding and reading


def test_folders_folders_above_them_and_patterns_are_found_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [write(tmp_path / "runs" / name) for name in ("a1", "a2", "b/b1")]
    assert find_runs(["runs"]) == [path.relative_to(tmp_path) for path in paths]
    assert find_runs(["runs/a*"]) == [path.relative_to(tmp_path) for path in paths[:2]]
    assert find_runs([str(paths[2]), "runs/a2", "runs", "runs/../runs"]) == [
        paths[2],
        *(path.relative_to(tmp_path) for path in (paths[1], paths[0])),
    ]


def test_a_folder_whose_name_looks_like_a_pattern_is_itself(tmp_path):
    path = write(tmp_path / "[1]")
    write(tmp_path / "1")
    assert find_runs([str(path)]) == [path]


def test_runs_of_older_versions_are_compared_with_others(tmp_path):
    paths = [write(tmp_path / str(delay), policy_delay=delay) for delay in (1, 2)]
    as_older_versions_left_it(paths[0])
    both = read(tmp_path)
    assert [run.problem for run in both] == [None, None]
    assert set(group_runs(both)) == {(f"policy_delay={delay}", PENDULUM) for delay in (1, 2)}


def test_other_folders_beside_the_runs_do_no_harm(tmp_path):
    path = write(tmp_path / "run")
    (tmp_path / "comparison").mkdir()
    (tmp_path / "comparison" / "comparison.json").write_text("{}")
    assert find_runs(map(str, tmp_path.glob("*"))) == [path]


@pytest.mark.parametrize(
    ("steps", "every", "expected"), [(9, 3, (3, 6, 9)), (8, 3, (3, 6, 8)), (8, 0, (8,)), (8, 9, (8,))]
)
def test_the_curve_ends_with_the_final_evaluation(steps, every, expected, tmp_path):
    assert evaluation_steps(Config(steps=steps, evaluate_every=every)) == expected
    returns = [float(step) for step in expected]
    write(tmp_path / "run", steps=steps, evaluate_every=every, returns=returns)
    assert read_run(tmp_path / "run").returns == tuple(returns)
    assert read_run(tmp_path / "run").problem is None


def cut_line(path):
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 450, "ret')


def drop_summary(path):
    (path / "summary.json").unlink()


def drop_metrics(path):
    (path / "metrics.jsonl").unlink()


def drop_records(path):
    (path / "metrics.jsonl").write_text('{"step": 100, "evaluation": 1.0}\n')


def empty_metrics(path):
    drop_summary(path)
    (path / "metrics.jsonl").write_text("")


def null_return(path):
    text = (path / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(text.replace('"evaluation": 50.0', '"evaluation": null'))


def null_final(path):
    write_json(path / "summary.json", {"step": 400, "evaluation": {"mean": float("nan")}})


def shorter_summary(path):
    write_json(path / "summary.json", {"step": 300, "evaluation": {"mean": 1.0}})


def summary_without_evaluation(path):
    write_json(path / "summary.json", {"step": 400})


def spoil_summary(path):
    (path / "summary.json").write_text("{")


def spoil_metrics(path):
    (path / "metrics.jsonl").write_text("not JSON\n")


PROBLEMS = [
    (drop_summary, "unfinished: recorded up to step 400 of 400"),
    (empty_metrics, "unfinished: recorded up to step 0 of 400"),
    (shorter_summary, "unfinished: recorded up to step 400 of 400"),
    (drop_metrics, "no metrics.jsonl"),
    (drop_records, "no evaluation at step 200"),
    (null_return, "no finite return at step 200"),
    (null_final, "no finite return at step 400"),
    (summary_without_evaluation, "damaged: KeyError('evaluation')"),
    (spoil_summary, "damaged: "),
    (spoil_metrics, "damaged: "),
]


@pytest.mark.parametrize(("spoil", "problem"), PROBLEMS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_run_that_cannot_be_compared_says_why(spoil, problem, tmp_path):
    spoil(write(tmp_path / "run"))
    run = read_run(tmp_path / "run")
    assert run.problem.startswith(problem)
    assert run.returns == ()
    assert run.config.env == PENDULUM


def test_a_line_that_a_kill_cut_short_is_no_damage(tmp_path):
    path = write(tmp_path / "run", finished=False)
    cut_line(path)
    assert read_run(path).problem == "unfinished: recorded up to step 400 of 400"


# Grouping


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([{}, {}], ["all runs"]),
        ([{"seed": 1}, {"seed": 2}, {"env": WALKER}], ["all runs"]),
        ([{"reset": "none"}, {"reset": "redo"}], ["reset=none", "reset=redo"]),  # their thresholds differ by default
        ([{"tau": 0.1}, {}, {"tau": 0.2}], ["tau=0.1", "tau=0.0", "tau=0.2"]),
        ([{"reset": "redo"}, {"tau": 0.5}], ["reset=redo, tau=0.02", "reset=regrama, tau=0.5"]),
        ([{"max_fraction": 0.05}, {}], ["max_fraction=0.05", "max_fraction=None"]),
        ([{"depth": 1, "width": 8}, {"depth": 2, "width": 8}], ["depth=1", "depth=2"]),
        ([{"env": PENDULUM, "steps": 5}, {"env": WALKER, "steps": 6}], ["all runs"]),
        (
            [{"env": PENDULUM, "steps": 5}, {"env": WALKER, "steps": 5}, {"env": WALKER, "steps": 6}],
            ["steps=5", "steps=6"],
        ),
    ],
)
def test_a_group_is_named_by_what_tells_it_from_the_others(settings, expected):
    grouped = group_runs([Run(Path("run"), Config(**entry), (1.0,)) for entry in settings])
    assert list(dict.fromkeys(label for label, _ in grouped)) == expected


@pytest.mark.parametrize("field", dataclasses.fields(Config), ids=lambda field: field.name)
def test_every_setting_but_seed_and_task_makes_a_group(field):
    one = Config(algo="drqv2") if field.name == "n_step" else Config()  # which others do not have
    value = getattr(one, field.name)
    choices = get_args(get_type_hints(Config)[field.name])
    if isinstance(value, str):
        changed = next((choice for choice in choices if choice != value), WALKER)
    elif isinstance(value, bool):
        changed = not value
    else:
        changed = value / 2 if isinstance(value, float) and value else 1 if value is None else value + 1
    both = [Run(Path("a"), one, (1.0,)), Run(Path("b"), dataclasses.replace(one, **{field.name: changed}), (1.0,))]
    labels = [label for label, _ in group_runs(both)]
    if field.name in ("seed", "env"):
        assert set(labels) == {"all runs"}
    else:
        assert f"{field.name}={changed}" in labels[1]


def test_the_runs_of_a_group_are_those_of_each_task():
    cells = compare([*runs([3, 1]), *runs([5], env=WALKER)], resamples=10).cells
    assert [(cell.task, cell.seeds, cell.returns) for cell in cells] == [
        (PENDULUM, (0, 1), ((3.0,), (1.0,))),
        (WALKER, (0,), ((5.0,),)),
    ]


# Comparing


def test_the_curve_is_the_interquartile_mean_at_each_step(tmp_path):
    for seed, final in enumerate([100, 200, 300, 400, 9000]):
        write(tmp_path / f"{seed}", final=final, seed=seed)
    (cell,) = compare(read(tmp_path), resamples=2_000).cells
    assert cell.steps == (100, 200, 300, 400)
    assert [point.value for point in cell.curve] == pytest.approx([75, 150, 225, 300])
    for point in cell.curve:
        assert point.low < point.value < point.high


MIXED = [1, 2, 12, 13, 30]


@pytest.mark.parametrize(
    ("first", "second", "value", "verdict"),
    [
        (runs(HIGH, reset="none"), runs(LOW), 1.0, "reset=none does better"),
        (runs(LOW, reset="none"), runs(HIGH), 0.0, "reset=regrama does better"),
        (runs(HIGH, reset="none"), runs(MIXED), 0.56, "no difference shown"),
        (runs(HIGH, reset="none"), runs([7, 8, 9, 10.5, 13.5]), 0.8, "no difference shown"),  # from 0.44
        (runs(HIGH[:4], reset="none"), runs(LOW), 1.0, "no claim: fewer than 5 seeds"),
        (runs(HIGH, reset="none"), runs(LOW[:1]), 1.0, "no claim: fewer than 5 seeds"),
        (runs(HIGH, reset="none"), runs(LOW, problems=1), 1.0, "no claim: runs are left out"),
        (runs(HIGH, reset="none"), runs([], problems=5), None, "not compared: no task with runs of both"),
        (runs(HIGH, reset="none"), runs(LOW, env=WALKER), None, "not compared: no task with runs of both"),
        (runs(HIGH), runs(LOW, steps=300), None, "not compared: trained for different numbers of steps"),
    ],
)
def test_a_difference_is_claimed_only_where_it_shows(first, second, value, verdict):
    (pair,) = compare([*first, *second], resamples=1_000).pairs
    assert pair.verdict == verdict
    assert (pair.probability and pair.probability.value) == (value and pytest.approx(value))


def test_a_task_on_which_all_runs_failed_forbids_a_claim_on_the_others():
    first = [*runs(HIGH, reset="none"), *runs([], problems=5, reset="none", env=WALKER)]
    (pair,) = compare([*first, *runs(LOW), *runs(LOW, env=WALKER)], resamples=100).pairs
    assert pair.tasks == (PENDULUM,)
    assert pair.verdict == "no claim: runs are left out"


def test_tasks_are_averaged_by_ranks_whatever_their_scales():
    first = [*runs(HIGH, reset="none"), *runs([-1e6] * 5, reset="none", env=WALKER)]
    (pair,) = compare([*first, *runs(LOW), *runs(HIGH, env=WALKER)], resamples=100).pairs
    assert pair.tasks == (PENDULUM, WALKER)
    assert pair.probability.value == pytest.approx(0.5)


def test_every_task_counts_alike_whatever_its_number_of_seeds():
    first = [*runs(HIGH, reset="none"), *runs(LOW + LOW, reset="none", env=WALKER)]
    (pair,) = compare([*first, *runs(LOW), *runs(HIGH, env=WALKER)], resamples=100).pairs
    assert pair.probability.value == pytest.approx(0.5)
    (pair,) = compare([*first[:-6], *runs(LOW), *runs(LOW, env=WALKER)], resamples=100).pairs
    assert pair.verdict == "no claim: fewer than 5 seeds"


def test_many_tasks_are_averaged_as_the_library_function_does():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 3))
    tasks = (PENDULUM, WALKER, DOG)
    mine = [run for k, task in enumerate(tasks) for run in runs(x[:, k], reset="none", env=task)]
    theirs = [run for k, task in enumerate(tasks) for run in runs(y[:, k], env=task)]
    (pair,) = compare([*mine, *theirs], resamples=20_000).pairs
    expected = stratified_bootstrap(x, y, statistic=probability_of_improvement, rng=rng, resamples=20_000)
    assert dataclasses.astuple(pair.probability) == pytest.approx(dataclasses.astuple(expected), abs=0.02)


def test_returns_are_averaged_over_tasks_of_one_scale_only():
    suite = [*runs([100, 300], env=WALKER), *runs([500, 700], env=DOG)]
    assert compare(suite, resamples=100).overall["all runs"].value == pytest.approx(0.4)
    assert compare(suite[:2], resamples=100).overall == {}
    assert compare([*suite, *runs([1, 2])], resamples=100).overall == {}
    assert compare(suite[:3], resamples=100).overall == {}
    assert set(compare([*suite, *runs(HIGH, reset="none", env=DOG)], resamples=100).overall) == {"reset=regrama"}
    assert have_one_scale([WALKER, DOG, "dm_control/humanoid_CMU-run-v0"])
    for other in (PENDULUM, "dm_control/lqr-lqr_2_1-v0", "dm_control/reach_site_features-v0", "Walker2d-v5"):
        assert not have_one_scale([WALKER, other])


def test_one_seed_of_the_bootstrap_gives_one_answer():
    first, second, other = (compare(runs([1, 5, 7, 8, 20]), resamples=50, seed=seed) for seed in (0, 0, 1))
    assert first == second
    assert first != other
