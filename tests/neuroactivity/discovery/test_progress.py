"""A slow search says how far it is, on a terminal and nowhere else."""

import io

import pytest

from neuroactivity.discovery import progress
from neuroactivity.discovery.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass with every look at the clock."""
    times = {"step": 0.0, "now": 0.0}

    def monotonic() -> float:
        times["now"] += times["step"]
        return times["now"]

    monkeypatch.setattr(progress.time, "monotonic", monotonic)
    return times


def search(evaluations: int) -> None:
    bar = Progress(10)
    evaluate = bar.counted(lambda x: x)
    assert [evaluate(number) for number in range(evaluations)] == list(range(evaluations))
    bar.end()


def test_a_slow_search_rewrites_one_line_and_wipes_it(clock, monkeypatch):
    clock["step"] = 1.0
    monkeypatch.setattr(progress.sys, "stderr", Terminal())
    search(20)
    lines = [line.rstrip() for line in progress.sys.stderr.getvalue().split("\r")]
    assert lines[1] == "neuroactivity: finding the layout, 20%, 2 s"
    assert "100%" not in lines[-3]
    assert lines[-2:] == ["", ""]
    assert "\n" not in progress.sys.stderr.getvalue()


@pytest.mark.parametrize(("step", "stream"), [(0.01, Terminal()), (1.0, io.StringIO()), (1.0, None)])
def test_a_quick_search_and_a_log_file_see_nothing(clock, monkeypatch, step, stream):
    clock["step"] = step
    monkeypatch.setattr(progress.sys, "stderr", stream)
    search(20)
    assert stream is None or stream.getvalue() == ""
