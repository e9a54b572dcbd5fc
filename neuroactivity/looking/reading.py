"""Read the records of a run, line by line: a file may be larger than memory, since scores are thinned as they come.

All JSON of the library is read here: in UTF-8, each name once, of bounded size.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from neuroactivity.escaping import printable
from neuroactivity.looking.forms import read_record
from neuroactivity.looking.series import TRACKS, Run
from neuroactivity.looking.text import RecordsError, counted

LONGEST_LINE = 1 << 25
LARGEST_FILE = 1 << 26
"""Bytes of a line of records, and of a file that holds one JSON value."""
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
    note = f"The last line of {run.name} is incomplete, and was left out."
    for number, record in read_lines(file, on_incomplete=lambda: run.notes.append(note)):
        try:
            for measurement in read_record(record):
                run.add(measurement)
        except RecordsError as error:
            raise RecordsError(f"{file}, line {number}: {error}") from None
    if not run.tracks:
        raise RecordsError(f"{file}: expected records of measurements, got none")
    if run.left_out:
        what = f"{counted(run.left_out, 'record')} of further networks and runs"
        run.notes.append(f"{run.name}: the first {TRACKS} networks and runs are read; left out: {what}.")
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


def read_lines(file: Path, *, on_incomplete: Callable[[], object] = lambda: None) -> Iterator[tuple[int, Any]]:
    """Read the lines of a file of records.

    Args:
        file: The file.
        on_incomplete: Called where the last line is incomplete, as when a run is being written or was killed.

    Yields:
        The number of each line that is not blank, and its JSON value.

    Raises:
        RecordsError: If a line holds no JSON, or is longer than :data:`LONGEST_LINE`.
        OSError: If the file cannot be read.
    """
    with _opened(file) as lines:
        number = 0
        while line := lines.readline(LONGEST_LINE):
            number += 1
            if not line.strip():
                continue
            try:
                record = parse(line, f"{file}, line {number}: expected one JSON object a line")
            except RecordsError:
                if number > 1 and not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                    on_incomplete()
                    return
                raise
            yield number, record


def read_json(file: Path, expected: str = "JSON") -> Any:
    """Read a file that holds one JSON value.

    Args:
        file: The file.
        expected: What the file is to hold, for the error.

    Raises:
        RecordsError: If it holds no JSON, or is larger than :data:`LARGEST_FILE`.
        OSError: If it cannot be read.
    """
    return parse(read_file(file), f"{file}: expected {expected}")


def read_file(file: Path) -> bytes:
    """Read a file of bounded size.

    Raises:
        RecordsError: If it is larger than :data:`LARGEST_FILE`, or no file.
        OSError: If it cannot be read.
    """
    with _opened(file) as opened:
        text = opened.read(LARGEST_FILE + 1)
    if len(text) > LARGEST_FILE:
        raise RecordsError(f"{file}: expected at most {LARGEST_FILE >> 20} MiB, got more")
    return text


def parse(text: bytes, expected: str) -> Any:
    """Return the value of a JSON text in UTF-8.

    Args:
        text: The text.
        expected: Where it stands and what was expected, the beginning of the error.

    Raises:
        RecordsError: If it is no JSON, nested too deep, has a number too long, or a name twice in one object.

    Example:
        >>> parse(b'{"step": 1}', "expected a record")
        {'step': 1}
    """
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_once)
    except RecordsError as error:
        raise RecordsError(f"{expected}, {error}") from None
    except (ValueError, RecursionError) as error:
        shown = printable(text[:40].decode(errors="backslashreplace").strip(), longest=40)
        why = f": {error}" if isinstance(error, UnicodeDecodeError) else ""
        raise RecordsError(f"{expected}, got {shown or 'nothing'}{why}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of some pairs; of a name that stands twice nobody knows which value is meant."""
    values = dict(pairs)
    if len(values) < len(pairs):
        ((twice, _),) = Counter([name for name, _ in pairs]).most_common(1)
        raise RecordsError(f"each name once, got {printable(repr(twice), longest=40)} twice")
    return values


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a file; a folder, or a pipe that nobody may ever write to, is refused."""
    if file.exists() and not file.is_file():
        raise RecordsError(f"{file}: expected a file, got a {'folder' if file.is_dir() else 'pipe or a device'}")
    with file.open("rb") as opened:
        yield opened
