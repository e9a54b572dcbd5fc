"""What is known of neurons while they are followed: in which arrays they lie, and where they were read."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp

Axes: TypeAlias = tuple[int | None, ...]
"""For each axis of a parameter the axis of an array that corresponds to it; ``None`` where none does."""

UNSEEN = 1_000_000
"""The depth of what is made by a function that is not seen to be one of each neuron alone."""


class Value(NamedTuple):
    """An array, and how the axes of a parameter correspond to its axes.

    Attributes:
        value: The array; ``None`` if it cannot be told which it is.
        axes: The axes of the array, for those of the parameter.
    """

    value: Any
    axes: Axes


class Followed(NamedTuple):
    """What an array has of what a weight made.

    Attributes:
        made: Number of what the weight made.
        before: The bits of what the weight was multiplied with depends on, as in ``Origin.behind``.
        start: What the weight made.
        value: The neurons as they are now, before they were moved.
        axes: As in ``Value``, for the array itself; ``None`` if it has only a part of the neurons' entries, or their
            axes are merged, or something is added that comes from elsewhere.
        depth: Of how many functions it is the result.
        function: The name of the last of them.
        own: What the neurons were before they were normalised, or before other values were added to them, as long as no
            function has followed.
        reduced: Whether it has a sum, or the like, of the entries of each neuron.
        folded: The shape and the axes of the array whose axes were merged.
        stream: Whether they were added to a residual stream.
    """

    made: int
    before: int
    start: Value
    value: Value
    axes: Axes | None
    depth: int = 0
    function: str = ""
    own: Value | None = None
    reduced: bool = False
    folded: tuple[tuple[int, ...], Axes] | None = None
    stream: bool = False

    @property
    def output(self) -> Value:
        """What is read by what reads this."""
        return self.own or self.value

    def becomes(self, result: Any, axes: Axes | None = None) -> "Followed":
        """Return what is known once an operation has made an array of as many axes, or of these, from the neurons."""
        axes = self.axes if axes is None else axes
        if axes is None:
            return self
        sizes = [None if axis is None else self.start.value.shape[axis] for axis in self.start.axes]
        if any(axis is not None and result.shape[axis] != size for axis, size in zip(axes, sizes, strict=True)):
            return self.in_part() if self.own else self.unseen()  # one neuron beside many others
        return self._replace(value=Value(result, axes), axes=axes)

    def in_part(self) -> "Followed":
        """Return what is known of an array with a part of the neurons' entries: a reader reads what they were."""
        return self._replace(value=self.output, axes=None, folded=None)

    def unseen(self) -> "Followed":
        """Return what is known after a function that is not seen to be one of each neuron alone."""
        return self._replace(depth=UNSEEN, value=Value(None, ()), axes=None, own=None, folded=None)


class Kind(IntEnum):
    """How an array is read, from what tells most of a neuron's output to what tells least."""

    READ = 0
    NOT_SEEN = 1
    IN_SUMS = 2
    IN_STATISTICS = 3


class Ends:
    """Where what weights made was read, by its number."""

    def __init__(self) -> None:
        self._found: dict[int, dict[tuple[int, int], dict[int, Value]]] = {}

    def add(self, followed: Sequence[Followed], kind: Kind = Kind.READ) -> None:
        """Write down that arrays are read."""
        for one in followed:
            output = one.output
            if output.value is not None and not jnp.issubdtype(output.value.dtype, jnp.floating):
                continue  # a choice: what is made of the values themselves goes another way
            if one.depth == UNSEEN or kind == Kind.NOT_SEEN:
                key, output = (Kind.NOT_SEEN, 0), Value(None, ())
            else:
                key = (Kind.IN_SUMS if one.reduced and kind == Kind.READ else kind, one.depth)
            self._found.setdefault(one.made, {}).setdefault(key, {})[id(output.value)] = output

    def output(self, made: int) -> Value | None:
        """Return what is read, after the activation function; of several functions in turn what is read first.

        Where there is no function, what is read differs by shifts and factors at most, and the first will do.
        """
        found = self._found.get(made)
        if not found:
            return None
        (_, depth), outputs = min(found.items(), key=lambda item: item[0])
        first = next(iter(outputs.values()))
        return None if first.value is None or (depth and len(outputs) > 1) else first
