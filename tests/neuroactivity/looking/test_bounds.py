"""What a file holds is bounded before it takes memory or fills a terminal, and so is what is read of it as JSON."""

import json

import pytest

import neuroactivity as na
from neuroactivity.looking import RecordsError, build_page, read_run, reading, series
from neuroactivity.looking.commandline import main
from neuroactivity.looking.figures import arrange
from neuroactivity.looking.reading import parse, read_json
from tests.neuroactivity.looking.records import written


def counts(groups, step=1, **more):
    return {"step": step, "tau": 0.01, "groups": {f"g{n}": {"neurons": 2, "inactive": 1} for n in groups}, **more}


@pytest.mark.counts(faults=1)
def test_a_terminal_is_not_filled_with_groups(tmp_path, capsys):
    assert main(["inspect", str(written(tmp_path / "run.jsonl", counts(range(5_000))))]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") < 420
    assert "... and 4,600 further groups" in out


@pytest.mark.counts(faults=1)
def test_a_terminal_is_not_filled_with_a_layout(tmp_path, capsys):
    groups = [na.dense(f"{n}" + "x" * 5_000 * (n == 0), weight=(f"w{n}", "neuron in")) for n in range(2_000)]
    (tmp_path / "layout.json").write_text(json.dumps(na.Layout(groups).to_dict()))
    assert main(["inspect", str(tmp_path / "layout.json")]) == 0
    out = capsys.readouterr().out
    assert "... and 1,600 further groups" in out
    assert max(map(len, out.splitlines())) < 5_000


@pytest.mark.counts(faults=1)
def test_of_many_networks_the_first_are_read(tmp_path):
    lines = [counts([0], network=f"n{n}") for n in range(200)]
    run = read_run(written(tmp_path / "run.jsonl", *lines))
    assert len(run.tracks) == 48
    assert "the first 48 networks and runs are read; left out: 152 records of further networks" in run.notes[0]
    assert len(build_page([run])) < 500_000


@pytest.mark.counts(faults=1)
def test_a_page_has_a_bounded_number_of_panels(tmp_path):
    run = read_run(written(tmp_path / "run.jsonl", counts(range(900)), counts(range(900), network="other")))
    page = arrange([run])
    assert [len(page.groups(section)) for section in page.sections] == [400, 400]
    assert "other: the first 400 of 900 groups are shown." in page.notes
    assert "the first 400 of 900 groups are shown." in build_page([run])


@pytest.mark.counts(faults=1)
def test_more_than_memory_holds_is_refused(tmp_path, monkeypatch):
    path = written(tmp_path / "many.jsonl", *[counts(range(6_000 * k, 6_000 * (k + 1)), k + 1) for k in range(2)])
    with pytest.raises(RecordsError, match=r"line 2: expected at most 10,000 groups of a network, got more"):
        read_run(path)
    monkeypatch.setattr(series, "VALUES", 100)
    path = written(tmp_path / "long.jsonl", *[counts([0], step + 1) for step in range(5)])
    with pytest.raises(RecordsError, match=r"line 5: expected at most 100 values over time, got more"):
        read_run(path)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "LONGEST_LINE", 100)
        with pytest.raises(RecordsError, match=r"long\.jsonl, line 1: expected one JSON object a line, got"):
            read_run(written(tmp_path / "long.jsonl", counts(range(20))))
    monkeypatch.setattr(reading, "LARGEST_FILE", 100)
    (tmp_path / "layout.json").write_text(" " * 101)
    with pytest.raises(RecordsError, match=r"layout\.json: expected at most 0 MiB, got more"):
        read_json(tmp_path / "layout.json")


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected x, got nothing"),
        (b'{"a": 1, "a": 2}', "expected x, each name once, got 'a' twice"),
        (b'{"b": [{"\\u001b": 1, "\\u001b": 2}]}', r"expected x, each name once, got '\x1b' twice"),
        (b"[" * 100_000, "expected x, got [[[["),
        (b"9" * 5_000, "expected x, got 9999"),
        (b"\xff", r"expected x, got \xff: 'utf-8' codec can't decode byte 0xff"),
        ('{"a": 1}'.encode("utf-16"), r"expected x, got \xff\xfe{"),
        (b"{'a': 1}", "expected x, got {'a': 1}"),
    ],
)
def test_json_that_is_not_clear_is_refused(text, message):
    with pytest.raises(RecordsError) as caught:
        parse(text, "expected x")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.counts(faults=1)
def test_a_newer_layout_is_refused():
    with pytest.raises(na.LayoutError, match=r"^expected a layout of version 1, got version 2, a newer one$"):
        na.Layout.from_dict({"version": 2, "groups": []})


@pytest.mark.counts(faults=1)
def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordsError, match="expected a file, got a pipe or a device"):
        read_json(tmp_path / "pipe")
