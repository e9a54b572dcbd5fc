"""Which library an array comes from, and what differs between libraries."""

import functools
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeAlias, TypeVar

import array_api_compat

from neuroactivity.errors import LayoutError

P = ParamSpec("P")
R = TypeVar("R")

Array: TypeAlias = Any
"""An array of any supported library."""

Arrays: TypeAlias = Mapping[str, Any]
"""Arrays by name."""


def _is(thing: object, library: str, name: str) -> bool:
    """Whether something is an instance of a class of a library, which is not imported for it."""
    module = sys.modules.get(library)
    return module is not None and isinstance(thing, getattr(module, name, ()))


def _is_torch(thing: object) -> bool:
    return _is(thing, "torch", "Tensor")


def is_tensorflow(thing: object) -> bool:
    """Whether something is a tensor or a variable of TensorFlow."""
    return _is(thing, "tensorflow", "Tensor") or _is(thing, "tensorflow", "Variable")


def compiling() -> bool:
    """Whether ``torch.compile`` is tracing the caller."""
    return "torch" in sys.modules and bool(sys.modules["torch"].compiler.is_compiling())


def cache_outside_compile(function: Callable[..., R]) -> Callable[..., R]:
    """Keep what a function of hashable arguments returned, but not under ``torch.compile``, which traces no caches."""
    remembering = functools.lru_cache(maxsize=128)(function)

    @functools.wraps(function)
    def call(*args: Any) -> R:
        return function(*args) if compiling() else remembering(*args)

    return call


def no_autograph(function: Callable[P, R]) -> Callable[P, R]:
    """Have ``tf.function`` trace a function as it is: its AutoGraph would rewrite all that the function calls.

    The mark is the one that ``tf.autograph.experimental.do_not_convert`` sets.
    """
    vars(function)["autograph_info__"] = {}
    return function


def namespace(*arrays: Array) -> Any:
    """Return the Array-API namespace that the arrays share.

    Raises:
        TypeError: If something is not an array of a supported library, or the libraries differ.
    """
    first = _namespace(arrays[0])
    for array in arrays[1:]:
        if (other := _namespace(array)) is not first:
            raise TypeError(f"Multiple namespaces for array inputs: {first.__name__}, {other.__name__}")
    return first


def _namespace(array: Array) -> Any:
    known = _NAMESPACES.get(type(array))
    if known is None:
        known = _find_namespace(array)
        structured = getattr(getattr(array, "dtype", None), "names", None)  # as of JAX's gradients of integers
        if not structured and not compiling():  # which traces no writing to a dictionary
            _NAMESPACES[type(array)] = known
    return known


_NAMESPACES: dict[type, Any] = {}


def _find_namespace(array: Array) -> Any:
    if _is_torch(array):  # torch.compile cannot trace the caches of array_namespace
        from array_api_compat import torch

        return torch
    if is_tensorflow(array):
        from neuroactivity.arrays import tensorflow

        return tensorflow
    if not array_api_compat.is_array_api_obj(array):
        expected = "an array (NumPy, PyTorch, JAX, TensorFlow, Array API)"
        raise TypeError(f"expected {expected}, got {type(array).__name__}")
    return array_api_compat.array_namespace(array)


def check_array(array: Array) -> None:
    """Raise a ``TypeError`` if something is not an array of a supported library."""
    _namespace(array)


def check_like(value: Array, old: Array, where: str) -> None:
    """Raise a ``LayoutError`` unless a value has the shape and dtype of what it is to replace."""
    shape, expected = tuple(getattr(value, "shape", ())), tuple(old.shape)
    dtype, wanted = dtype_name(getattr(value, "dtype", type(value).__name__)), dtype_name(old.dtype)
    if (shape, dtype) != (expected, wanted):
        raise LayoutError(f"{where}: expected shape {expected} and dtype {wanted}, got {shape} and {dtype}")


def is_finite(array: Array) -> bool:
    """Return whether an array holds neither NaN nor infinities."""
    xp = namespace(array)
    return bool(xp.all(xp.isfinite(array)))


def shape_of(array: Array, where: str, *names: str) -> tuple[int, ...]:
    """Return the shape of an array, whose entries may be symbolic but whose sizes may not.

    Raises:
        LayoutError: If a size is known at run time only; the message begins with ``where``, formatted with ``names``.
    """
    shape = array.shape
    if hasattr(shape, "is_fully_defined") and not shape.is_fully_defined():  # a tf.TensorShape
        raise LayoutError(f"{where.format(*names)}expected a shape known when the function is traced, got {shape}")
    return tuple(shape)


