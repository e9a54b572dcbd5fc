"""The continual-digits study: the same in every framework, its files, its command line and its page of results."""

import json

import numpy as np
import pytest
import torch

from benchmarks.continual_digits import grid, jax_runs, tensorflow_runs, torch_runs
from benchmarks.continual_digits.__main__ import main, run
from benchmarks.continual_digits.record import LAST, read, settings, summary, write
from benchmarks.continual_digits.study import Outcome, Study, draw_tasks, initial_weights
from neuroactivity.looking import RecordsError
from reference_agents.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:.*resets do not last")
FRAMEWORKS = ("torch", "jax", "tensorflow")
SHORT = {"seeds": 2, "tasks": 2, "steps_per_task": 20, "reset_every": 8, "tau": 0.3}

pytestmark = pytest.mark.filterwarnings("ignore:.*resets do not last:neuroactivity.ActivityWarning")


@pytest.fixture(scope="module")
def short():
    """Short studies, each run once."""
    outcomes = {}

    def get(**settings):
        key = tuple(sorted(settings.items()))
        if key not in outcomes:
            outcomes[key] = run(Study(**SHORT | settings))
        return outcomes[key]

    return get


@pytest.mark.parametrize("framework", ["torch", "jax", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_resets_fall_where_they_are_due_and_are_counted_by_task(short, framework):
    outcome = short(framework=framework, reset="regrama")
    assert all(values.shape == (2, 2) for values in outcome)
    assert (outcome.resets > 0).all()
    assert ((outcome.accuracy > 0.05) & (outcome.accuracy <= 1)).all()
    assert ((outcome.inactive_grama >= 0) & (outcome.inactive_grama < 0.5)).all()
    assert (short(framework=framework, reset="none").resets == 0).all()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("framework", ["jax", "tensorflow"])
@pytest.mark.parametrize("network", ["mlp", pytest.param("layernorm", marks=pytest.mark.slow), "residual"])
def test_frameworks_learn_the_same(short, framework, network):
    """Without resets there is nothing that a framework draws, so only rounding tells them apart."""
    mine = short(framework=framework, network=network, reset="none", seeds=1, tasks=1)
    theirs = short(framework="torch", network=network, reset="none", seeds=1, tasks=1)
    np.testing.assert_allclose(mine.accuracy, theirs.accuracy, atol=3 / 512)
    np.testing.assert_allclose(mine.inactive_grama, theirs.inactive_grama, atol=3 / 256)
    np.testing.assert_allclose(mine.inactive_dormant, theirs.inactive_dormant, atol=3 / 256)


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_seed_is_a_run_of_its_own(short, framework):
    both = short(framework=framework, reset="regrama")
    second = short(framework=framework, reset="regrama", seeds=1, seed=1)
    for several, one in zip(both, second, strict=True):
        np.testing.assert_allclose(several[1:], one, atol=1e-6)
    assert (both.accuracy[0] != both.accuracy[1]).any()


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_redo_resets_what_the_activations_call_dormant(short, framework):
    assert (short(framework=framework, reset="redo", tau=0.5, seeds=1).resets > 0).all()


@pytest.mark.parametrize("framework", ["torch", "jax", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_what_became_of_reset_neurons_is_counted(short, framework):
    """The last measurement of each run, at step 40, has none after it."""
    outcome = short(framework=framework, reset="regrama")
    assert (outcome.reset_again <= outcome.measured_again).all()
    measured, resets = outcome.measured_again.sum(1), outcome.resets.sum(1)
    assert ((measured > 0) & (measured < resets)).all()
    assert (short(framework=framework, reset="none").measured_again == 0).all()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("options", [{"clock": "run"}, {"batches": 4}, {"outgoing": "small"}])
def test_options_of_resets_change_the_run(short, options):
    default, changed = (short(framework="torch", reset="regrama", **given) for given in ({}, options))
    assert (default.inactive_grama != changed.inactive_grama).any()


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "leaky_relu"])
def test_activation_functions_are_the_same_in_all_frameworks(name):
    x = np.linspace(-3, 3, 13).astype(np.float32)
    functions = [module.ACTIVATIONS[name] for module in (torch_runs, jax_runs, tensorflow_runs)]
    arrays = torch.from_numpy(x), x, x
    one, *others = [np.asarray(function(array)) for function, array in zip(functions, arrays, strict=True)]
    for other in others:
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-7)


def test_tasks_differ_and_derive_from_the_seed():
    tasks = draw_tasks(Study(seeds=3, tasks=2, steps_per_task=5))
    again = draw_tasks(Study(seeds=1, seed=2, tasks=2, steps_per_task=5))
    assert tasks.images.shape == (512, 64)
    assert tasks.labels.shape == (3, 2, 512)
    assert tasks.batches.shape == (3, 2, 5, 64)
    np.testing.assert_array_equal(tasks.labels[2:], again.labels)
    np.testing.assert_array_equal(tasks.batches[2:], again.batches)
    assert (tasks.labels[0, 0] != tasks.labels[0, 1]).mean() > 0.8
    assert tasks.images.min() == pytest.approx(-0.3)
    standardized = draw_tasks(Study(seeds=1, tasks=1, steps_per_task=1, standardize=True)).images
    np.testing.assert_allclose(standardized.mean(0), 0, atol=1e-5)
    assert set(standardized.std(0).round(4)) == {0.0, 1.0}


@pytest.mark.parametrize(("init", "variance"), [("he", 2), ("lecun", 1)])
def test_weights_have_the_variance_that_is_asked_for(init, variance):
    weights = initial_weights(Study(init=init, network="layernorm"), np.random.default_rng(0))
    for name, value in weights.items():
        if name.endswith("kernel"):
            assert value.var() * len(value) == pytest.approx(variance, rel=0.1)
        else:
            assert (value == name.endswith("scale")).all()


def outcome_of(accuracy, seeds=6, tasks=12):
    values = np.random.default_rng(0).normal(accuracy, 0.01, (seeds, tasks))
    return Outcome(values, 1 - values, values / 2, *(np.full((seeds, tasks), count) for count in (3, 4, 1)))


def test_a_file_holds_the_settings_in_force_and_all_numbers(tmp_path):
    study, path = Study(reset="redo", seeds=6, tasks=12), tmp_path / "deep" / "study.json"
    write(study, outcome_of(0.7), path)
    record = json.loads(path.read_text())
    assert list(record) == ["config", *Outcome._fields]
    assert record["config"]["tau"] == 0.025
    assert record == read(path)
    assert np.shape(record["resets"]) == (6, 12)
    assert [file.name for file in path.parent.iterdir()] == ["study.json"]
    assert "accuracy 0.7" in summary(study, outcome_of(0.7))
    assert "36 neurons reset a seed, 75% of them alive" in summary(study, outcome_of(0.7))


@pytest.mark.parametrize(("reset", "clock"), [("redo", "run"), ("none", "own")])
def test_a_file_of_an_earlier_version_is_one_of_the_published_rule(reset, clock, tmp_path):
    study, path = Study(reset=reset, clock=clock, seeds=6, tasks=12), tmp_path / "study.json"
    write(study, outcome_of(0.7), path)
    record = json.loads(path.read_text())
    for name in ("clock", "batches", "outgoing", "replacement_rate"):
        del record["config"][name]
    for name in ("measured_again", "reset_again"):
        del record[name]
    path.write_text(json.dumps(record))
    assert read(path)["config"] == settings(study)
    assert np.sum(read(path)["measured_again"]) == 0


def test_the_command_writes_what_the_study_found(tmp_path, capsys):
    out = tmp_path / "tanh.json"
    options = [
        "--framework",
        "torch",
        "--activation",
        "tanh",
        "--reset",
        "regrama",
        "--seeds",
        "1",
        "--tasks",
        "1",
        "--steps-per-task",
        "4",
    ]
    assert main([*options, "--out", str(out)]) == 0
    assert read(out)["config"]["activation"] == "tanh"
    assert capsys.readouterr().out.startswith("torch mlp tanh, reset regrama: accuracy ")
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--seeds 0", "seeds: expected at least 1, got 0"),
        ("--tasks 0", "tasks: expected at least 1, got 0"),
        ("--steps-per-task -1", "steps_per_task: expected at least 1, got -1"),
        ("--reset-every 0", "reset_every: expected at least 1, got 0"),
        ("--seed -1", "seed: expected at least 0, got -1"),
        ("--learning-rate 0", "learning_rate: expected a positive number, got 0.0"),
        ("--batches 101", "batches: expected 1 to reset_every=100, got 101"),
        ("--replacement-rate 2", "replacement_rate: expected a number from 0 to 1, got 2.0"),
        ("--reset continual --framework torch", "reset: continual is there in jax only, got framework 'torch'"),
        ("--tau -1", "tau: expected a number of 0 or more, got -1.0"),
        ("--activation gelu", "invalid choice 'gelu'"),
        ("--out study.txt", "out: expected a file ending in .json, got study.txt"),
    ],
)
def test_a_bad_option_is_one_line(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--out", "study.json", *options.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def invented(monkeypatch):
    """Let every study come out as invented, and count them."""
    ran = []

    def invent(study):
        ran.append(study)
        accuracy = {"none": 0.2, "redo": 0.5, "regrama": 0.9, "continual": 0.8 - abs(study.replacement_rate - 0.03)}
        return outcome_of(accuracy[study.reset], study.seeds, study.tasks)

    monkeypatch.setattr(grid, "run", invent)
    return ran


@pytest.mark.slow
def test_the_page_shows_every_setting(invented, tmp_path, capsys):
    out, runs = tmp_path / "results", tmp_path / "runs"
    options = ["--out", str(out), "--runs", str(runs), "--seeds", "6", "--tasks", "12"]
    assert grid.main(options) == 0
    assert len(invented) == len(set(map(str, map(settings, invented)))) == 100  # 40 of them to tune continual backprop
    assert {study.replacement_rate for study in invented if study.seed == 0 and study.reset == "continual"} == {0.03}
    page = (out / "continual_digits.md").read_text()
    rows = [line.split() for line in page.splitlines() if line.startswith("sigmoid")]
    values = outcome_of(0.9).accuracy[:, -LAST:].mean(1)
    assert [row[1] for row in rows] == ["no", "ReDo,", "ReDo", "ReGraMa,", "ReGraMa", "ccbp-pytorch"]
    assert rows[4][:3] == ["sigmoid", "ReGraMa", f"{np.sort(values)[1:5].mean():.3f}"]
    assert rows[4][-2:] == ["36", "75%"]
    assert rows[5][1:3] == ["ccbp-pytorch", "(0.03)"]
    assert page.count(".png") == len(list(out.glob("*.png"))) == 3
    assert "grid --out docs/results --seeds 6 --tasks 12\n" in page
    assert capsys.readouterr().out == page


def test_the_page_shows_what_is_asked_for(invented, tmp_path, capsys):
    options = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--seeds", "6", "--tasks", "12"]
    assert grid.main([*options, "--variants", "none", "regrama_own"]) == 0
    assert {(study.reset, study.clock) for study in invented} == {("none", "own"), ("regrama", "own")}
    assert "grid --out docs/results --variants none regrama_own --seeds 6 --tasks 12\n" in capsys.readouterr().out
    assert grid.main([*options, "--variants", "grama"]) == 2
    assert "variants: expected some of none, redo, " in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_goes_on_where_it_was_stopped(invented, tmp_path, capsys):
    options = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--seeds", "6", "--tasks", "12"]
    assert grid.main(options) == 0
    (tmp_path / "runs" / "tanh_redo.json").unlink()
    invented.clear()
    assert grid.main(options) == 0
    assert [(study.activation, study.reset) for study in invented] == [("tanh", "redo")]
    assert grid.main([*options, "--tasks", "13"]) == 2
    assert "expected the study" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}", '{"config": {"tasks": 0}}', '{"config": {"depth": 1}}'])
def test_a_file_that_holds_no_study_is_named(text, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises((UsageError, RecordsError), match=r"broken\.json: expected the record of a study"):
        read(path)


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_central_claim(framework, activation):
    """Without resets the network stops learning, ReGraMa keeps it learning, and ReDo does not see what tanh does."""
    found = {
        reset: run(Study(framework=framework, activation=activation, reset=reset, seeds=1))
        for reset in ("none", "redo", "regrama")
    }
    accuracy = {reset: outcome.accuracy[:, -LAST:].mean() for reset, outcome in found.items()}
    assert accuracy["none"] < 0.3
    assert accuracy["regrama"] > 0.95
    assert found["regrama"].resets.sum() > 0
    if activation == "tanh":
        assert accuracy["redo"] < 0.3
        assert found["redo"].resets.sum() == 0
    else:
        assert accuracy["redo"] > 0.95
