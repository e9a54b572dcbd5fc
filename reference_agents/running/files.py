"""Atomic writes: a file is complete or absent, even if the process is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

DRAFT: Final = ".{}.draft"
"""Name of the temporary file that replaces another one once it is complete."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces ``path`` atomically at the end of the block.

    Args:
        path: File to write; it stays unchanged until the block ends without an exception.

    Yields:
        A binary file in the same folder.
    """
    draft = path.with_name(DRAFT.format(path.name))
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as file:
        file.write(text.encode())


def remove_drafts(folder: Path) -> None:
    """Remove the temporary files that a killed process has left in a folder."""
    for draft in folder.glob(DRAFT.format("*")):
        draft.unlink()
