"""Atomic writes: a file is complete or absent, even if the process is killed or the disk is full."""

from pathlib import Path

from neuroactivity.looking.writing import DRAFT, append, replacing, write_text

__all__ = ["DRAFT", "append", "remove_drafts", "replacing", "write_text"]


def remove_drafts(folder: Path) -> None:
    """Remove the temporary files that a killed process has left in a folder."""
    for draft in folder.glob(DRAFT.format("*")):
        draft.unlink()
