"""The functions of a model that are probed: from parameters to gradients, one after another, and to outputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MemberDescriptorType
from typing import Any, TypeAlias

from neuroactivity.arrays import Array
from neuroactivity.discovery.values import Params

Grads: TypeAlias = Mapping[str, Array | None]
"""Gradients by parameter name; ``None`` where there is none."""

GradientFunction: TypeAlias = Callable[[Params], Grads]
"""From parameters by name to the gradients of some scalar of the model's outputs, by name."""

OutputFunction: TypeAlias = Callable[[Params], Sequence[Array]]
"""From parameters by name to all outputs of the model, chosen actions too, in evaluation and in training mode."""

Take: TypeAlias = Callable[[str, Array], object]
"""What is called with a parameter's name and its gradient."""

Each: TypeAlias = Callable[[Params, Iterable[str], Take], None]
"""From parameters, names and a function to its calls: with each named parameter's gradient, as soon as it is there."""


class GradientStream:
    """A gradient function that can hand over one gradient after another, so that they are never all there at once.

    Args:
        each: Calls a function with each gradient that is asked for, if there is one.

    Example:
        >>> stream = GradientStream.of(lambda params: {"a": 2.0, "b": None})
        >>> stream.each({}, ["a", "b"], print)
        a 2.0
    """

    def __init__(self, each: Each) -> None:
        self.each = each

    def __call__(self, params: Params, names: Iterable[str] | None = None) -> Grads:
        """Return the gradients of all parameters, or of the named ones."""
        grads: dict[str, Array | None] = dict.fromkeys(params if names is None else names)
        self.each(params, list(grads), grads.__setitem__)
        return grads

    @classmethod
    def of(cls, grad_fn: GradientFunction) -> "GradientStream":
        """Hand over one by one what any gradient function returns."""
        if isinstance(grad_fn, cls):
            return grad_fn

        def each(params: Params, names: Iterable[str], take: Take) -> None:
            grads = grad_fn(params)
            for name in names:
                if (gradient := grads.get(name)) is not None:
                    take(name, gradient)

        return cls(each)


def attributes(value: object) -> list[Any]:
    """Return what an object keeps, in its dictionary or in slots: outputs may lie there.

    Example:
        >>> class State:
        ...     __slots__ = ("hidden", "unset")
        >>> state = State()
        >>> state.hidden = 3
        >>> attributes(state), attributes(State), attributes("text")
        ([3], [], [])
    """
    if isinstance(value, type):
        return []
    slotted = [vars(kind) for kind in type(value).__mro__ if "__slots__" in vars(kind)]
    slots = [slot for names in slotted for slot in names.values() if isinstance(slot, MemberDescriptorType)]
    kept = [slot.__get__(value) for slot in slots if _is_set(slot, value)]
    return [*getattr(value, "__dict__", {}).values(), *kept]


def _is_set(slot: MemberDescriptorType, value: object) -> bool:
    return hasattr(value, slot.__name__)
