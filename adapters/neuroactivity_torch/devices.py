"""Models on many devices: what wraps them, and tensors of which each process holds a part.

A DTensor is read and written through the part that this process holds. Whoever has the position of an entry in the
whole finds it in the part by :func:`own_positions`; nothing else here or elsewhere knows how tensors are sharded.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from neuroactivity import LayoutError
from neuroactivity.arrays import is_sharded, part_of, put_together


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside ``DistributedDataParallel`` or ``DataParallel``, so that names are those it has itself.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> unwrapped(DataParallel(layer)) is layer
        True
    """
    while isinstance(model, DistributedDataParallel | DataParallel):
        model = model.module
    return model


def check_wrapping(model: nn.Module) -> None:
    """Raise if a model's parameters are flattened before they are sharded, so that they have no rows.

    Raises:
        LayoutError: If there is a ``FullyShardedDataParallel`` module, which is not ``fully_shard``.
        TypeError: If it is no model at all.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    old = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    if any(isinstance(module, old) for module in model.modules()):
        raise LayoutError(
            "the model is sharded by FullyShardedDataParallel, which keeps parameters as flat pieces without neurons; "
            "use torch.distributed.fsdp.fully_shard"
        )


def check_unsharded(model: nn.Module) -> None:
    """Raise if a model cannot be probed, since each process holds a part of its parameters only.

    Raises:
        LayoutError: If a parameter is a DTensor.
    """
    if any(map(is_sharded, model.parameters())):
        raise LayoutError(
            f"the parameters of {type(model).__name__} are sharded, so its layout cannot be searched any more; call "
            "layout_of before fully_shard or parallelize_module, and give layout= (names do not change)"
        )


def reshard(model: nn.Module) -> None:
    """Let ``fully_shard`` put the sharded parameters in place, where a forward pass has left whole ones behind."""
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())
    for module in model.modules():
        if isinstance(module, kind):
            module.reshard()


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds, in the same memory."""
    part: Tensor = part_of(tensor)[0] if is_sharded(tensor) else tensor
    return part


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; every process must ask for it."""
    full: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return full


def shared_out(value: Tensor, like: Tensor) -> Tensor:
    """Share a whole tensor out as another one is; each process takes its own part."""
    if is_sharded(like):
        part, start = part_of(like)
        own = value[tuple([slice(first, first + size) for first, size in zip(start, part.shape, strict=True)])]
        value = torch.empty_like(like)
        own_part(value).copy_(own)
    return value


def shared_alike(value: Any, like: Any) -> Tensor:
    """Share a DTensor out as another one is; what is still to be added up over processes is."""
    alike: Tensor = value.redistribute(placements=like.placements)
    return alike


def own_positions(tensor: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find entries of a DTensor, given by where they are if it were flat, in the part that this process holds.

    Returns:
        The part; where they are in it, were it flat; and which of the entries these are.
    """
    part, start = part_of(tensor)
    places = torch.unravel_index(index, tensor.shape)
    local = [place - first for place, first in zip(places, start, strict=True)]
    inside = torch.ones_like(index, dtype=torch.bool)
    for place, size in zip(local, part.shape, strict=True):
        inside &= (place >= 0) & (place < size)
    chosen = inside.nonzero().flatten()
    found = torch.zeros_like(chosen)
    for place, size in zip(local, part.shape, strict=True):
        found = found * size + place[chosen]
    return part, found, chosen


def take_own(tensor: Tensor, index: Tensor) -> Tensor:
    """Copy entries of a tensor, given by where they are if it were flat: of a sharded one, those of its own part."""
    if is_sharded(tensor):
        tensor, index, _ = own_positions(tensor, index)
    return tensor.view(-1).index_select(0, index) if tensor.is_contiguous() else tensor.take(index)


def put_own(tensor: Tensor, index: Tensor, values: Tensor) -> None:
    """Write what :func:`take_own` returns."""
    if is_sharded(tensor):
        tensor, index, _ = own_positions(tensor, index)
    if tensor.is_contiguous():
        tensor.view(-1).scatter_(0, index, values)
    else:
        tensor[torch.unravel_index(index, tensor.shape)] = values


def put_whole(tensor: Tensor, index: Tensor, values: Tensor | float) -> None:
    """Write entries of a DTensor: a number, or values of all of them, of which each process writes its own."""
    _, own, chosen = own_positions(tensor, index)
    given = values.reshape(-1)[chosen] if isinstance(values, Tensor) else torch.full_like(own, values)
    put_own(own_part(tensor), own, given.to(tensor.dtype))


def take_whole(tensor: Tensor, index: Tensor) -> Tensor:
    """Copy entries of a DTensor; every process must ask for the same, and gets all of them."""
    part, own, chosen = own_positions(tensor, index)
    found = part.new_zeros(len(index))
    found[chosen] = take_own(part, own)
    taken: Tensor = put_together(found, (0,), tuple(found.shape), tensor)
    return taken
