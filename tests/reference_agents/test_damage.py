"""A file that is damaged, foreign or newer is told in one line, before the first step of a run; nothing is touched."""

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

import reference_agents.compare.__main__ as compare
from neuroactivity.looking import commandline as looking
from reference_agents import analyze, prune, train
from reference_agents.config import Config
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from tests.reference_agents.runs import SHORT, arguments

SETTINGS = SHORT | {"evaluate_every": 0, "steps": 320}
OPTIONS = [*arguments(SETTINGS), "--record-scores"]

DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 3],
    "binary": lambda content: bytes(range(256)),
    "of another kind": lambda content: b"[]\n",
    "nested too deep": lambda content: b"[" * 100_000 + b"\n",
    "a huge number": lambda content: b'{"step": ' + b"9" * 5_000 + b"}\n",
    "an infinite number": lambda content: b'{"step": 1e999}\n',
    "a name twice": lambda content: content.replace(b"{", b'{"step": 1, "step": 2, ', 1),
    "newer": lambda content: content.replace(b"{", b'{"version": 99, ', 1),
    "not UTF-8": lambda content: content.replace(b'"', b'"\xe9', 1),
    "a line of something else": lambda content: content.replace(b"\n", b"\nnonsense\n", 1),
}
COMMANDS = {
    "train": (lambda out: train.main([*OPTIONS, "--resume", "--out", str(out)]),
              ["config.json", "metrics.jsonl", "scores.jsonl", "checkpoint.npz", "summary.json"]),
    "analyze": (lambda out: analyze.main([str(out)]), ["scores.jsonl"]),
    "prune": (lambda out: prune.main([str(out), "--episodes", "1"]), ["config.json", "scores.jsonl"]),
    "compare": (lambda out: compare.main([str(out)]), ["config.json", "metrics.jsonl", "summary.json"]),
    "plot": (lambda out: looking.main(["plot", str(out), "--out", str(out / "page.html")]), ["scores.jsonl"]),
    "inspect": (lambda out: looking.main(["inspect", str(out / "metrics.jsonl")]), ["metrics.jsonl"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage") / "run"
    train.train(Config(**SETTINGS, record_scores=True), folder)
    return folder


@pytest.fixture
def run(recorded, tmp_path, monkeypatch, layouts_found_once):
    """A copy of a run that may go on, and that must not."""

    def begin(self):
        pytest.fail("it trains")

    monkeypatch.setattr(Training, "run", begin)
    shutil.copytree(recorded, tmp_path / "run")
    return tmp_path / "run"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def refused(command, folder, capsys):
    """The error of a command that has touched nothing."""
    before = contents(folder.parent)
    assert command(folder) == 2
    assert contents(folder.parent) == before
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


QUICK = ("half", "newer", "nested too deep")
FINE = [("compare", "metrics.jsonl", "empty"), ("plot", "scores.jsonl", "empty"), ("train", "checkpoint.npz", "newer")]
FINE += [("train", "checkpoint.npz", "a name twice")]  # neither is a damage of such a file
FINE += [(name, file, "half") for name in COMMANDS for file in ("scores.jsonl", "metrics.jsonl") if name != "train"]
CASES = [
    pytest.param(name, file, damage, marks=[pytest.mark.slow] * (damage not in QUICK))
    for name, (_, files) in COMMANDS.items()
    for file in files
    for damage in DAMAGES
    if (name, file, damage) not in FINE  # a last line that a kill has cut short is left out
]


@pytest.mark.sampled(12)
@pytest.mark.counts(faults=1)
@pytest.mark.parametrize(("name", "file", "damage"), CASES, ids=lambda value: str(value).replace(" ", "_"))
def test_a_damaged_file_is_one_line(run, capsys, name, file, damage):
    if name == "train" and file != "summary.json":
        (run / "summary.json").unlink()
    content = (run / file).read_bytes()
    (run / file).write_bytes(DAMAGES[damage](content))
    assert (run / file).read_bytes() != content
    assert file in refused(COMMANDS[name][0], run, capsys)


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("name", ["train", "analyze", "prune", "compare"])
def test_a_folder_in_place_of_a_file_is_one_line(run, capsys, name):
    command, files = COMMANDS[name]
    for file in files[:1]:
        (run / file).unlink()
        (run / file).mkdir()
    error = refused(command, run, capsys)
    assert "expected a file, got a folder" in error


def changed(run, **values):
    """Let the checkpoint of a run hold something else."""
    with np.load(run / "checkpoint.npz") as saved:
        arrays = dict(saved)
    for name, change in values.items():
        name = name.replace("__", "/")
        if name == "progress":
            arrays[name] = np.asarray(json.dumps(json.loads(arrays[name].item()) | change))
        else:
            arrays[name] = change(arrays[name])
    (run / "summary.json").unlink()
    np.savez(run / "checkpoint.npz", **arrays)


BAD = {
    "another part": ({"progress": {"colour": 3}}, "progress: expected step"),
    "a text": ({"progress": {"step": "3"}}, "progress: step: cannot be '3'"),
    "a negative number": ({"progress": {"records": -1}}, "progress: records: expected 0 or more"),
    "no generator": ({"progress": {"rng": {"state": 3}}}, "expected the checkpoint of this run"),
    "of another run": ({"progress": {"settings": {"seed": 7}}}, "seed: expected 0, got 7"),
    "more records than there are": ({"progress": {"records": 99}}, "metrics.jsonl"),
    "records of later steps": ({"progress": {"step": 100}}, "expected a record from step"),
    "fewer transitions": ({"replay__rewards": lambda array: array[:-1]}, "replay: rewards: expected (300, 1)"),
    "wider transitions": ({"replay__actions": lambda array: np.tile(array, 2)}, "replay: actions: expected (300, 1)"),
    "negative transitions": ({"replay__added": lambda array: np.asarray(-5)}, "replay: added: expected a whole number"),
    "half an agent": ({"agent": lambda array: array[: len(array) // 2]}, "expected the checkpoint of this run"),
}


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize(("values", "message"), BAD.values(), ids=BAD)
def test_a_checkpoint_of_something_else_is_one_line(run, capsys, values, message):
    changed(run, **values)
    assert message in refused(COMMANDS["train"][0], run, capsys)


@pytest.mark.counts(faults=1)
def test_a_compressed_checkpoint_could_be_of_any_size_and_is_refused(run, capsys):
    with np.load(run / "checkpoint.npz") as saved:
        np.savez_compressed(run / "checkpoint.npz", **dict(saved))
    (run / "summary.json").unlink()
    assert "expected arrays that are not compressed" in refused(COMMANDS["train"][0], run, capsys)


@pytest.mark.counts(faults=1)
def test_a_record_that_is_rewound_is_not_parsed(run, monkeypatch):
    """A kill may leave anything behind the checkpoint."""
    (run / "summary.json").unlink()
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\n")
    training = train.prepare(Config(**SETTINGS, record_scores=True), run, resume=True)
    assert training.progress.records


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("file", ["scores.jsonl", "summary.json"])
def test_a_file_of_another_run_alone_keeps_its_folder(tmp_path, capsys, file):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / file).write_text("{}")
    error = refused(lambda out: train.main([*OPTIONS, "--out", str(out)]), tmp_path / "out", capsys)
    assert "expected a folder without a run" in error


def renamed(run, network, group="fc"):
    """Let the scores of a run be those of a network and a group of other names."""
    lines = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["network"] == "actor"]
    for line in kept:
        line["network"] = network
        for part in ("scores", "reset"):
            line[part] = {group if place == 0 else f"{group}{place}": rows for place, rows in
                          enumerate(line[part].values())}  # fmt: skip
    (run / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))


@pytest.mark.sampled(1)
@pytest.mark.counts(faults=1)
@pytest.mark.parametrize(
    "name",
    ["../../X", "$\\frac{$\x1b[31m"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("/tmp/X", "..", "a/b", "", "n" * 300, "_\u202e")],
)
def test_a_networks_name_leads_nowhere_and_is_obeyed_by_nothing(run, capsys, name):
    renamed(run, name, group=name or "fc")
    before = contents(run.parent)
    assert analyze.main([str(run)]) == 0
    made = [path for path in contents(run.parent) if path not in before]
    assert len(made) == 5
    assert {path.parent for path in made} == {run / "neurons"}
    out, err = capsys.readouterr()
    assert not {"\x1b", "\u202e"} & set(out + err)


@pytest.mark.counts(faults=1)
def test_a_link_in_a_runs_folder_leads_nowhere(run, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (run / "neurons").symlink_to(tmp_path / "elsewhere")
    assert "got the link" in refused(lambda out: analyze.main([str(out)]), run, capsys)
    (run / "neurons").unlink()
    (tmp_path / "victim").write_text("as it was")
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").symlink_to(tmp_path / "victim")
    (run / "summary.json").unlink()
    assert "without links" in refused(COMMANDS["train"][0], run, capsys)


@pytest.mark.counts(faults=1)
def test_a_sweep_stays_in_its_folder(tmp_path):
    from reference_agents.sweep import plan

    (run,) = plan(["env=.."], tmp_path / "sweep")
    assert run.folder.parent == run.log.parent == tmp_path / "sweep"
    assert Path("..") not in [Path(run.folder.name)]


def test_a_checkpoint_as_it_is_goes_on(run):
    assert RunFolder(run).load_checkpoint()[0]["settings"]["env"] == SETTINGS["env"]


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize(("most", "file"), [(2_500, "metrics.jsonl"), (9_000, "checkpoint.npz")])
def test_a_full_disk_ends_a_run_with_every_file_whole(tmp_path, capfd, layouts_found_once, most, file):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        every = 150 if file == "checkpoint.npz" else 10_000
        options = arguments(SETTINGS | {"checkpoint_every": every})
        status = train.main([*options, "--out", str(tmp_path / "run")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 2
    err = capfd.readouterr().err
    assert err.count("error: ") == 1
    assert f"error: {tmp_path / 'run' / file}: " in err.splitlines()[-1]
    assert all(json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.endswith("draft")]
    assert not (tmp_path / "run" / "checkpoint.npz").exists()
