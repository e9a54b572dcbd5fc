"""Files: what is read is checked and of bounded size; what is written is complete or absent, even on a full disk."""

import os
import zipfile
from errno import EISDIR
from pathlib import Path

from neuroactivity.looking.reading import parse, read_file, read_json, read_lines
from neuroactivity.looking.writing import DRAFT, append, draft_of, replacing, write_text

__all__ = [
    "DRAFT",
    "append",
    "check_sizes",
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
    draft = draft_of(path)
    draft.open("xb").close()
    draft.unlink()


def remove_drafts(folder: Path) -> None:
    """Remove the temporary files that a killed process has left in a folder."""
    for draft in folder.glob(DRAFT.format("*")):
        draft.unlink()


def check_sizes(archive: zipfile.ZipFile) -> None:
    """Raise unless an archive is as large when it is read as on the disk, as those are that are written here."""
    if any(member.file_size != member.compress_size for member in archive.infolist()):
        raise ValueError("expected arrays that are not compressed")
