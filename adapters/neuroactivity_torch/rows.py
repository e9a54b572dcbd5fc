"""The entries of reset neurons in a tensor, read and written in place."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from neuroactivity.resets import small_outgoing
from neuroactivity.wrapping import Rows


class Entries(NamedTuple):
    """Some entries of tensors of one shape.

    Attributes:
        sizes: The tensors' shape with the parentheses of a pattern opened.
        index: What selects the entries of a tensor of that shape.
    """

    sizes: tuple[int, ...]
    index: tuple[slice | Tensor, ...]

    @classmethod
    def of(cls, rows: Rows, device: torch.device) -> "Entries":
        """The entries of these rows, for tensors on a device."""
        index: list[slice | Tensor] = [slice(None)] * len(rows.bound.sizes)
        for axis, places in zip(rows.axes, rows.places, strict=True):
            index[axis] = torch.tensor(places, dtype=torch.long, device=device)
        return cls(rows.bound.sizes, tuple(index))

    def read(self, tensor: Tensor) -> Tensor:
        """Return a copy of the entries, the first axis of which counts rows."""
        return self._in_front(tensor.reshape(self.sizes)[self.index])

    def write(self, tensor: Tensor, values: Tensor | float) -> None:
        """Write the entries."""
        opened = tensor.reshape(self.sizes)
        if isinstance(values, Tensor):
            values = values.movedim(0, self._front)
        opened[self.index] = values
        if opened.data_ptr() != tensor.data_ptr():  # a tensor whose memory has gaps was copied
            tensor.copy_(opened.reshape(tensor.shape))

    @property
    def _front(self) -> int:
        """Where indexing leaves the axis that counts rows."""
        axes = [axis for axis, index in enumerate(self.index) if isinstance(index, Tensor)]
        return axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0

    def _in_front(self, selected: Tensor) -> Tensor:
        return selected.movedim(self._front, 0)


def shrink(values: Tensor, entries: Entries, parameter: Tensor, mask: Tensor, rows: Rows) -> Tensor:
    """Scale fresh outgoing rows of a parameter to a part of the size that those of living neurons have."""
    fresh = torch.zeros_like(parameter)
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
                kept.append((tensor, entries, entries.read(tensor)))
                entries.write(tensor, values)
        except BaseException:
            for tensor, entries, old in reversed(kept):
                with suppress(Exception):  # of the tensor that cannot be written
                    entries.write(tensor, old)
            raise
