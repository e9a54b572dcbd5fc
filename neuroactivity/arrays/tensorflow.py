"""An Array-API namespace for ``tf.Tensor`` and ``tf.Variable``: plain functions on TensorFlow's own kernels.

It holds what the core needs, and works eagerly, in ``tf.function`` and under XLA. It follows the `Python array API
standard`_, narrower in two ways: arrays of different dtypes are not promoted but raise, as everywhere in TensorFlow,
and indices are int32. Every function returns a tensor, given a tensor or a variable.

.. _Python array API standard: https://data-apis.org/array-api/latest/
"""
# ruff: noqa: A001  the standard's names

import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

Tensor: TypeAlias = Any
DType: TypeAlias = Any
Axes: TypeAlias = int | tuple[int, ...] | None

inf, nan = math.inf, math.nan

_KINDS = {
    "bool": ("bool",),
    "signed integer": ("int8", "int16", "int32", "int64"),
    "unsigned integer": ("uint8", "uint16", "uint32", "uint64"),
    "real floating": ("float16", "bfloat16", "float32", "float64"),
    "complex floating": ("complex64", "complex128"),
}
_KINDS["integral"] = _KINDS["signed integer"] + _KINDS["unsigned integer"]
_KINDS["numeric"] = _KINDS["integral"] + _KINDS["real floating"] + _KINDS["complex floating"]
_DTYPES = _KINDS["bool"] + _KINDS["numeric"]


class _Loaded:
    """TensorFlow, which whoever has a tensor has loaded."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules["tensorflow"], name)


tf: Any = _Loaded()


def __getattr__(name: str) -> DType:
    """Return the dtype of that name."""
    if name in _DTYPES:
        return getattr(tf, name)
    raise AttributeError(f"the namespace of TensorFlow arrays has no {name!r}")


def isdtype(dtype: DType, kind: DType | str | tuple[DType | str, ...]) -> bool:
    """Whether a dtype is of a kind, or of one of several."""
    if isinstance(kind, tuple):
        return True in [isdtype(dtype, one) for one in kind]
    return dtype.name in _KINDS[kind] if isinstance(kind, str) else bool(dtype == kind)


def result_type(*dtypes: DType) -> DType:
    """Return the dtype to which floating dtypes promote, or the one that all share."""
    if len(set(dtypes)) == 1:
        return dtypes[0]
    if False in [isdtype(dtype, "real floating") for dtype in dtypes]:
        raise TypeError(f"expected real floating dtypes or a single one, got {', '.join(d.name for d in dtypes)}")
    return tf.float64 if tf.float64 in dtypes else tf.float32


def asarray(obj: Any, /, *, dtype: DType | None = None, device: str | None = None) -> Tensor:
    """Make a tensor of a number, of nested sequences or of an array."""
    with tf.device(device) if device else nullcontext():
        if isinstance(obj, tf.Tensor | tf.Variable):
            return astype(obj, dtype or obj.dtype)
        return tf.constant(obj, dtype=dtype)


def astype(x: Tensor, dtype: DType, /, *, copy: bool = True) -> Tensor:
    """Cast to a dtype. A tensor never changes, so that only a variable is copied."""
    return tf.cast(tf.convert_to_tensor(x), dtype)


def zeros_like(x: Tensor, /, *, dtype: DType | None = None) -> Tensor:
    """Zeros of the shape of ``x``."""
    return tf.zeros_like(x, dtype=dtype)


def full_like(x: Tensor, /, fill_value: complex, *, dtype: DType | None = None) -> Tensor:
    """One value in the shape of ``x``."""
    return tf.fill(tf.shape(x), tf.constant(fill_value, dtype=dtype or x.dtype))


def reshape(x: Tensor, /, shape: tuple[int, ...]) -> Tensor:
    """The same entries in another shape."""
    return tf.reshape(x, shape)


def permute_dims(x: Tensor, /, axes: tuple[int, ...]) -> Tensor:
    """The axes in another order."""
    return tf.transpose(x, axes)


def broadcast_to(x: Tensor, /, shape: tuple[int, ...]) -> Tensor:
    """Repeat along axes of size 1 and new leading axes."""
    return tf.broadcast_to(x, shape)


def concat(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """Join along an axis."""
    return tf.concat(arrays, axis)


def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """Join along a new axis."""
    return tf.stack(arrays, axis)


def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Take an axis apart."""
    return tuple(tf.unstack(x, axis=axis))


def take(x: Tensor, indices: Tensor, /, *, axis: int) -> Tensor:
    """Entries at positions along an axis."""
    return tf.gather(x, indices, axis=axis)


def where(condition: Tensor, x1: Tensor, x2: Tensor, /) -> Tensor:
    """Entries of ``x1`` where the condition is True, of ``x2`` elsewhere."""
    return tf.where(condition, x1, x2)


def abs(x: Tensor, /) -> Tensor:
    """Magnitudes."""
    return tf.abs(x)


def expm1(x: Tensor, /) -> Tensor:
    """Exponentials minus one, exact for small entries too."""
    return tf.math.expm1(x)


def exp(x: Tensor, /) -> Tensor:
    """Exponentials."""
    return tf.exp(x)


def log(x: Tensor, /) -> Tensor:
    """Natural logarithms."""
    return tf.math.log(x)


def isfinite(x: Tensor, /) -> Tensor:
    """Whether entries are neither NaN nor infinite."""
    return tf.math.is_finite(x)


def logical_and(x1: Tensor, x2: Tensor, /) -> Tensor:
    """Whether both are True."""
    return tf.logical_and(x1, x2)


def all(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether all entries along the axes are True, or not zero."""
    return tf.reduce_all(tf.cast(x, tf.bool), axis, keepdims)


def any(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether any entry along the axes is True, or not zero."""
    return tf.reduce_any(tf.cast(x, tf.bool), axis, keepdims)


def sum(x: Tensor, /, *, axis: Axes = None, dtype: DType | None = None, keepdims: bool = False) -> Tensor:
    """Sum along the axes, in ``dtype`` if it is given, and integers in 64 bits otherwise."""
    if dtype is None and isdtype(x.dtype, "integral"):
        dtype = tf.int64 if isdtype(x.dtype, "signed integer") else tf.uint64
    return tf.reduce_sum(tf.cast(x, dtype or x.dtype), axis, keepdims)


def cumulative_sum(x: Tensor, /, *, axis: int) -> Tensor:
    """Sums of the entries up to each one along an axis."""
    return tf.cumsum(x, axis)


def max(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Largest entry along the axes."""
    return tf.reduce_max(x, axis, keepdims)


def min(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Smallest entry along the axes."""
    return tf.reduce_min(x, axis, keepdims)


def argsort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Positions of the entries in order. Always stable; without NaN."""
    x = tf.where(x == 0, tf.zeros_like(x), x)  # XLA sorts -0.0 before 0.0
    return tf.argsort(x, axis, "DESCENDING" if descending else "ASCENDING", stable=True)


class linalg:  # noqa: N801  the standard's name
    """The part of the standard's extension that is needed."""

    @staticmethod
    def svdvals(x: Tensor, /) -> Tensor:
        """Singular values of the last two axes, the largest first."""
        return tf.linalg.svd(x, compute_uv=False)
