"""Command lines read with tyro, whose complaints become one line."""

import contextlib
import io
import itertools
from collections.abc import Sequence
from typing import TypeVar

import tyro

from reference_agents.errors import UsageError

T = TypeVar("T")


def parse(command: type[T], args: Sequence[str] | None, *, prog: str) -> T:
    """Read a command line.

    Args:
        command: Dataclass of the options.
        args: Words of the command line; those of the process if None.
        prog: How the program is called, for its help.

    Raises:
        UsageError: If it is not one; the message is one line, without the frame that tyro draws.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(command, args=args, prog=prog)
    except SystemExit as exit_:
        if exit_.code == 0:
            raise
        lines = (line.strip("│ ") for line in complaint.getvalue().splitlines()[1:])
        below = itertools.dropwhile(_is_rule, lines)
        message = " ".join(itertools.takewhile(lambda line: not _is_rule(line), below))
        raise UsageError(message.removeprefix("Error parsing config: ").removeprefix("Error parsing study: ")) from None


def _is_rule(line: str) -> bool:
    """Return whether a line is part of the frame; where the terminal is not of UTF-8 it is drawn with hyphens."""
    return not line.strip("─╰╯-")
