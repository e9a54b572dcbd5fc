"""The processes that train one model together: what they add up, and whether they still agree."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from neuroactivity.arrays import is_sharded
from neuroactivity_torch.devices import own_part
from neuroactivity_torch.schemes import random_bits

ProcessGroup: TypeAlias = Any
T = TypeVar("T")


class Ranks:
    """The ranks that a wrapper's model is trained by.

    Args:
        groups: Groups of processes; what is added up is added over one after another. None: this process is alone.
        device: Where the tensors are that they exchange.
    """

    def __init__(self, groups: Sequence[ProcessGroup] = (), device: torch.device | None = None) -> None:
        self._groups = [group for group in groups if dist.get_world_size(group) > 1]
        self._device = device

    @classmethod
    def of(cls, model: nn.Module, group: ProcessGroup | Literal[False] | None = None) -> "Ranks":
        """Return the ranks of a given group, of DDP's, of the mesh that parameters are sharded over, or else of all.

        Raises:
            ValueError: If a group is given that is none, or this process is not in it.
        """
        there = dist.is_available() and dist.is_initialized()
        if group and not (there and isinstance(group, dist.ProcessGroup) and dist.get_rank(group) >= 0):
            raise ValueError(f"process_group: expected a group that this process is in, or False, got {group!r}")
        if group is False or not there:
            return cls()
        params: list[Any] = list(model.parameters())
        meshes = [parameter.device_mesh for parameter in params if is_sharded(parameter)]
        groups = [group or getattr(model, "process_group", dist.group.WORLD)]
        if meshes and not group:
            widest = max(meshes, key=lambda mesh: mesh.ndim)
            groups = [widest.get_group(axis) for axis in range(widest.ndim)]
        return cls(groups, params[0].device if params else None)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, numbers: Tensor) -> Tensor:
        """Add a vector up over the ranks."""
        for group in self._groups:
            dist.all_reduce(numbers, group=group)
        return numbers

    def all(self, condition: bool) -> bool:
        """Whether something is true on every rank."""
        if not self._groups:
            return condition
        return not float(self.add(torch.tensor([float(not condition)], device=self._device)))

    def together(self, function: Callable[[], T], what: str = "probe") -> T:
        """Call a function that may raise on a rank, after which the others would wait for that rank in vain.

        Raises:
            RuntimeError: If it has raised on another rank.
        """
        results, fine = list[T](), False
        try:
            results.append(function())
        finally:
            fine = self.all(bool(results))
        if not fine:
            raise RuntimeError(f"{what}: it has failed on another rank")
        return results[0]

    def add_means(
        self, means: Mapping[str, Tensor], counts: Mapping[str, int], sizes: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return the means of all ranks' samples from each rank's means, of so many samples.

        Args:
            means: Means by group name; a group may be absent.
            counts: The number of samples behind each.
            sizes: The shape of the means of all groups, in the same order on every rank.
        """
        lengths = [math.prod(size) + 1 for size in sizes.values()]
        numbers = torch.zeros(sum(lengths), dtype=torch.float64, device=self._device)
        dtype = next((value.dtype for value in means.values()), torch.float32)
        for own, name in zip(torch.split(numbers, lengths), sizes, strict=True):
            if name in means:
                own[:-1], own[-1] = means[name].reshape(-1).to(own) * counts[name], counts[name]
        added = dict(zip(sizes, torch.split(self.add(numbers), lengths), strict=True))
        return {n: (own[:-1] / own[-1]).view(sizes[n]).to(dtype) for n, own in added.items() if own[-1] > 0}

    def differing(self, numbers: Mapping[str, int]) -> str:
        """Name those numbers that are not the same on all ranks; every rank gives as many, by the same names."""
        if not self._groups:
            return ""
        given = torch.tensor(list(numbers.values()), dtype=torch.int64, device=self._device)
        both = torch.cat([given, ~given])
        for group in self._groups:
            dist.all_reduce(both, op=dist.ReduceOp.MAX, group=group)
        highest, lowest = both[: len(given)], ~both[len(given) :]
        names = [name for name, differs in zip(numbers, (highest != lowest).tolist(), strict=True) if differs]
        return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def fingerprint(tensor: Tensor) -> int:
    """Hash a tensor's bits.

    Example:
        >>> fingerprint(torch.tensor([1.0, 2.0])) == fingerprint(torch.tensor([2.0, 1.0]))
        False
    """
    flat = own_part(tensor.detach()).reshape(-1)
    kind = {1: torch.int8, 2: torch.int16, 4: torch.int32}.get(flat.element_size(), torch.int64)
    bits = flat.contiguous().view(kind).long()
    return int((random_bits(torch.arange(1, len(bits) + 1, device=bits.device)) * (2 * bits + 1)).sum())
