"""What this library raises and warns with."""

from collections.abc import Sequence
from typing import Any


class LayoutError(ValueError):
    """A layout contradicts itself or the arrays it is used with.

    The message names the group, the parameter and the pattern, what was expected and what came.
    """


class ActivityWarning(UserWarning):
    """A neuron group could not be judged: all its gradients are zero, or some are not finite."""


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
