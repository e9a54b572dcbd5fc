"""Sums of magnitudes. What costs is not the arithmetic but a temporary of the size of the array."""

import math
import sys
from typing import Any, TypeAlias

from neuroactivity.arrays.libraries import Array, accumulation_dtype, compiling, namespace

__all__ = ["Scratch", "magnitude_sum"]

Scratch: TypeAlias = dict[Any, Array]
"""Memory for the magnitudes of one array or block after the other."""

_BLOCK = 2**17
"""Entries that stay in the cache of one core on their way from one kernel to the next."""

_GRAIN = 2**15
"""Entries below which PyTorch gives a thread no share (its ``GRAIN_SIZE``)."""


def magnitude_sum(x: Array, axes: tuple[int, ...], scratch: Scratch | None = None) -> Array:
    """Sum ``|x|`` over ``axes``, accumulated and returned in float32, or in float64 for a float64 array.

    A compiler makes one loop of both steps. Without one, a large array is summed block by block, and the magnitudes are
    kept in ``scratch``, which serves the arrays of one measurement.
    """
    xp = namespace(x)
    dtype = accumulation_dtype(xp, x.dtype)
    if not axes:
        magnitudes = xp.abs(x)
        return magnitudes if x.dtype == dtype else xp.astype(magnitudes, dtype)
    size = math.prod(x.shape)
    threads = _threads(x, size) if size > _BLOCK else 0
    if not threads:
        return xp.sum(xp.abs(x), axis=axes, dtype=dtype)
    scratch = {} if scratch is None else scratch
    if size > 2 * _BLOCK * threads:
        return _sum_in_blocks(x, axes, dtype, threads, scratch)
    return _sum_by_thread(_magnitudes(x, scratch), axes, dtype, threads)


def _magnitudes(x: Array, scratch: Scratch) -> Array:
    """Write ``|x|`` over the magnitudes before, if they had the same shape: fresh memory costs as much as the sum."""
    kind = x.shape, x.dtype
    if kind not in scratch:
        scratch.clear()
        scratch[kind] = namespace(x).empty_like(x)
    return namespace(x).abs(x, out=scratch[kind])


def _sum_in_blocks(x: Array, axes: tuple[int, ...], dtype: Any, threads: int, scratch: Scratch) -> Array:
    """Cut the first axis into blocks; an axis with large entries is cut further inside."""
    xp, rows = namespace(x), threads * (_BLOCK * x.shape[0] // math.prod(x.shape))
    if not rows:
        inner = tuple([axis - 1 for axis in axes if axis])
        parts = xp.stack([magnitude_sum(x[i, ...], inner, scratch) for i in range(x.shape[0])])
        return xp.sum(parts, axis=0) if 0 in axes else parts
    starts = range(0, x.shape[0], rows)
    magnitudes = (_magnitudes(x[start : start + rows, ...], scratch) for start in starts)
    if 0 in axes:
        return xp.sum(xp.stack([_sum_by_thread(values, axes, dtype, threads) for values in magnitudes]), axis=0)
    sums = xp.empty(tuple([n for i, n in enumerate(x.shape) if i not in axes]), dtype=dtype, device=x.device)
    for start, values in zip(starts, magnitudes, strict=True):
        xp.sum(values, axis=axes, dtype=dtype, out=sums[start : start + rows, ...])
    return sums


def _sum_by_thread(x: Array, axes: tuple[int, ...], dtype: Any, threads: int) -> Array:
    """Sum so that each thread reads its share of the first axis, which it has just written.

    Where that axis is summed, PyTorch left to itself shares out the others, and each thread fetches half of its numbers
    from another's cache.
    """
    xp, rows = namespace(x), x.shape[0] // threads
    if 0 not in axes or threads == 1 or not rows:
        return xp.sum(x, axis=axes, dtype=dtype)
    shares = xp.reshape(x[: threads * rows, ...], (threads, rows, *x.shape[1:]))
    sums = xp.sum(xp.sum(shares, axis=tuple([axis + 1 for axis in axes]), dtype=dtype), axis=0)
    rest = x[threads * rows :, ...]
    return sums + xp.sum(rest, axis=axes, dtype=dtype) if rest.shape[0] else sums


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
