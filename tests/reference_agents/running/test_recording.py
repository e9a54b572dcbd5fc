"""Files are whole or not there, and records go back to where a checkpoint was taken."""

import json
import math

import pytest

from reference_agents.errors import UsageError
from reference_agents.running.files import replacing, write_text
from reference_agents.running.recording import Recorder, read_records, write_json
from reference_agents.seeding import derive


def test_records_are_read_as_they_were_written(tmp_path):
    recorder = Recorder(tmp_path / "metrics.jsonl")
    records = [{"step": 1, "return": 0.1 + 0.2}, {"step": 2, "return": None}]
    for record in records:
        recorder.write(record)
    assert read_records(recorder.path) == records
    assert recorder.count == 2


def test_what_is_not_finite_becomes_null(tmp_path):
    recorder = Recorder(tmp_path / "metrics.jsonl")
    recorder.write({"a": math.nan, "b": [math.inf, 1.0], "c": {"d": -math.inf}})
    assert recorder.path.read_text() == '{"a": null, "b": [null, 1.0], "c": {"d": null}}\n'
    write_json(tmp_path / "summary.json", {"mean": math.nan})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"mean": None}


@pytest.mark.parametrize("broken", ["", '{"step": 3, "ret'])
def test_records_after_a_checkpoint_are_dropped(tmp_path, broken):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n' + broken)
    recorder = Recorder(path)
    recorder.rewind(2)
    assert read_records(path) == [{"step": 1}, {"step": 2}]
    recorder.write({"step": 30})
    assert [record["step"] for record in read_records(path)] == [1, 2, 30]
    assert recorder.count == 3


def test_missing_records_are_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    with pytest.raises(UsageError, match=r"metrics\.jsonl: expected at least 2 records, got 1"):
        Recorder(path).rewind(2)


@pytest.mark.counts(faults=1)
def test_records_that_no_memory_holds_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # of zeros, which take no room on the disk
    with pytest.raises(UsageError, match=r"metrics\.jsonl: expected at most 1024 MiB of records, got more"):
        read_records(path)


def test_a_file_is_replaced_only_when_complete(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")

    def stop_halfway():
        with replacing(path) as file:
            file.write(b"new, but")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        stop_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_streams_of_random_numbers_are_apart_and_stay_the_same():
    paths = [("episode", 1), ("episode", 2), ("evaluation", 1), ("noise",), ("weights",)]
    seeds = [derive(seed, *path) for seed in (0, 1) for path in paths]
    assert len(set(seeds)) == len(seeds)
    assert seeds[0] == derive(0, "episode", 1)
    assert all(0 <= seed < 2**32 for seed in seeds)
