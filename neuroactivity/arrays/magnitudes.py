"""Sums of magnitudes. What costs is not the arithmetic but a temporary of the size of the array."""

import math
import sys
from typing import Any, TypeAlias

from neuroactivity.arrays.libraries import Array, accumulation_dtype, compiling, is_tensorflow, namespace

Axes: TypeAlias = tuple[int, ...]

_SMALL = 2**17
"""Entries up to which any way to sum is as fast as any other."""

_BLOCK = 2**18
"""Entries for each thread that stay in the cache between two kernels; TensorFlow is taken to have two threads."""

_STEP = 8
"""Entries of a column that TensorFlow and ``torch.compile`` sum first; down a whole one they read at long strides."""

_NARROW = 16
"""Columns that fill a vector of the processor: with fewer, steps are far too slow."""


def magnitude_sum(x: Array, axes: Axes) -> Array:
    """Sum ``|x|`` over ``axes``, accumulated and returned in float32, or in float64 for a float64 array.

    A compiler makes one loop of both steps. Without one, a large array is summed block by block, each in the memory of
    the block before.
    """
    xp, size = namespace(x), math.prod(x.shape)
    dtype = accumulation_dtype(xp, x.dtype)
    if not axes:
        return xp.astype(xp.abs(x), dtype, copy=False)
    if size <= _SMALL:
        return xp.sum(xp.abs(x), axis=axes, dtype=dtype)
    entries, threads = _plan(x, size)
    blocks = -(-size // entries)
    if blocks > x.shape[0]:  # a single row is larger than a block: cut it further inside
        inner = tuple([axis - 1 for axis in axes if axis])
        sums = xp.stack([magnitude_sum(x[i, ...], inner) for i in range(x.shape[0])])
        return xp.sum(sums, axis=0) if 0 in axes else sums
    if blocks == 1:
        return _sum_in_two(xp.abs(x), axes, threads, dtype)
    rows = -(-x.shape[0] // blocks)
    rows += -rows % _STEP if rows > _STEP**2 else 0  # whole steps, which make a block little larger
    memory = xp.empty_like(x[:rows, ...]) if threads else None
    sums = []
    for start in range(0, x.shape[0], rows):
        block = x[start : start + rows, ...]
        magnitudes = xp.abs(block) if memory is None else xp.abs(block, out=memory[: block.shape[0], ...])
        sums.append(_sum_in_two(magnitudes, axes, threads, dtype))
    return xp.sum(xp.stack(sums), axis=0) if 0 in axes else xp.concat(sums)


def _sum_in_two(x: Array, axes: Axes, threads: int, dtype: Any) -> Array:
    """Sum over a part of an axis first, and then the sums.

    With threads it is the first axis: each thread reads the share that it has just written. Left to itself, PyTorch
    shares out the other axes, and each thread fetches half of its numbers from another's cache. Without, it is the last
    axis of ``axes``, in steps.
    """
    xp, axis = namespace(x), 0 if threads else max(axes)
    part = x.shape[0] // threads if threads else _STEP
    columns, left = math.prod(x.shape[axis + 1 :]), x.shape[axis] % max(part, 1)
    if axis not in axes or not 0 < part < x.shape[axis] or (not threads and (left or columns < _NARROW)):
        return xp.sum(x, axis=axes, dtype=dtype)
    if left:
        sums = _sum_in_two(x[:-left, ...], axes, threads, dtype)
        return sums + xp.sum(x[-left:, ...], axis=axes, dtype=dtype)
    x = xp.reshape(x, (*x.shape[:axis], x.shape[axis] // part, part, *x.shape[axis + 1 :]))
    x = xp.sum(x, axis=tuple([other + (other >= axis) for other in axes]), dtype=dtype)
    return xp.sum(x, axis=axis - len([other for other in axes if other < axis]))


def _plan(x: Array, size: int) -> tuple[int, int]:
    """Say how many entries a block has, and how many threads share it; 0 threads: it is summed in steps.

    Only plain memory of the CPU, NumPy's or PyTorch's, is cut by threads, and nothing that somebody records.
    """
    torch: Any = sys.modules.get("torch")
    if is_tensorflow(x):
        eager = sys.modules["tensorflow"].executing_eagerly()  # where a slice costs too much
        return size if eager else 2 * _BLOCK, 0
    if torch is None or type(x) is not torch.Tensor:
        plain = "numpy" in sys.modules and type(x) is sys.modules["numpy"].ndarray
        return _BLOCK if plain else size, 1
    if compiling():
        return size, 0 if x.device.type == "cpu" else 1
    if not x.is_cpu or (x.requires_grad and torch.is_grad_enabled()):
        return size, 1
    try:
        recorded = not x.data_ptr()
    except RuntimeError:  # a tensor inside torch.vmap or torch.func.grad
        recorded = True
    threads = int(torch.get_num_threads())
    return (size, 1) if recorded else (threads * _BLOCK, threads)
