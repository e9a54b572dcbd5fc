"""Files that are whole or not there at all, whenever a run is stopped."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

DRAFT: Final = ".{}.draft"
"""Name of the file that takes another one's place once it is complete."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the place of ``path`` once it is complete and on the disk.

    Args:
        path: File to write; until the block ends without an exception it stays what it was.

    Yields:
        A binary file beside ``path``.
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
    """Write a text file at once."""
    with replacing(path) as file:
        file.write(text.encode())


def remove_drafts(folder: Path) -> None:
    """Remove the drafts that a kill has left in a folder."""
    for draft in folder.glob(DRAFT.format("*")):
        draft.unlink()
