"""Records of a run: JSON-lines files such as metrics.jsonl, and single JSON files."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reference_agents.errors import UsageError
from reference_agents.running.files import replacing, write_text


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
        line = json.dumps(_plain(record), allow_nan=False) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self.count += 1

    def rewind(self, count: int) -> None:
        """Keep the first ``count`` records and drop the rest, including an incomplete line of a killed process.

        Raises:
            UsageError: If there are fewer records.
        """
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        if len(lines) < count:
            raise UsageError(f"{self.path}: expected at least {count} records, got {len(lines)}")
        with replacing(self.path) as file:
            file.writelines(lines[:count])
        self.count = count


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read all records of a JSON-lines file, without an incomplete last line."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


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
