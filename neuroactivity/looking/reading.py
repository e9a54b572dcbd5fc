"""Read the records of a run, line by line: a file may be larger than memory, since scores are thinned as they come."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neuroactivity.looking.forms import read_record
from neuroactivity.looking.series import Run
from neuroactivity.looking.text import RecordsError, printable

LONGEST_LINE = 1 << 26
FILES = ("scores.jsonl", "metrics.jsonl")
"""What the reference agents write, the more telling one first."""


def read_run(path: Path) -> Run:
    """Read a run.

    Args:
        path: A file of records, or a folder with one; of the reference agents' files the one with scores is read.

    Returns:
        The run, named by its file, or its folder where the file is named as those of any run.

    Raises:
        RecordsError: If there are no records, or one is damaged, of another program or of a newer version.
        OSError: If the file cannot be read.
    """
    file = _file(path)
    shown = file.resolve()
    run = Run(printable(shown.parent.name if shown.name in FILES else shown.stem, longest=60) or "run")
    for number, record in _records(file, run):
        try:
            for measurement in read_record(record):
                run.add(measurement)
        except RecordsError as error:
            raise RecordsError(f"{file}, line {number}: {error}") from None
    if not run.tracks:
        raise RecordsError(f"{file}: expected records of measurements, got none")
    return run


def _file(path: Path) -> Path:
    """Return the file of a run."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise RecordsError(f"{path}: expected a file of records or the folder of a run, got nothing there")
    usual = [path / name for name in FILES if (path / name).is_file() and (path / name).stat().st_size]
    others = sorted(path.glob("*.jsonl"))
    if usual or len(others) == 1:
        return (usual or others)[0]
    named = f"; name them, as in {others[0]}" if others else ""
    expected = "expected a folder with metrics.jsonl or with one file of records"
    raise RecordsError(f"{path}: {expected}, got {len(others)}{named}")


def _records(file: Path, run: Run) -> Iterator[tuple[int, Any]]:
    """Read the lines of a file; the last one may be incomplete, as when a run is being written or was killed."""
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(LONGEST_LINE):
            number += 1
            if not line.strip():
                continue
            try:
                record = json.loads(line, parse_constant=lambda _: None)
            except (ValueError, RecursionError):
                if number > 1 and not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                    run.notes.append(f"The last line of {run.name} is incomplete, and was left out.")
                    return
                shown = printable(line[:40].decode(errors="backslashreplace").strip(), longest=40)
                raise RecordsError(f"{file}, line {number}: expected one JSON object a line, got {shown}") from None
            yield number, record
