"""How a command ends: with its result, or with one line that says what is wrong."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from neuroactivity.escaping import printable
from neuroactivity.looking.text import RecordsError


def tell(command: Callable[[], int | None], *errors: type[Exception], interrupted: str = "interrupted") -> int:
    """Run a command; say in one line what the user can put right: damaged files, a full disk, a folder of someone else.

    Args:
        command: The command; returns its exit status, or ``None`` for success.
        errors: Further exceptions whose message is for the user.
        interrupted: What to say where Ctrl-C ends the command.

    Returns:
        The exit status: 2 with a line ``error: ...`` on the standard error, in which no name from a file is obeyed; 130
        after Ctrl-C.

    Example:
        >>> tell(lambda: None)
        0
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever started the process has closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = command() or 0
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _say(interrupted, 130)
    except Exception as error:
        if not isinstance(error, (RecordsError, OSError, MemoryError, *errors)):
            raise
        return _say(f"error: {printable(_message(error), longest=600)}", 2)
    return status


def _say(line: str, status: int) -> int:
    with suppress(OSError):  # of an error stream that takes nothing
        print(line, file=sys.stderr)
    return status


def _message(error: Exception) -> str:
    """Return what to tell of an error."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or "not enough memory"
