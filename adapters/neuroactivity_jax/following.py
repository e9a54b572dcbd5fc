"""Follow what a weight made to what reads it: through activation functions, but through nothing else.

What no parameter reads alone (a writer of a residual stream, a query, a layer in front of a normalisation) is read by
an operation that is no function of each neuron alone: a sum over neurons, a product with something else. What stands
in front of that operation is the neurons' output.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jax import Array

_SAME = {"convert_element_type", "copy", "stop_gradient", "reduce_precision", "neg"}
_SCALED = {"mul", "div"}  # by one number, which scores do not see
_MOVED = {"transpose", "broadcast_in_dim", "reshape", "squeeze", "expand_dims"}
_POOLED = {"reduce_window_max", "reduce_window_min", "reduce_window_sum", "reduce_window"}
_PARTS = {"slice", "dynamic_slice", "split", "concatenate", "pad", "gather", "add", "sub", "select_n", "max", "min"}
_FUNCTIONS = {
    *("exp", "exp2", "expm1", "log", "log1p", "tanh", "sin", "cos", "tan", "logistic", "sqrt", "rsqrt", "cbrt", "erf"),
    *("erfc", "abs", "sign", "square", "integer_pow", "pow", "floor", "ceil", "round", "mul", "div", "add", "sub"),
    *("max", "min", "clamp", "select_n", "gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not", "asinh", "atan"),
}
UNSEEN = 1_000_000
"""The depth of what is made by a function that is not seen to be one of each neuron alone."""


class Value(NamedTuple):
    """An array, and how the axes of a parameter correspond to its axes.

    Attributes:
        value: The array; ``None`` if it cannot be told which it is.
        axes: For each axis of the parameter the axis of the array that corresponds to it; ``None`` where none does.
    """

    value: Any
    axes: tuple[int | None, ...]


class Followed(NamedTuple):
    """What an array has of what a weight made.

    Attributes:
        made: Number of what the weight made.
        depth: Of how many functions it is the result.
        output: The result of the last of them.
        axes: As in ``Value``, for the array itself; ``None`` if the array has only a part of the neurons' entries, or
            something is added to them.
    """

    made: int
    depth: int
    output: Value
    axes: tuple[int | None, ...] | None


class Ends:
    """Where what weights made was read, by its number: at which depth, and what."""

    def __init__(self) -> None:
        self._found: dict[int, dict[int, tuple[int, Value]]] = {}

    def add(self, followed: Sequence[Followed], *, seen: bool = True) -> None:
        """Write down that arrays are read; not ``seen`` if by what is not looked into."""
        for made, depth, output, _ in followed:
            depth, output = (depth, output) if seen else (UNSEEN, output._replace(value=None))
            self._found.setdefault(made, {})[id(output.value)] = depth, output

    def output(self, made: int, *, applied: bool = False) -> Value | None:
        """Return what is read, after the activation function; of several functions in turn what is read first."""
        ends = list(self._found.get(made, {}).values())
        first = [output for depth, output in ends if depth == min(depth for depth, _ in ends)]
        if len(first) != 1 or first[0].value is None or (applied and min(depth for depth, _ in ends) == 0):
            return None
        return first[0]


def follow(
    name: str,
    operands: Sequence[tuple[Any, Sequence[Followed], bool]],
    result: Array,
    moved: Sequence[int | None],
    ends: Ends,
) -> tuple[Followed, ...]:
    """Return what the result of an operation has of what weights made, and write down what the operation reads.

    Args:
        name: Name of the operation.
        operands: The arrays it is given, what each has of what weights made, and whether each is one number repeated.
        result: Its result.
        moved: For each axis of the result the axis of the first operand that it is, if the operation moves axes.
        ends: Where what is read is written down.
    """
    given = [followed for _, followed, _ in operands if followed]
    if not given:
        return ()
    rest_constant = len(given) + sum(constant for *_, constant in operands) == len(operands)
    if name in _SAME or name in _POOLED or (name in _SCALED and rest_constant and len(given) == 1):
        return tuple(given[0])
    if name in _MOVED and len(given) == 1:
        return tuple([followed._replace(axes=_moved(followed.axes, moved)) for followed in given[0]])
    if name in _FUNCTIONS and rest_constant and all(_numbers(one) == _numbers(given[0]) for one in given):
        return tuple([_applied(several, result) for several in zip(*given, strict=True)])
    if name in _PARTS:
        parts = {followed.made: followed._replace(axes=None) for one in given[::-1] for followed in one}
        return tuple(parts.values())
    for one in given:
        ends.add(one)
    return ()


def _numbers(followed: Sequence[Followed]) -> list[int]:
    return [one.made for one in followed]


def _applied(several: Sequence[Followed], result: Array) -> Followed:
    """Apply a function to arrays of the same neurons."""
    made, axes = several[0].made, several[0].axes
    if axes is None or any(one.axes != axes for one in several):
        return Followed(made, UNSEEN, Value(None, ()), None)
    return Followed(made, 1 + max(one.depth for one in several), Value(result, axes), axes)


def _moved(axes: tuple[int | None, ...] | None, sources: Sequence[int | None]) -> tuple[int | None, ...] | None:
    """Return which axes of a moved array those of a parameter are; nothing if one of them is merged or split."""
    if axes is None or any(axis is not None and axis not in sources for axis in axes):
        return None
    return tuple([None if axis is None else list(sources).index(axis) for axis in axes])
