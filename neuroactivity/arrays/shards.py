"""Arrays of which each device holds a part: PyTorch's DTensors. What is communicated is one number for each neuron."""

import sys
from typing import Any

from neuroactivity.arrays.libraries import Array
from neuroactivity.arrays.magnitudes import Axes, magnitude_sum


def is_sharded(x: Any) -> bool:
    """Whether an array is a DTensor."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def part_of(x: Array) -> tuple[Array, tuple[int, ...]]:
    """Return the part of a DTensor that this process holds, in the same memory, and the position where it begins.

    Raises:
        ValueError: If the part is no block of the whole.
    """
    helpers = sys.modules["torch.distributed.tensor._utils"]
    local = x.to_local()
    shape, start = helpers.compute_local_shape_and_global_offset(x.shape, x.device_mesh, x.placements)
    if tuple(shape) != tuple(local.shape) or any(placement.is_partial() for placement in x.placements):
        raise ValueError(f"a tensor of shape {tuple(x.shape)} is sharded in a way that is not known: {x.placements}")
    return local, tuple(start)


def put_together(part: Array, start: tuple[int, ...], shape: tuple[int, ...], like: Array) -> Array:
    """Return the whole on every process, from parts that lie like those of a DTensor; zero where there is no part."""
    whole = part.new_zeros(shape)
    whole[tuple([slice(first, first + size) for first, size in zip(start, part.shape, strict=True)])] = part
    for axis, placement in enumerate(like.placements):
        if not placement.is_replicate():
            sys.modules["torch.distributed"].all_reduce(whole, group=like.device_mesh.get_group(axis))
    return whole


def sum_shards(x: Array, sizes: tuple[int, ...], reduced: Axes) -> tuple[Array, tuple[int, ...]]:
    """Sum a DTensor's magnitudes over whole axes that count neither neurons nor copies, and bring the sums together.

    Args:
        x: Any array; one that is not sharded is returned as it is.
        sizes: Its shape with the parentheses of a pattern opened.
        reduced: Which of these are to be summed over.

    Returns:
        An array of the whole, the same on every process, where axes that are summed have one entry; and its ``sizes``.
    """
    if not is_sharded(x):
        return x, sizes
    if any(placement.is_partial() for placement in x.placements):
        replicate = sys.modules["torch.distributed.tensor"].Replicate()
        x = x.redistribute(placements=[replicate if each.is_partial() else each for each in x.placements])
    axes, opened = _summed_axes(tuple(x.shape), sizes, reduced)
    local, start = part_of(x)
    sums = magnitude_sum(local.detach(), axes)
    exact = sums.double().reshape([1 if axis in axes else size for axis, size in enumerate(local.shape)])
    start = tuple([0 if axis in axes else first for axis, first in enumerate(start)])
    shape = tuple([1 if axis in axes else size for axis, size in enumerate(x.shape)])
    whole = put_together(exact, start, shape, x).to(sums.dtype)  # whatever the order in which parts are added
    return whole, tuple([1 if i in opened else size for i, size in enumerate(sizes)])


def _summed_axes(shape: tuple[int, ...], sizes: tuple[int, ...], reduced: Axes) -> tuple[Axes, Axes]:
    """Return the axes of a shape, and those of the same shape opened, that hold nothing but what is summed over."""
    axes: list[int] = []
    opened: list[int] = []
    i = j = 0
    while i < len(shape) and j < len(sizes) and 0 not in shape:
        first, second, one, other = i, j, shape[i], sizes[j]
        i, j = i + 1, j + 1
        while one != other:
            if one < other:
                one, i = one * shape[i], i + 1
            else:
                other, j = other * sizes[j], j + 1
        if all(axis in reduced for axis in range(second, j)):
            axes += range(first, i)
            opened += range(second, j)
    return tuple(axes), tuple(opened)
