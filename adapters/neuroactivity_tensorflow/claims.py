"""Which variables are reset through which optimizer: one wrapper only may reset a variable."""

import gc
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

_WRAPPED: WeakKeyDictionary[Any, list[tuple[Any, Sequence[Any]]]] = WeakKeyDictionary()


def refuse_second_wrapper(wrapper: Any, optimizers: Iterable[Any], written: Iterable[Any]) -> None:
    """Remember which variables a wrapper resets through an optimizer, and raise if another one does already.

    A wrapper that is no longer in use does not count.

    Raises:
        ValueError: If two wrappers would reset the same variable.
    """
    ids = {id(variable) for variable in written}
    for optimizer in optimizers if ids else ():
        others = _WRAPPED.setdefault(optimizer, [])
        if any(ids & set(theirs) and other() for other, theirs in others):
            gc.collect()
        same = [other() for other, theirs in others if ids & set(theirs) and other()]
        if same:
            raise ValueError(
                f"optimizer: a {type(same[0]).__name__} is around it already and resets the same parameters; use that "
                "one, or make one of the two with max_fraction=0, to measure only"
            )
        others[:] = [(other, theirs) for other, theirs in others if other()] + [(ref(wrapper), tuple(ids))]


def release(wrapper: Any) -> None:
    """Forget a wrapper that could not be made."""
    for others in _WRAPPED.values():
        others[:] = [entry for entry in others if entry[0]() is not wrapper]
