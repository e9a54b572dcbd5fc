"""Sums of magnitudes. What costs is not the arithmetic but a temporary of the size of the array."""

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from neuroactivity.arrays.libraries import Array, accumulation_dtype, compiling, is_tensorflow, namespace

__all__ = ["Scratch", "magnitude_sum"]

Scratch: TypeAlias = dict[Any, Array]
"""Memory for the magnitudes of one array or block after the other."""

Axes: TypeAlias = tuple[int, ...]

_LARGE = 2**17
"""Entries up to which any way to sum is as fast as any other."""

_BLOCK = 2**18
"""Entries for each thread that stay in the cache between two kernels; TensorFlow is taken to have two threads."""

_GRAIN = 2**15
"""Entries below which PyTorch gives a thread no share (its ``GRAIN_SIZE``)."""

_STEP = 8
"""Entries of a column that are read side by side."""

_NARROW = 16
"""Columns that fill a vector of the processor: with fewer, what ``torch.compile`` makes of steps is far too slow."""


def magnitude_sum(x: Array, axes: Axes, scratch: Scratch | None = None) -> Array:
    """Sum ``|x|`` over ``axes``, accumulated and returned in float32, or in float64 for a float64 array.

    A compiler makes one loop of both steps. Without one, a large array is summed block by block, and its magnitudes are
    kept in ``scratch``, which serves the arrays of one measurement.
    """
    xp = namespace(x)
    dtype = accumulation_dtype(xp, x.dtype)
    if not axes:
        magnitudes = xp.abs(x)
        return magnitudes if x.dtype == dtype else xp.astype(magnitudes, dtype)
    size = math.prod(x.shape)
    if size <= _LARGE:
        return xp.sum(xp.abs(x), axis=axes, dtype=dtype)
    if threads := _threads(x, size):
        scratch = {} if scratch is None else scratch
        if size <= threads * _BLOCK:
            return _sum_by_thread(x, axes, dtype, threads, scratch)
        sum_block = partial(_sum_by_thread, axes=axes, dtype=dtype, threads=threads, scratch=scratch)
        return _sum_in_blocks(x, axes, threads * _BLOCK, sum_block, scratch)
    if is_tensorflow(x):
        eager = sys.modules["tensorflow"].executing_eagerly()  # where a slice costs too much
        entries = size if eager else 2 * _BLOCK
        return _sum_in_blocks(x, axes, entries, partial(_sum_in_steps, axes=axes, dtype=dtype))
    if compiling() and x.device.type == "cpu" and math.prod(x.shape[max(axes) + 1 :]) >= _NARROW:
        return _sum_in_steps(x, axes, dtype)
    return xp.sum(xp.abs(x), axis=axes, dtype=dtype)


def _sum_in_blocks(
    x: Array, axes: Axes, entries: int, sum_block: Callable[[Array], Array], scratch: Scratch | None = None
) -> Array:
    """Cut the first axis into blocks of about so many entries; an axis with larger ones is cut further inside."""
    xp, length, blocks = namespace(x), x.shape[0], -(-math.prod(x.shape) // entries)
    if blocks == 1:
        return sum_block(x)
    if blocks > length:
        inner = tuple([axis - 1 for axis in axes if axis])
        parts = xp.stack([magnitude_sum(x[i, ...], inner, scratch) for i in range(length)])
        return xp.sum(parts, axis=0) if 0 in axes else parts
    rows = -(-length // blocks)
    if rows > _STEP**2:  # whole steps, which then make a block little larger
        rows += -rows % _STEP
    sums = [sum_block(x[start : start + rows, ...]) for start in range(0, length, rows)]
    return xp.sum(xp.stack(sums), axis=0) if 0 in axes else xp.concat(sums)


def _sum_by_thread(x: Array, axes: Axes, dtype: Any, threads: int, scratch: Scratch) -> Array:
    """Sum magnitudes so that each thread reads its share of the first axis, which it has just written.

    Where that axis is summed, PyTorch left to itself shares out the others, and each thread fetches half of its numbers
    from another's cache. Magnitudes are written over those before, if they had the same shape: fresh memory costs as
    much as the sum.
    """
    xp, shape, rows = namespace(x), x.shape, x.shape[0] // threads
    memory = scratch.get((shape, x.dtype))
    if memory is None:
        scratch.clear()
        memory = scratch[shape, x.dtype] = xp.empty_like(x)
    x = xp.abs(x, out=memory)
    if threads == 1 or 0 not in axes or not rows:
        return xp.sum(x, axis=axes, dtype=dtype)
    shared = threads * rows
    shares = xp.reshape(x if shared == shape[0] else x[:shared, ...], (threads, rows, *shape[1:]))
    sums = xp.sum(xp.sum(shares, axis=tuple([axis + 1 for axis in axes]), dtype=dtype), axis=0)
    return sums if shared == shape[0] else sums + xp.sum(x[shared:, ...], axis=axes, dtype=dtype)


def _sum_in_steps(x: Array, axes: Axes, dtype: Any) -> Array:
    """Sum magnitudes over a few rows at a time, then the sums: down a whole column memory is read at long strides."""
    xp, last = namespace(x), max(axes)
    x = xp.abs(x)
    if last < len(x.shape) - 1 and x.shape[last] % _STEP == 0:
        steps = (*x.shape[:last], x.shape[last] // _STEP, _STEP, *x.shape[last + 1 :])
        x = xp.sum(xp.reshape(x, steps), axis=last + 1, dtype=dtype)
    return xp.sum(x, axis=axes, dtype=dtype)


def _threads(x: Array, size: int) -> int:
    """How many threads, each with a cache of its own, share the work on an array of ``size`` entries.

    0 for what is not plain memory of the CPU, NumPy's or PyTorch's, and where somebody records what is done with it.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or type(x) is not torch.Tensor:
        return int("numpy" in sys.modules and type(x) is sys.modules["numpy"].ndarray)
    if compiling() or not x.is_cpu or (x.requires_grad and torch.is_grad_enabled()):
        return 0
    try:
        recorded = not x.data_ptr()
    except RuntimeError:  # a tensor inside torch.vmap or torch.func.grad
        return 0
    return 0 if recorded else min(int(torch.get_num_threads()), max(1, size // _GRAIN))
