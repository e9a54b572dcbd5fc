"""What the analyses ask of scores and masks."""

from collections.abc import Mapping
from typing import Any

from neuroactivity.arrays import Array, accumulation_dtype, check_array, namespace, shape_of, to_list
from neuroactivity.errors import LayoutError


def check_shape(array: Array, name: str, which: str) -> tuple[int, ...]:
    """Return the shape of a group's scores or mask, checked."""
    try:
        check_array(array)
    except TypeError as error:
        raise TypeError(f"group {name!r}, {which}: {error}") from None
    shape = shape_of(array, "group {!r}, {}: ", name, which)
    if len(shape) not in (1, 2):
        raise LayoutError(f"group {name!r}, {which}: expected shape (neurons,) or (stack, neurons), got {shape}")
    return shape


def floating(array: Array, name: str) -> tuple[Any, Array]:
    """Return the namespace of an array, and its values in the dtype in which they are summed."""
    try:
        check_array(array)
        xp = namespace(array)
        dtype = accumulation_dtype(xp, array.dtype)
    except (TypeError, LayoutError) as error:
        raise type(error)(f"{name!r}: {error}") from None
    shape = shape_of(array, "{!r}: ", name)
    if 0 in shape:
        raise LayoutError(f"{name!r}: expected at least one entry, got shape {shape}")
    return xp, xp.astype(array, dtype)


def members(array: Array) -> list[list[Any]]:
    """Return one list a stack member."""
    values = to_list(array)
    return values if array.ndim == 2 else [values]


def names_of(groups: Mapping[str, Any]) -> str:
    """Write down which groups there are, for an error."""
    return ", ".join(list(groups)[:8]) or "no groups"
