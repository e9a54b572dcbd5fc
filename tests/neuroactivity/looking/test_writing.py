"""A disk that is full, or a process that is killed, leaves every file whole: the earlier one, or the new one."""

import json
import os
import resource

import pytest

from neuroactivity.looking import JsonLines, read_run
from neuroactivity.looking.commandline import main
from neuroactivity.looking.writing import append, replacing, write_text
from tests.neuroactivity.looking.records import recorded, report


@pytest.fixture
def full_disk():
    """Let no file grow beyond some bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("most", [0, 1, 50, 99])
def test_on_a_full_disk_the_earlier_file_stays(tmp_path, full_disk, most):
    write_text(tmp_path / "page.html", "earlier")
    full_disk(most)
    with pytest.raises(OSError, match=r"page\.html"):
        write_text(tmp_path / "page.html", "x" * 100)
    assert (tmp_path / "page.html").read_text() == "earlier"
    assert os.listdir(tmp_path) == ["page.html"]


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("more", [0, 1, 5])
def test_on_a_full_disk_no_half_record_is_left(tmp_path, full_disk, more):
    append(tmp_path / "run.jsonl", {"step": 1})
    before = (tmp_path / "run.jsonl").read_bytes()
    full_disk(len(before) + more)
    with pytest.raises(OSError, match=r"run\.jsonl"):
        append(tmp_path / "run.jsonl", {"step": 2})
    assert (tmp_path / "run.jsonl").read_bytes() == before
    full_disk(10_000)
    append(tmp_path / "run.jsonl", {"step": 3})
    assert [json.loads(line)["step"] for line in (tmp_path / "run.jsonl").read_text().splitlines()] == [1, 3]


@pytest.mark.counts(faults=1)
def test_a_recorder_goes_on_once_there_is_room_again(tmp_path, full_disk):
    log = JsonLines(tmp_path / "run.jsonl")
    log(report())
    full_disk((tmp_path / "run.jsonl").stat().st_size + 20)
    with pytest.raises(OSError, match=r"run\.jsonl"):
        log(report())
    full_disk(100_000)
    log(report())
    (track,) = read_run(log.path).tracks.values()
    assert [moment.step for moment in track.moments] == [1, 3]


@pytest.mark.counts(faults=1)
def test_a_page_that_does_not_fit_is_one_line(tmp_path, full_disk, capsys):
    run = recorded(tmp_path / "run.jsonl")
    (tmp_path / "page.html").write_text("earlier")
    full_disk(5_000)
    assert main(["plot", str(run), "--out", str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'page.html'}: File too large\n"
    assert (tmp_path / "page.html").read_text() == "earlier"
    assert sorted(os.listdir(tmp_path)) == ["page.html", "run.jsonl"]


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("name", ["page.html", ".page.html.draft"])
def test_a_link_is_replaced_and_not_followed(tmp_path, name):
    (tmp_path / "victim").write_text("as it was")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "victim")
    write_text(tmp_path / "out" / "page.html", "new")
    assert (tmp_path / "victim").read_text() == "as it was"
    assert (tmp_path / "out" / "page.html").read_text() == "new"
    assert not (tmp_path / "out" / "page.html").is_symlink()


def test_an_error_of_the_user_of_a_file_is_not_changed(tmp_path):
    def fail():
        with replacing(tmp_path / "file"):
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert not os.listdir(tmp_path)
