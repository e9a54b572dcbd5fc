"""Files: what is read is checked and of bounded size; what is written is complete or absent, even on a full disk."""

import os
from errno import EISDIR
from pathlib import Path

from neuroactivity.looking.reading import parse, read_file, read_json, read_lines
from neuroactivity.looking.writing import DRAFT, append, replacing, write_text

__all__ = [
    "DRAFT",
    "append",
    "check_target",
    "parse",
    "read_file",
    "read_json",
    "read_lines",
    "remove_drafts",
    "replacing",
    "write_text",
]


def check_target(path: Path) -> None:
    """Make the folder of a file, and raise an ``OSError`` unless the file can be written: before the work it is for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    draft = path.with_name(DRAFT.format(path.name))
    draft.touch()
    draft.unlink()


def remove_drafts(folder: Path) -> None:
    """Remove the temporary files that a killed process has left in a folder."""
    for draft in folder.glob(DRAFT.format("*")):
        draft.unlink()
