"""Lists of values on the command line: ``none,redo,regrama``, or ``0..4`` for a range of integers."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from reference_agents.errors import UsageError

MOST: Final = 10_000
"""Values of a setting, and runs of a sweep."""


def parse_range(name: str, text: str) -> list[str]:
    """Parse a comma-separated list of values and integer ranges.

    Args:
        name: Name of the setting, for the error message.
        text: Comma-separated values; ``first..last`` is an inclusive range of integers.

    Raises:
        UsageError: If a value is empty or repeated, there is none, or there are more than :data:`MOST`.
    """
    values = list(islice((value for part in text.split(",") for value in _range(part)), MOST + 1))
    if len(values) > MOST:
        raise UsageError(f"{name}: expected at most {MOST:,} values, got {text!r}")
    if not values or not all(values) or len(set(values)) < len(values):
        raise UsageError(f"{name}: expected values, each once, such as 0,1,2 or 0..2, got {text!r}")
    return values


def _range(text: str) -> Iterator[str]:
    """Yield the integers of ``first..last``, or the text itself."""
    bounds = re.fullmatch(r"([0-9]{1,18})\.\.([0-9]{1,18})", text)
    if bounds:
        yield from map(str, range(int(bounds[1]), int(bounds[2]) + 1))
    else:
        yield text
