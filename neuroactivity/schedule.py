"""When a measurement and a reset are due, and the keys of the random draws that a reset needs."""

import hashlib
import operator
from typing import SupportsIndex

__all__ = ["draw_key", "interval", "is_due"]


def is_due(step: int, *, every: int) -> bool:
    """Whether a measurement is due at the ``step``-th wrapped step, counted from 1: at every multiple of ``every``.

    Example:
        >>> [step for step in range(1, 7) if is_due(step, every=3)]
        [3, 6]
    """
    return step % every == 0


def interval(every: SupportsIndex) -> int:
    """Return the number of steps from one measurement to the next as Python's own whole number.

    Raises:
        ValueError: If it is not a whole number of 1 or more.

    Example:
        >>> import numpy as np
        >>> interval(np.int64(1000))
        1000
    """
    try:
        steps = operator.index(every)
    except TypeError:
        steps = 0
    if steps < 1:
        raise ValueError(f"every: expected a whole number of steps of 1 or more, got {every!r}")
    return steps


def draw_key(seed: int, event: int, name: str) -> int:
    """Return the key of one random draw: a whole number in ``[0, 2**63)`` that depends on nothing but the arguments.

    A resumed run and every rank of a distributed run thus draw the same values, and no two parameters or events share
    theirs.

    Args:
        seed: The user's seed.
        event: Number of the reset, counted from 1.
        name: Name of the parameter that is drawn.

    Example:
        >>> draw_key(0, 1, "fc1.weight") == draw_key(0, 1, "fc1.weight")
        True
        >>> draw_key(0, 1, "fc1.weight") == draw_key(0, 1, "fc2.weight")
        False
    """
    digest = hashlib.blake2b(f"{seed}/{event}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
