"""Records of a run: JSON-lines files such as metrics.jsonl, and single JSON files."""

import json
import math
from collections.abc import Mapping
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from neuroactivity.looking import RecordsError
from neuroactivity.looking.forms import check_version, read_record
from reference_agents.errors import UsageError
from reference_agents.running.files import append, read_lines, replacing, write_text

LARGEST, MOST_STEPS = 1 << 30, 2**53
"""Bytes of a file of records that is read at once, and steps of a run."""

COUNTED, FRACTIONS = ("neurons_reset", "measured_again", "reset_again"), ("inactive", "dormant")
"""Kinds of numbers of each network, and of each of its groups."""


class Recorder:
    """Appends records to a JSON-lines file and counts them.

    Args:
        path: The file; ``rewind`` truncates an existing one to the count of a checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record and flush it to disk; non-finite values become null."""
        append(self.path, _plain(record), to_disk=True)
        self.count += 1

    def check(self, count: int, step: int) -> None:
        """Parse the records that ``rewind`` will keep, so that what is damaged is told before a run goes on.

        Args:
            count: Records at a checkpoint.
            step: Step of the checkpoint.

        Raises:
            UsageError: If there are fewer, or they are not those of a run up to the checkpoint.
        """
        if not self.path.exists() and not count:
            return
        latest, found = 0, 0
        for found, (number, record) in enumerate(islice(read_lines(self.path), count), start=1):
            where = f"{self.path}, line {number}"
            check_record(record, where)
            if number != found or not latest <= record["step"] <= step:
                raise UsageError(f"{where}: expected a record from step {latest} to {step}, got {record['step']}")
            latest = record["step"]
        if found < count:
            raise UsageError(f"{self.path}: expected at least {count} records, got {found}")

    def rewind(self, count: int) -> None:
        """Keep the first ``count`` records and drop the rest, including an incomplete line of a killed process.

        Raises:
            UsageError: If there are fewer records.
        """
        found = 0
        if self.path.exists() and not self.path.is_file():
            raise UsageError(f"{self.path}: expected a file of records")
        with replacing(self.path) as file, self.path.open("rb") if self.path.exists() else BytesIO() as old:
            for line in islice(old, count):
                file.write(line)
                found += 1
            if found < count:
                raise UsageError(f"{self.path}: expected at least {count} records, got {found}")
        self.count = count


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read all records of a JSON-lines file, without an incomplete last line.

    Raises:
        UsageError: If a line is no record of a run, or the file is too large.
        OSError: If it cannot be read.
    """
    if path.exists() and path.stat().st_size > LARGEST:
        raise UsageError(f"{path}: expected at most {LARGEST >> 20} MiB of records, got more")
    records = []
    for number, record in read_lines(path):
        check_record(record, f"{path}, line {number}")
        records.append(record)
    return records


def check_record(record: Any, where: str) -> None:
    """Raise unless a record is one of a run: of numbers at a step, or of the scores of neurons.

    Args:
        record: A JSON value.
        where: File and line, for the error.

    Raises:
        UsageError: If it is damaged, of another program or of a newer version.
    """
    try:
        if not isinstance(record, dict):
            raise UsageError(f"expected a record of a run, got {type(record).__name__}")
        check_version(record)
        if "scores" in record:
            read_record(record)
        for name, value in {} if "scores" in record else record.items():
            if not (value is None or (_is_number(value) and math.isfinite(value))):
                raise UsageError(f"{name}: expected a number, got {value!r}")
            kind = name.partition("/")[0] if "/" in name else ""
            if kind in COUNTED and not (isinstance(value, int) and value >= 0):
                raise UsageError(f"{name}: expected a whole number of 0 or more, got {value!r}")
            if kind in FRACTIONS and value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name}: expected a fraction from 0 to 1, got {value!r}")
        step = record.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or not 0 < step <= MOST_STEPS:
            raise UsageError(f"step: expected a whole number from 1, got {step!r}")
    except (UsageError, RecordsError) as error:
        raise UsageError(f"{where}: {error}") from None


def _is_number(value: Any) -> bool:
    """Whether a JSON value is a number that a float can hold."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object to a file atomically; non-finite values become null."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """Replace non-finite floats by None, recursively."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
