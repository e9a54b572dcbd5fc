"""Plain-text tables for reports and layouts."""

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[str]) -> list[str]:
    r"""Set rows in columns.

    Args:
        header: Title of each column.
        rows: Cells, as many in each row as there are titles.
        words: Titles of the columns that hold words, set to the left; figures are set to the right.

    Returns:
        The lines: header, rule, rows.

    Example:
        >>> print("\n".join(format_table(("group", "neurons"), [("fc1", "256")], words=("group",))))
        group  neurons
        --------------
        fc1        256
    """
    columns = []
    for title, *cells in zip(header, *rows, strict=True):
        width = max(map(len, (title, *cells)))
        columns.append([cell.ljust(width) if title in words else cell.rjust(width) for cell in (title, *cells)])
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
