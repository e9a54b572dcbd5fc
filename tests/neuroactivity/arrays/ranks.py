"""Ranks of a world that are played one after the other, in one process: nothing is communicated."""

import math
from contextlib import contextmanager

import torch.distributed as dist
from torch.distributed.tensor import DTensor, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore


@contextmanager
def rank_of(rank, *sizes):
    """Be one rank of a mesh of these sizes."""
    dist.init_process_group("fake", rank=rank, world_size=math.prod(sizes), store=FakeStore())
    try:
        yield init_device_mesh("cpu", sizes)
    finally:
        dist.destroy_process_group()


def shared_out(x, mesh, placements):
    """The DTensor of which this rank holds its part."""
    local = x
    for place, size, placement in zip(mesh.get_coordinate(), mesh.shape, placements, strict=True):
        if placement.is_shard():
            each = -(-x.shape[placement.dim] // size)
            parts = local.split(each, placement.dim)
            local = parts[place] if place < len(parts) else parts[0].narrow(placement.dim, 0, 0)
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=x.shape, stride=x.stride())
