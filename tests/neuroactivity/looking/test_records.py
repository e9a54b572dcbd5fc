"""Records of a run: what is written, and what is read of it."""

import json
import math

import pytest

import neuroactivity as na
from neuroactivity.looking import JsonLines, RecordsError, read_run, record
from tests.neuroactivity.looking.records import recorded, report, written

PLAIN = {"tau": 0.01, "groups": {"fc": {"neurons": 4, "inactive": 1}}}


def only(path):
    (track,) = read_run(path).tracks.values()
    return track


def steps(path):
    return [moment.step for moment in only(path).moments]


def test_a_record_is_the_report_and_where_it_belongs(tmp_path):
    recorded(tmp_path / "new" / "run.jsonl", 2, network="critic", method="regrama")
    first, second = map(json.loads, (tmp_path / "new" / "run.jsonl").read_text().splitlines())
    assert (first["step"], second["step"]) == (100, 200)
    assert second.items() >= {"version": 1, "network": "critic", "method": "regrama", "tau": 0.01}.items()
    assert second["groups"]["fc1"]["scores"] == [[0, 0, 1.5, 1.5, 1.5, 1.5]]
    assert second["groups"]["fc1"]["reset_neurons"] == [[0]]


def test_scores_can_be_left_out_and_are_null_where_not_finite():
    group = na.GroupActivity("fc", 3, 0, nonfinite=3, scores=((math.nan, math.inf, 1.23456789),))
    found = na.ActivityReport(0.01, (group,))
    assert record(found, step=1)["groups"]["fc"]["scores"] == [[None, None, 1.23457]]
    assert "scores" not in record(found, step=1, scores=False)["groups"]["fc"]


def test_the_step_is_asked_for_at_each_report(tmp_path):
    at = iter((5, 7.5))
    log = na.JsonLines(tmp_path / "run.jsonl", step=lambda: next(at))
    log(report())
    log(report())
    assert steps(log.path) == [5, 7.5]


def test_runs_that_are_trained_at_once_are_counted_each(tmp_path):
    log = JsonLines(tmp_path / "run.jsonl", every=10)
    for run in (0, 1, 0, 1):
        log(report(run=run))
    tracks = read_run(log.path).tracks
    assert {key[2]: [moment.step for moment in track.moments] for key, track in tracks.items()} == {
        0: [10, 20],
        1: [10, 20],
    }


def test_what_a_resumed_run_measures_again_takes_the_place_of_what_it_measured_before(tmp_path):
    path = recorded(tmp_path / "run.jsonl", 5)
    log = JsonLines(path, every=100, start=300)  # from the checkpoint at step 300
    log(report(step=6))
    log(report(step=6))
    track = only(path)
    assert [moment.step for moment in track.moments] == [100, 200, 300, 400, 500]
    assert track.moments[-1].fractions.tolist() == [1, 1]
    assert track.replaced == 2
    assert [column.step for column in track.kept(240)] == [100, 200, 300, 400, 500]


def test_a_run_that_starts_anew_on_a_file_replaces_the_old_one_whatever_its_groups(tmp_path):
    path = recorded(tmp_path / "run.jsonl", 5)
    recorded(path, 2, groups=("fc2", "fc3"), neurons=9)
    track = only(path)
    assert (list(track.latest), steps(path), track.replaced) == (["fc2", "fc3"], [100, 200], 5)


@pytest.mark.parametrize(("rest", "kept"), [(b'{"tau": 0.0', False), (json.dumps(PLAIN).encode(), True)])
def test_a_line_without_an_end_is_removed_or_ended_before_the_next_record(tmp_path, rest, kept):
    path = recorded(tmp_path / "run.jsonl", 2)
    path.write_bytes(path.read_bytes() + rest)
    JsonLines(path, every=100, start=200)(report())
    lines = path.read_bytes().splitlines()
    assert len(lines) == 3 + kept
    assert all(json.loads(line) for line in lines)


def test_an_incomplete_last_line_is_left_out_and_said(tmp_path):
    path = recorded(tmp_path / "run.jsonl", 2)
    path.write_bytes(path.read_bytes()[:-20])
    assert steps(path) == [100]
    assert read_run(path).notes == ["The last line of run is incomplete, and was left out."]


def test_plain_reports_are_records_too_and_are_counted(tmp_path):
    path = written(tmp_path / "run.jsonl", report().to_dict(), report(step=3).to_dict())
    assert steps(path) == [1, 2]
    assert only(path).moments[1].total == 0.5
    assert only(path).kept(10) == []


