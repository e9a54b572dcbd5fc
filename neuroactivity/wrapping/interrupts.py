"""A reset is not to be cut in two by Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def undivided() -> Iterator[None]:
    """Let an interrupt from the keyboard wait until what is done inside is whole, or has been put back.

    A second one does not wait. Python hands interrupts to the main thread alone; in any other there is nothing to do.

    Example:
        >>> done = []
        >>> try:
        ...     with undivided():
        ...         signal.raise_signal(signal.SIGINT)
        ...         done.append("all of it")
        ... except KeyboardInterrupt:
        ...     done.append("interrupted")
        >>> done
        ['all of it', 'interrupted']
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    caught: list[Any] = []

    def wait(*received: Any) -> None:
        caught.append(received)
        if len(caught) > 1:
            handler(*caught.pop())

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[0])
