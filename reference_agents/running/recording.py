"""The records of a run: one JSON object a line in metrics.jsonl, and single JSON files."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reference_agents.errors import UsageError
from reference_agents.running.files import replacing, write_text


class Recorder:
    """Appends records to a JSON-lines file and keeps count of them.

    Args:
        path: The file; a checkpoint's count, through ``rewind``, says how much of an existing one to keep.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record and see it onto the disk; a value that is not finite becomes null."""
        line = json.dumps(_plain(record), allow_nan=False) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self.count += 1

    def rewind(self, count: int) -> None:
        """Keep the first ``count`` records and drop the rest, also a line that a kill cut short.

        Raises:
            UsageError: If there are fewer records than that.
        """
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        if len(lines) < count:
            raise UsageError(f"{self.path}: expected at least {count} records, got {len(lines)}")
        with replacing(self.path) as file:
            file.writelines(lines[:count])
        self.count = count


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read every record of a JSON-lines file, but for a last line that a kill cut short."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object to a file at once; a value that is not finite becomes null."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """Replace every float that is not finite by None, however deep it lies."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