def test_scores_are_thinned_as_they_come_and_no_reset_is_lost(tmp_path):
    log = JsonLines(tmp_path / "run.jsonl")
    for number in range(1000):
        log(report(groups=("fc",), neurons=3, reset=(2,) if number == 701 else ()))
    track = only(log.path)
    columns = track.kept(50)
    assert 25 <= len(columns) <= 50
    assert columns[-1].step == 1000
    assert [column.step > 702 for column in columns if column.resets["fc"]] == [True]
    assert len(track.columns) < 480


def test_runs_of_the_reference_agents_are_read_with_scores_if_there_are_any(tmp_path):
    fractions = {
        "dormant/actor/fc1": None,
        "inactive/actor/fc1": 0.25,  # the method that resets comes last
        "neurons_reset/actor": 3,
        "reset_again/actor": 1,
    }
    more = fractions | {"step": 2000, "inactive/actor/fc1": 0.5, "neurons_reset/actor": 8}
    written(tmp_path / "metrics.jsonl", fractions | {"step": 1000, "return": 1.0}, more)
    run = read_run(tmp_path)
    ((key, track),) = run.tracks.items()
    assert (run.name, key) == (tmp_path.name, ("actor", "regrama", None))
    assert [moment.fractions[0] for moment in track.moments] == [0.25, 0.5]
    assert [(moment.total_reset, moment.total_again) for moment in track.moments] == [(3, 1), (5, 0)]

    line = {"step": 1, "network": "actor", "kind": "inactive", "tau": 0.01, "reset": {"fc1": [[0]]}}
    at = [line | {"step": step, "scores": {"fc1": [[0.0, 2.0]]}} for step in (1, 2, 2)]
    written(tmp_path / "scores.jsonl", *at)
    track = only(tmp_path)
    found = [(moment.total, moment.total_reset, moment.total_again) for moment in track.moments]
    assert found == [(0.5, 1, 0), (0.5, 2, 2)]  # what was reset twice at one step counts twice
    assert (track.replaced, [column.resets for column in track.kept(9)]) == (0, [{"fc1": {0}}, {"fc1": {0}}])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([b"\x89PNG\r\n\x1a\n"], r"line 1: expected one JSON object a line, got \x89PNG"),
        ([b"[" * 100_000 + b"\n"], "line 1: expected one JSON object a line"),
        ([[1, 2]], "line 1: expected a JSON object, got list"),
        ([{"loss": 1.0}], "as ActivityReport.to_dict makes it, got the keys loss"),
        ([PLAIN | {"version": 2}], "line 1: expected records of version 1, got 2; a newer neuroactivity may read them"),
        ([PLAIN, b"{broken\n", PLAIN], "line 2: expected one JSON object a line, got {broken"),
        ([], "expected records of measurements, got none"),
        ([PLAIN | {"groups": {"fc": {"neurons": 4, "inactive": 5}}}], "at most 4 inactive neurons, got 5"),
        ([PLAIN | {"groups": {"fc": {"neurons": "4"}}}], "neurons: expected a whole number, got '4'"),
        ([PLAIN | {"tau": -1}], "tau: expected a number from 0 to 4.5036e+15, got -1"),
        ([PLAIN | {"step": "x"}], "step: expected a number, got 'x'"),
        ([PLAIN | {"groups": {"fc": {"neurons": 2, "scores": [[1.0]]}}}], "expected 2 scores, got 1"),
        ([PLAIN | {"groups": {"fc": {"neurons": 1, "scores": [[1]], "reset_neurons": [[1]]}}}], "places below 1"),
        ([PLAIN, PLAIN | {"groups": {"fc": {"neurons": 5}}}], "line 2: group 'fc': expected 4 neurons, as before"),
    ],
)  # fmt: skip
def test_damaged_foreign_and_newer_files_are_told_with_the_line(tmp_path, lines, message):
    path = written(tmp_path / "run.jsonl", *lines)
    with pytest.raises(RecordsError) as caught:
        read_run(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_without_records_is_told(tmp_path):
    with pytest.raises(RecordsError, match=r"expected a folder with metrics\.jsonl or with one file of records, got 0"):
        read_run(tmp_path)
    with pytest.raises(RecordsError, match="got nothing there"):
        read_run(tmp_path / "none")


def test_every_is_checked(tmp_path):
    with pytest.raises(ValueError, match=r"^every: expected 1 or more steps, got 0$"):
        JsonLines(tmp_path / "run.jsonl", every=0)
