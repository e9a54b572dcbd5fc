"""Command-line parsing with tyro, with error messages of one line."""

import contextlib
import io
import itertools
from collections.abc import Sequence
from typing import TypeVar

import tyro

from reference_agents.errors import UsageError

T = TypeVar("T")


def parse(command: type[T], args: Sequence[str] | None, *, prog: str) -> T:
    """Parse a command line.

    Args:
        command: Dataclass of the options.
        args: Arguments; those of the process if None.
        prog: Program name in the help text.

    Raises:
        UsageError: If the arguments are invalid; the message is one line, without tyro's frame.
    """
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(command, args=args, prog=prog)
    except SystemExit as exit_:
        if exit_.code == 0:
            raise
        lines = (line.strip("│ ") for line in stderr.getvalue().splitlines()[1:])
        below = itertools.dropwhile(_is_rule, lines)
        message = " ".join(itertools.takewhile(lambda line: not _is_rule(line), below))
        raise UsageError(message.removeprefix("Error parsing config: ").removeprefix("Error parsing study: ")) from None


def _is_rule(line: str) -> bool:
    """Whether a line is part of tyro's frame, which is drawn with hyphens if the terminal is not UTF-8."""
    return not line.strip("─╰╯-")
