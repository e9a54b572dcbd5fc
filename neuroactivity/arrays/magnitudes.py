"""Sums of magnitudes. What costs is not the arithmetic but a temporary of the size of the array."""

import math
import sys
from typing import Any

from neuroactivity.arrays.libraries import Array, accumulation_dtype, compiling, namespace

__all__ = ["magnitude_sum"]

_BLOCK = 2**17
"""Entries that stay in the cache of one core on their way from one kernel to the next."""

_GRAIN = 2**15
"""Entries below which PyTorch gives a thread no share (its ``GRAIN_SIZE``)."""


def magnitude_sum(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum ``|x|`` over ``axes``, accumulated and returned in float32, or in float64 for a float64 array.

    A compiler makes one loop of both steps. Without one, a large array is summed block by block.
    """
    xp = namespace(x)
    dtype = accumulation_dtype(xp, x.dtype)
    if not axes:
        magnitudes = xp.abs(x)
        return magnitudes if x.dtype == dtype else xp.astype(magnitudes, dtype)
    size = math.prod(x.shape)
    if size > _BLOCK and _has_memory(x):
        threads = _threads(x)
        if size > 2 * _BLOCK * threads:
            return _sum_in_blocks(x, axes, dtype, threads)
        if 0 in axes:
            return _sum_by_thread(xp.abs(x), axes, dtype, threads)
    return xp.sum(xp.abs(x), axis=axes, dtype=dtype)


def _sum_in_blocks(x: Array, axes: tuple[int, ...], dtype: Any, threads: int) -> Array:
    """Cut the first axis into blocks that share one buffer; an axis with large entries is cut further inside."""
    xp, rows = namespace(x), threads * (_BLOCK * x.shape[0] // math.prod(x.shape))
    if not rows:
        inner = tuple([axis - 1 for axis in axes if axis])
        parts = xp.stack([magnitude_sum(x[i, ...], inner) for i in range(x.shape[0])])
        return xp.sum(parts, axis=0) if 0 in axes else parts
    buffer = xp.empty_like(x[:rows, ...])
    blocks = [x[start : start + rows, ...] for start in range(0, x.shape[0], rows)]
    magnitudes = (xp.abs(block, out=buffer[: block.shape[0], ...]) for block in blocks)
    if 0 in axes:
        return xp.sum(xp.stack([_sum_by_thread(values, axes, dtype, threads) for values in magnitudes]), axis=0)
    sums = xp.empty(tuple([n for i, n in enumerate(x.shape) if i not in axes]), dtype=dtype, device=x.device)
    for start, values in zip(range(0, x.shape[0], rows), magnitudes, strict=True):
        xp.sum(values, axis=axes, dtype=dtype, out=sums[start : start + rows, ...])
    return sums


def _sum_by_thread(x: Array, axes: tuple[int, ...], dtype: Any, threads: int) -> Array:
    """Sum over the first axis, and others, so that each thread reads its share of it, which it has just written.

    Left to itself, PyTorch shares out the neurons, and each thread fetches half of its numbers from another's cache.
    """
    xp, rows = namespace(x), x.shape[0] // threads
    if threads == 1 or not rows:
        return xp.sum(x, axis=axes, dtype=dtype)
    shares = xp.reshape(x[: threads * rows, ...], (threads, rows, *x.shape[1:]))
    sums = xp.sum(xp.sum(shares, axis=tuple([axis + 1 for axis in axes]), dtype=dtype), axis=0)
    rest = x[threads * rows :, ...]
    return sums + xp.sum(rest, axis=axes, dtype=dtype) if rest.shape[0] else sums


def _threads(x: Array) -> int:
    """How many threads, each with a cache of its own, share the work on an array."""
    torch: Any = sys.modules.get("torch")
    if torch is None or type(x) is not torch.Tensor:
        return 1
    shares = max(1, math.prod(x.shape) // _GRAIN)
    return min(int(torch.get_num_threads()), int(shares))


def _has_memory(x: Array) -> bool:
    """Whether an array is plain memory of the CPU, NumPy's or PyTorch's, and nobody records what is done with it."""
    if "numpy" in sys.modules and type(x) is sys.modules["numpy"].ndarray:
        return True
    torch: Any = sys.modules.get("torch")
    if torch is None or compiling() or type(x) is not torch.Tensor or x.device.type != "cpu":
        return False
    if x.requires_grad and torch.is_grad_enabled():
        return False
    try:
        return bool(x.data_ptr())
    except RuntimeError:  # a tensor inside torch.vmap or torch.func.grad
        return False