def to_dense(array: Array) -> Array:
    """Return a gradient that TensorFlow or PyTorch holds in a sparse form as an array, any other as it is."""
    if getattr(array, "is_sparse", False):  # a tensor of PyTorch
        return array.to_dense()
    return sys.modules["tensorflow"].convert_to_tensor(array) if _is(array, "tensorflow", "IndexedSlices") else array


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype for an error message."""
    return str(getattr(dtype, "name", dtype))


def accumulation_dtype(xp: Any, dtype: Any) -> Any:
    """Return the dtype for sums: float64 for float64, float32 for every other real floating dtype."""
    if dtype in (xp.float32, xp.float64):
        return dtype
    if dtype_name(dtype) == "float64":  # NumPy's of another byte order
        return xp.float64
    if str(dtype) == "bfloat16" or xp.isdtype(dtype, "real floating"):  # NumPy does not know that of ml_dtypes
        return xp.float32
    raise LayoutError(f"expected a real floating dtype, got {dtype_name(dtype)}")


def asarray_like(values: tuple[int, ...] | tuple[bool, ...] | float, *, like: Array, dtype: Any = None) -> Array:
    """Make an array of fixed values, or of one, on the device of ``like``; without a dtype, they are positions."""
    xp = namespace(like)
    if dtype is None:
        dtype = xp.int64 if _is_torch(like) else xp.int32
    return xp.asarray(values, dtype=dtype, device=getattr(like, "device", None))  # a tracer of JAX 0.9 has none


def map_batched(function: Callable[[Array], Array], arrays: Arrays) -> dict[str, Array]:
    """Apply a function of the last axis, from an array to one of its shape, in one go to all arrays that are alike."""
    alike: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, array in arrays.items():
        if not hasattr(array, "shape"):
            check_array(array)
        alike[array.shape, array.dtype, getattr(array, "device", None)].append(name)
    results: dict[str, Array] = {}
    for names in alike.values():
        first = arrays[names[0]]
        shape_of(first, "group {!r}: ", names[0])
        if len(names) == 1:
            results[names[0]] = function(first)
            continue
        xp = namespace(first)
        stacked = xp.stack([arrays[name] for name in names])
        results |= zip(names, xp.unstack(function(stacked)), strict=True)
    return {name: results[name] for name in arrays}


def lowest_entries(x: Array, number: int) -> Array:
    """Mark so many of the lowest entries along the last axis, ties to the lower index; there is no NaN in ``x``.

    PyTorch finds the last of them without sorting, in a thirtieth of the time for rows of 512 entries.
    """
    if number and _is_torch(x) and not _must_repeat(x):
        last = x.kthvalue(number, dim=-1, keepdim=True).values
        below, level = x < last, x == last
        return below | level & (level.cumsum(-1) <= number - below.sum(-1, keepdim=True))
    xp = namespace(x)
    return xp.argsort(xp.argsort(x, axis=-1, stable=True), axis=-1, stable=True) < number


def _must_repeat(x: Any) -> bool:
    """Whether PyTorch is asked for operations that repeat, of which this one may not be known to be one on a GPU."""
    return x.device.type != "cpu" and bool(sys.modules["torch"].are_deterministic_algorithms_enabled())


def writable(x: Array) -> bool:
    """Whether rows of an array can be written in place, however its axes are split: NumPy's and PyTorch's, in order."""
    if _is_torch(x):
        return bool(x.is_contiguous() and not x.requires_grad)
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and type(x) is numpy.ndarray and bool(x.flags.c_contiguous and x.flags.writeable)


def private_copy(x: Array) -> Array | None:
    """Return a copy that is :func:`writable`, or ``None`` if there is no such array in the library."""
    if _is_torch(x):
        return x.detach().clone(memory_format=sys.modules["torch"].contiguous_format)
    numpy: Any = sys.modules.get("numpy")
    return x.copy() if numpy is not None and type(x) is numpy.ndarray else None


def to_list(x: Array) -> list[Any]:
    """Copy an array of one or two axes to nested Python lists of floats (or bools)."""
    if is_tensorflow(x):
        x = x.numpy()
    if hasattr(x, "tolist"):
        return list(x.tolist())
    if x.ndim > 1:
        return [to_list(x[i, ...]) for i in range(x.shape[0])]
    convert = bool if namespace(x).isdtype(x.dtype, "bool") else float
    return [convert(x[i]) for i in range(x.shape[0])]
