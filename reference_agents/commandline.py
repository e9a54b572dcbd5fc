"""Command lines: options parsed with tyro, and errors of one line."""

import contextlib
import io
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from neuroactivity.escaping import printable
from neuroactivity.looking import telling
from reference_agents.errors import UsageError

T = TypeVar("T")


def shown(text: str) -> str:
    """Return lines of output in which a terminal obeys no name that was read from a file."""
    return "\n".join(printable(line, longest=2000) for line in text.split("\n"))


def tell(command: Callable[[], int | None], *, interrupted: str = "interrupted") -> int:
    """Run a command; return its exit status, 2 with one line ``error: ...`` where the user can put something right."""
    return telling.tell(command, UsageError, interrupted=interrupted)


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
