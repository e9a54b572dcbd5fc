"""The entries of reset neurons in a tensor, read and written in place."""

import functools
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from neuroactivity.arrays import is_sharded
from neuroactivity.resets import small_outgoing
from neuroactivity.wrapping import Rows
from neuroactivity_torch.devices import own_part, put_own, put_whole, take_own, take_whole


class Entries(NamedTuple):
    """Some entries of tensors of one shape.

    Attributes:
        sizes: The tensors' shape with the parentheses of a pattern opened.
        axes: The axes of that shape along which copies of a stack and neurons are counted.
        places: The positions along each of these axes, one for each row.
    """

    sizes: tuple[int, ...]
    axes: tuple[int, ...]
    places: tuple[Tensor, ...]

    def starts(self) -> Tensor:
        """Return where each row begins in a tensor, were it flat."""
        steps = self._strides()
        starts = [
            place * steps[axis] if steps[axis] > 1 else place
            for axis, place in zip(self.axes, self.places, strict=True)
        ]
        return starts[0] if len(starts) == 1 else torch.stack(starts).sum(0)

    def steps(self) -> Tensor:
        """Return how far behind that its entries are."""
        steps, runs = self._strides(), list[tuple[int, int]]()  # of entries that are as far apart, the nearest first
        for axis in sorted(set(range(len(self.sizes))) - set(self.axes), reverse=True):
            size, step = runs.pop() if runs and math.prod(runs[-1]) == steps[axis] else (1, steps[axis])
            runs.append((size * self.sizes[axis], step))
        device = self.places[0].device
        near, *far = [torch.arange(0, size * step, step, device=device) for size, step in runs or [(1, 1)]]
        for each in far:
            near = (each[:, None] + near).flatten()
        return near

    def _strides(self) -> list[int]:
        return [math.prod(self.sizes[axis + 1 :]) for axis in range(len(self.sizes))]

    def flat(self) -> Tensor:
        """Return where all entries are in a tensor, were it flat."""
        return (self.starts()[:, None] + self.steps()).flatten()

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of a row."""
        return tuple([size for axis, size in enumerate(self.sizes) if axis not in self.axes])

    def zeros(self, tensor: Tensor) -> Tensor:
        """Return zeros for all entries."""
        return own_part(tensor).new_zeros((len(self.places[0]), *self.row))

    def read(self, tensor: Tensor) -> Tensor:
        """Return a copy of the entries, the first axis of which counts rows."""
        if is_sharded(tensor):
            return take_whole(tensor, self.flat()).view(-1, *self.row)
        return self.take(tensor).movedim(self._rows, 0)

    def write(self, tensor: Tensor, values: Tensor | float) -> None:
        """Write the entries: a number, or values whose first axis counts rows."""
        if is_sharded(tensor):
            put_whole(tensor, self.flat(), values)
        else:
            self.put(tensor, values.movedim(0, self._rows) if isinstance(values, Tensor) else values)

    @property
    def _rows(self) -> int:
        """Which axis of what :meth:`take` returns counts rows."""
        return self.axes[0] if len(self.axes) == 1 else 0

    def take(self, tensor: Tensor) -> Tensor:
        """Return a copy of the entries, with their axes in the tensor's order if it is one that counts rows.

        Of a sharded tensor, those that this process holds.
        """
        if is_sharded(tensor):
            return take_own(tensor, self.flat())
        opened = self._open(tensor)
        if len(self.axes) == 1:
            return opened.index_select(self.axes[0], self.places[0])
        return opened.movedim(self.axes, tuple(range(len(self.axes))))[self.places]

    def put(self, tensor: Tensor, values: Tensor | float) -> None:
        """Write the entries: a number, or what :meth:`take` returned."""
        if is_sharded(tensor):
            assert isinstance(values, Tensor)
            put_own(tensor, self.flat(), values)
            return
        opened = self._open(tensor)
        if len(self.axes) > 1:
            opened.movedim(self.axes, tuple(range(len(self.axes))))[self.places] = values
        elif isinstance(values, Tensor):
            opened.index_copy_(self.axes[0], self.places[0], values)
        else:
            opened.index_fill_(self.axes[0], self.places[0], values)
        if opened is not tensor and opened.data_ptr() != tensor.data_ptr():  # its memory has gaps: it was copied
            tensor.copy_(opened.reshape(tensor.shape))

    def _open(self, tensor: Tensor) -> Tensor:
        """Open the parentheses of a pattern."""
        return tensor if tensor.shape == self.sizes else tensor.reshape(self.sizes)


def locate(rows: Sequence[Rows], params: Mapping[str, Tensor]) -> list[tuple[Rows, Entries]]:
    """Say where rows lie, on the devices of their parameters."""
    index = functools.cache(partial(torch.tensor, dtype=torch.int64))  # the views of a group count the same neurons
    places = [tuple([index(p, device=params[each.view.param].device) for p in each.places]) for each in rows]
    return [(each, Entries(each.bound.sizes, each.axes, own)) for each, own in zip(rows, places, strict=True)]


def shrink(values: Tensor, entries: Entries, parameter: Tensor, mask: Tensor, rows: Rows) -> Tensor:
    """Scale fresh outgoing rows of a parameter to a part of the size that those of living neurons have."""
    fresh = own_part(parameter).new_zeros(parameter.shape)
    entries.write(fresh, values)
    return entries.read(small_outgoing(fresh, parameter.detach(), mask, rows.view, rows.bound))


def overwrite_entries(writes: Sequence[tuple[Tensor, Entries, Tensor | float]]) -> None:
    """Write entries of tensors in place, all of them or none: if a write fails, what was written is put back.

    Args:
        writes: Tensors, which entries of them to write, and their new values.
    """
    kept: list[tuple[Tensor, Entries, Tensor]] = []
    with torch.no_grad():
        try:
            for tensor, entries, values in writes:
                kept.append((tensor, entries, entries.take(tensor)))
                entries.write(tensor, values)
        except BaseException:
            for tensor, entries, old in reversed(kept):
                with suppress(Exception):  # of the tensor that cannot be written
                    entries.put(tensor, old)
            raise
