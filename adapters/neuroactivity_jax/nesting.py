"""Wrappers inside of wrappers: two that reset the same parameters are refused, wherever in a chain they are."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_AROUND: ContextVar[tuple[frozenset[str], ...]] = ContextVar("_AROUND", default=())
"""What the wrappers write whose inner optimizers are being initialised."""


@contextmanager
def around(written: Iterable[str]) -> Iterator[None]:
    """Initialise what is inside a wrapper that writes these parameters.

    Raises:
        ValueError: If one that this is inside of writes one of them, too.
    """
    own = frozenset(written)
    for other in _AROUND.get():
        check_apart(own, other)
    token = _AROUND.set((*_AROUND.get(), own))
    try:
        yield
    finally:
        _AROUND.reset(token)


def check_apart(first: Iterable[str], second: Iterable[str]) -> None:
    """Raise if two wrappers, one inside the other, write the same parameters."""
    if set(first) & set(second):
        raise ValueError(
            "optimizer: a wrapper is around it already and resets the same parameters; use that one, or make one of "
            "the two with max_fraction=0, to measure only"
        )
