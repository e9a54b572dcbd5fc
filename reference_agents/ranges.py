"""Values as they are written on a command line: ``none,redo,regrama`` or, of whole numbers, ``0..4``."""

import re
from collections.abc import Iterator

from reference_agents.errors import UsageError


def spread(name: str, text: str) -> list[str]:
    """Read the values of a setting.

    Args:
        name: The setting, for the message.
        text: Values with commas between them; ``first..last`` stands for all whole numbers from one to the other.

    Raises:
        UsageError: If there is none, or a value is empty or stands there twice.
    """
    values = [value for part in text.split(",") for value in _range(part)]
    if not values or not all(values) or len(set(values)) < len(values):
        raise UsageError(f"{name}: expected values, each once, such as 0,1,2 or 0..2, got {text!r}")
    return values


def _range(text: str) -> Iterator[str]:
    """Yield the whole numbers of ``first..last``, or the text itself."""
    bounds = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if bounds:
        yield from map(str, range(int(bounds[1]), int(bounds[2]) + 1))
    else:
        yield text
