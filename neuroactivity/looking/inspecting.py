"""The table of a file of records, or of a layout, for a terminal."""

import importlib.util
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from neuroactivity.errors import LayoutError
from neuroactivity.escaping import printable
from neuroactivity.layout import Layout
from neuroactivity.layout.layout import HEADER as LAYOUT_HEADER
from neuroactivity.layout.layout import table_rows
from neuroactivity.looking.figures import title
from neuroactivity.looking.forms import Group
from neuroactivity.looking.reading import read_json, read_lines, read_run
from neuroactivity.looking.series import Track
from neuroactivity.looking.text import RecordsError, counted, percent, short, stepped
from neuroactivity.tables import format_table

_HEADER = ("group", "neurons", "inactive", "share", "reset", "again", "lowest", "median", "highest", "status", "remark")
_WORDS = ("group", "status", "remark")
_MOST, _WIDEST = 400, 2000
"""Groups that a table shows, and characters of a cell of a layout's table."""


def inspect(path: Path) -> None:
    """Print the latest measurement of every network in a file of records; of a layout in JSON, its groups.

    Raises:
        RecordsError: If the file holds neither.
        OSError: If it cannot be read.
    """
    layout = _layout(path)
    if layout is not None:
        _print_layout(layout)
        return
    run = read_run(path)
    for (network, method, index), track in run.tracks.items():
        number = "" if index is None else f"run {index}"
        name = " · ".join(filter(None, (run.name, title((network, method)), number)))
        print(f"{name}: step {stepped(track.moments[-1].step)}, {counted(len(track.moments), 'measurement')}")
        rows = [_cells(name, group) for name, group in islice(track.latest.items(), _MOST)]
        _print(rows, _further(len(track.latest)) + _notes(track))
    for note in run.notes:
        print(note)


def _layout(path: Path) -> Layout | None:
    """Return the layout in a JSON file, ``None`` if it holds something else."""
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        record = read_json(path, "a layout or records in JSON")
    except RecordsError:
        if _begins_with_a_record(path):
            return None
        raise
    if not isinstance(record, dict) or not isinstance(record.get("groups"), list):
        return None
    try:
        return Layout.from_dict(record)
    except LayoutError as error:
        raise RecordsError(f"{path}: {error}") from None


def _begins_with_a_record(path: Path) -> bool:
    """Whether the first line of a file is a whole JSON object, as in records that are named ``.json``."""
    try:
        return any(isinstance(record, dict) for _, record in islice(read_lines(path), 1))
    except RecordsError:
        return False


def _print_layout(layout: Layout) -> None:
    rows = [[printable(cell, longest=_WIDEST) for cell in row] for row in islice(table_rows(layout), _MOST)]
    print("\n".join([*format_table(LAYOUT_HEADER, rows, words=LAYOUT_HEADER), *_further(len(layout))]))


def _further(groups: int) -> list[str]:
    """Say how many groups are not in a table."""
    return [f"... and {counted(groups - _MOST, 'further group')}"] if groups > _MOST else []


def _cells(name: str, group: Group) -> tuple[str, ...]:
    """Return a group as the cells of a table."""
    counts = ["" if count is None else f"{count}" for count in (group.neurons, group.inactive)]
    resets = ["" if count is None else f"{count}" for count in (group.reset, group.again)]
    scores = map(short, (group.lowest, group.median, group.highest))
    words = printable(group.status), printable(group.remark)
    return (printable(name, longest=60), *counts, percent(group.fraction), *resets, *scores, *words)


def _notes(track: Track) -> list[str]:
    notes = [] if track.tau is None else [f"inactive: score <= {track.tau:g}"]
    if any(group.again is not None for group in track.latest.values()):
        notes.append("again: reset before, and inactive now")
    if track.absent:
        notes.append(f"not measured: {printable(', '.join(track.absent))}")
    return notes


def _print(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    """Print a table without its empty columns: with rich at a terminal, in plain text otherwise."""
    shown = [place for place, title in enumerate(_HEADER) if title == "group" or any(row[place] for row in rows)]
    header, cells = [_HEADER[place] for place in shown], [[row[place] for place in shown] for row in rows]
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        _print_rich(header, cells)
    else:
        print("\n".join(format_table(header, cells, words=_WORDS)))
    print("\n".join([*notes, ""]))


def _print_rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in header:
        options: dict[str, Any] = {"overflow": "fold"} if column in _WORDS else {"justify": "right", "no_wrap": True}
        table.add_column(column, **options)
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])  # as it is: no markup, no emoji
    Console().print(table)
