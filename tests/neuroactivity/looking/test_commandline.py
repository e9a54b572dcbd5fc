"""The command ``neuroactivity``."""

import json
import subprocess
import sys

import pytest

import neuroactivity as na
from neuroactivity.looking.commandline import main
from tests.neuroactivity.looking.records import EVIL, recorded, report, written


def test_the_version_is_told_and_no_framework_is_loaded():
    code = (
        "import sys; from neuroactivity.looking.commandline import main\n"
        "try: main(['--version'])\n"
        "finally: print(*{'numpy', 'torch', 'jax', 'tensorflow', 'matplotlib', 'rich'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == f"neuroactivity {na.__version__}\n\n"


def test_plot_writes_a_page(tmp_path, capsys):
    runs = [str(recorded(tmp_path / f"{name}.jsonl")) for name in "ab"]
    assert main(["plot", *runs, "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert capsys.readouterr().out.startswith(str(tmp_path / "page.html"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl", "page.html"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "the following arguments are required"),
        (["draw"], "invalid choice"),
        (["plot", "run.jsonl"], "--out"),
        (["plot", "none.jsonl", "--out", "page.html"], "none.jsonl: expected a file of records"),
        (["plot", "run.jsonl", "broken.jsonl", "--out", "page.html"], "broken.jsonl, line 1: expected one JSON object"),
        (["plot", "run.jsonl", "--out", "run.jsonl"], "--out: expected the name of a page"),
        (["plot", "run.jsonl", "--out", "."], "--out: expected the name of a page"),
        (["plot", "run.jsonl", "--out", "none/page.html"], "No such file or directory"),
        (["inspect", "broken.jsonl"], "broken.jsonl, line 1: expected one JSON object"),
        (["inspect", "bro\nken"], r"bro\nken: expected a file of records"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "run.jsonl")
    written(tmp_path / "broken.jsonl", b"\x1b[31mno\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert message in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.counts(faults=1)
def test_a_link_that_has_the_pages_name_is_replaced_and_not_followed(tmp_path):
    run, page = recorded(tmp_path / "run.jsonl"), tmp_path / "page.html"
    (tmp_path / "victim").write_text("as it was")
    page.symlink_to(tmp_path / "victim")
    assert main(["plot", str(run), "--out", str(page)]) == 0
    assert (tmp_path / "victim").read_text() == "as it was"
    assert not page.is_symlink()
    page.unlink()
    page.symlink_to(run)
    assert main(["plot", str(run), "--out", str(page)]) == 2


@pytest.mark.counts(faults=1)
def test_links_that_lead_in_a_circle_are_one_line_at_most(tmp_path, capsys):
    run = recorded(tmp_path / "run.jsonl")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for command in (["inspect"], ["plot", "--out", str(tmp_path / "page.html")]):
        assert main([*command, str(tmp_path / "a")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["plot", str(run), "--out", str(tmp_path / "a")]) == 0
    assert (tmp_path / "b").is_symlink()


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize(("closed", "status"), [(">&-", 0), ("2>&-", 0), ("2>/dev/full", 2), (">/dev/full", 2)])
def test_closed_or_full_streams(tmp_path, closed, status):
    run = recorded(tmp_path / "run.jsonl") if status == 0 or closed[0] == ">" else "none"
    command = f"{sys.executable} -m neuroactivity.looking inspect {run} {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == status


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize(
    ("error", "status", "line"),
    [(KeyboardInterrupt, 130, "interrupted"), (MemoryError, 2, "error: not enough memory")],
)
def test_ctrl_c_and_too_little_memory_are_one_line(tmp_path, monkeypatch, capsys, error, status, line):
    def interrupt(*args):
        raise error

    run, page = recorded(tmp_path / "run.jsonl"), tmp_path / "page.html"
    page.write_text("older")
    monkeypatch.setattr("neuroactivity.looking.commandline.build_page", interrupt)
    assert main(["plot", str(run), "--out", str(page)]) == status
    assert capsys.readouterr().err == f"{line}\n"
    assert page.read_text() == "older"


def test_records_may_be_named_json(tmp_path, capsys):
    path = recorded(tmp_path / "run.json", 2)
    assert main(["inspect", str(path)]) == 0
    assert "2 measurements" in capsys.readouterr().out
    path.write_text('{\n"groups": [\n')
    assert main(["inspect", str(path)]) == 2
    assert "expected a layout or records in JSON" in capsys.readouterr().err


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("key", ["reset", "reset_again"])
def test_no_more_neurons_are_reset_than_there_are(tmp_path, capsys, key):
    group = {"neurons": 4, "inactive": 1, key: 5}
    path = written(tmp_path / "run.jsonl", {"tau": 0.01, "groups": {"fc": group}})
    assert main(["inspect", str(path)]) == 2
    assert "group 'fc': expected at most 4 neurons reset, got 5" in capsys.readouterr().err


def test_an_older_page_stays_where_the_new_one_cannot_be_made(tmp_path):
    (tmp_path / "page.html").write_text("older")
    written(tmp_path / "broken.jsonl", b"no\n")
    assert main(["plot", str(tmp_path / "broken.jsonl"), "--out", str(tmp_path / "page.html")]) == 2
    assert (tmp_path / "page.html").read_text() == "older"


def test_inspect_prints_the_latest_table_of_each_network(tmp_path, capsys):
    path = recorded(tmp_path / "run.jsonl", 3, network="actor", method="regrama")
    recorded(path, 2, network="critic")
    assert main(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run · actor · GraMa score: step 300, 3 measurements"
    assert lines[1].split() == [
        "group",
        "neurons",
        "inactive",
        "share",
        "reset",
        "again",
        "lowest",
        "median",
        "highest",
    ]
    assert lines[3].split() == ["fc1", "6", "3", "50.0%", "1", "0", "0", "1.5", "1.5"]
    assert lines[8] == "run · critic: step 200, 2 measurements"


def test_inspect_prints_a_saved_layout(tmp_path, capsys):
    layout = na.Layout([na.dense("fc", weight=("fc.weight", "neuron in"))])
    (tmp_path / "layout.json").write_text(json.dumps(layout.to_dict(), indent=2))
    assert main(["inspect", str(tmp_path / "layout.json")]) == 0
    assert capsys.readouterr().out == layout.describe() + "\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_obeys_no_name(tmp_path, capsys, monkeypatch, terminal):
    pytest.importorskip("rich")
    path = recorded(tmp_path / "run.jsonl", network=EVIL, groups=(EVIL, "[bold red]fc[/]"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "dumb")  # rich adds no colours of its own, and folds what is long
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\u202e"} & set(out)
    assert r"\x1b[31m" in out
    assert "[bold" in out


def test_inspect_says_why_a_group_was_not_judged_and_what_was_not_measured(tmp_path, capsys):
    group = na.GroupActivity("fc", 4, 0, nonfinite=4)
    written(tmp_path / "run.jsonl", na.ActivityReport(0.01, (group,), absent=("frozen",)).to_dict())
    main(["inspect", str(tmp_path / "run.jsonl")])
    out = capsys.readouterr().out
    assert "n/a" in out
    assert "4 not finite" in out
    assert "not measured: frozen" in out


def test_reports_are_records_with_an_ordinary_json_dump(tmp_path, capsys):
    path = written(tmp_path / "run.jsonl", report().to_dict())
    assert main(["inspect", str(path)]) == 0
    assert "step 1, 1 measurement\n" in capsys.readouterr().out
