"""What this library raises and warns with."""

from collections.abc import Sequence
from typing import Any


class LayoutError(ValueError):
    """A layout contradicts itself or the arrays it is used with.

    The message names the group, the parameter and the pattern, what was expected and what came.
    """


class ActivityWarning(UserWarning):
    """Something keeps neurons from being judged or reset as one would expect; the message says what.

    For instance a group without gradients or with some that are not finite, parameters that were frozen or replaced,
    layers that are not known, or resets that do not last. ``warnings.simplefilter("error", ActivityWarning)`` makes it
    an error.
    """


def check_choice(option: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise unless an option has one of the values that it can have.

    Raises:
        ValueError: With the name of the option, the values that it can have, and the one that it was given.

    Example:
        >>> check_choice("attention", "head", ("channels", "heads"))
        Traceback (most recent call last):
            ...
        ValueError: attention: expected 'channels' or 'heads', got 'head'
    """
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        *most, last = map(repr, choices)
        raise ValueError(f"{option}: expected {', '.join(most)}{' or ' if most else ''}{last}, got {value!r}")
