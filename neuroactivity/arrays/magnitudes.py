"""Sums of magnitudes. What costs is not the arithmetic but a temporary of the size of the array."""

import math
import sys
from typing import Any

from neuroactivity.arrays.libraries import Array, accumulation_dtype, compiling, namespace

__all__ = ["magnitude_sum"]

_BLOCK = 2**17
"""Entries that stay in the cache of one core on their way from one kernel to the next."""


def magnitude_sum(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum ``|x|`` over ``axes``, accumulated and returned in float32, or in float64 for a float64 array.

    A compiler makes one loop of both steps. Without one, a large array is summed block by block.
    """
    xp = namespace(x)
    dtype = accumulation_dtype(xp, x.dtype)
    if not axes:
        return xp.astype(xp.abs(x), dtype, copy=False)
    size = math.prod(x.shape)
    if size > 2 * _BLOCK and _has_memory(x):
        block = _BLOCK * _threads(x)
        if size > 2 * block:
            return _sum_in_blocks(x, axes, dtype, block)
    return xp.sum(xp.abs(x), axis=axes, dtype=dtype)


def _sum_in_blocks(x: Array, axes: tuple[int, ...], dtype: Any, block: int) -> Array:
    """Cut the first axis into blocks that share one buffer; an axis with large entries is cut further inside."""
    xp, rows = namespace(x), block * x.shape[0] // math.prod(x.shape)
    if rows:
        buffer = xp.empty_like(x[:rows, ...])
        blocks = [x[start : start + rows, ...] for start in range(0, x.shape[0], rows)]
        magnitudes = (xp.abs(block, out=buffer[: block.shape[0], ...]) for block in blocks)
        if 0 in axes:
            return xp.sum(xp.stack([xp.sum(values, axis=axes, dtype=dtype) for values in magnitudes]), axis=0)
        sums = xp.empty(tuple([n for i, n in enumerate(x.shape) if i not in axes]), dtype=dtype, device=x.device)
        for start, values in zip(range(0, x.shape[0], rows), magnitudes, strict=True):
            xp.sum(values, axis=axes, dtype=dtype, out=sums[start : start + rows, ...])
        return sums
    inner = tuple([axis - 1 for axis in axes if axis])
    parts = xp.stack([magnitude_sum(x[i, ...], inner) for i in range(x.shape[0])])
    return xp.sum(parts, axis=0) if 0 in axes else parts


def _threads(x: Array) -> int:
    """How many threads, each with a cache of its own, share the work on an array."""
    torch: Any = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None and type(x) is torch.Tensor else 1


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
