"""The only place that knows array libraries.

The rest of the core asks here for the namespace of an array (the `Python array API standard`_) and for the few things
that the standard lacks: the dtype in which magnitudes are summed, and the way from an array to Python numbers. No array
library is imported here: an array that reaches this module comes from a library that is loaded already.

.. _Python array API standard: https://data-apis.org/array-api/latest/
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import array_api_compat

from neuroactivity.errors import LayoutError

__all__ = ["Array", "Arrays", "check_array", "constant", "finite", "magnitude_sum", "namespace", "to_list"]

Array: TypeAlias = Any
"""An array of any supported library."""

Arrays: TypeAlias = Mapping[str, Any]
"""Arrays by name."""


def namespace(*arrays: Array) -> Any:
    """Return the Array-API namespace that the arrays share.

    Raises:
        TypeError: If something is not an array of a supported library, or the libraries differ.
    """
    for array in arrays:
        check_array(array)
    return array_api_compat.array_namespace(*arrays)


def check_array(array: Array) -> None:
    """Raise a ``TypeError`` if something is not an array of a supported library."""
    if not array_api_compat.is_array_api_obj(array):
        raise TypeError(f"expected an array (NumPy, PyTorch, JAX, Array API), got {type(array).__name__}")


def _accumulation_dtype(xp: Any, dtype: Any) -> Any:
    """Float64 for float64, float32 for every other real floating dtype."""
    if dtype == xp.float64:
        return xp.float64
    if str(dtype) == "bfloat16" or xp.isdtype(dtype, "real floating"):  # NumPy's isdtype does not know ml_dtypes
        return xp.float32
    raise LayoutError(f"expected a real floating dtype, got {dtype}")


def magnitude_sum(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum ``|x|`` over ``axes``, accumulated and returned in float32, or in float64 for a float64 array."""
    xp = namespace(x)
    dtype = _accumulation_dtype(xp, x.dtype)
    magnitudes = xp.abs(x)
    return xp.sum(magnitudes, axis=axes, dtype=dtype) if axes else xp.astype(magnitudes, dtype)


def constant(values: tuple[int, ...] | tuple[bool, ...] | float, *, like: Array, dtype: Any) -> Array:
    """Make an array of fixed values, or of one, on the device of ``like``."""
    return namespace(like).asarray(values, dtype=dtype, device=array_api_compat.device(like))


def finite(x: Array) -> Array:
    """True where ``x`` is neither NaN nor infinite."""
    return namespace(x).isfinite(x)


def to_list(x: Array) -> list[Any]:
    """Copy an array of one or two axes to nested Python lists of floats (or bools)."""
    if hasattr(x, "tolist"):
        return list(x.tolist())
    if x.ndim > 1:
        return [to_list(x[i, ...]) for i in range(x.shape[0])]
    convert = bool if namespace(x).isdtype(x.dtype, "bool") else float
    return [convert(x[i]) for i in range(x.shape[0])]
