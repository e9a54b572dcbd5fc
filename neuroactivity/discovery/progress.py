"""How far a search is: one line on a terminal, rewritten in place. Quick searches and log files see nothing."""

import sys
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_QUICK = 2.0  # seconds before which nothing is written
_EVERY = 0.2  # seconds between two lines


class Progress:
    """Counts a search's evaluations and says how far it is.

    Args:
        expected: About how many evaluations there will be.
    """

    def __init__(self, expected: int) -> None:
        self._done, self._expected = 0, expected
        self._started = time.monotonic()
        self._written = 0.0
        self._width = 0

    def counted(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return a function that counts its calls."""

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            result = function(*args, **kwargs)
            self._step()
            return result

        return call

    def end(self) -> None:
        """Wipe the line."""
        if self._width:
            self._write("")

    def _step(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._started >= _QUICK and now - self._written >= _EVERY and _on_terminal():
            self._written = now
            part = self._done / (self._done + max(self._expected - self._done, self._expected / 10))
            self._write(f"neuroactivity: finding the layout, {part:.0%}, {now - self._started:.0f} s")

    def _write(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self._width) + ("" if text else "\r"))
        sys.stderr.flush()
        self._width = len(text)


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
