"""DTensors: what each rank adds to the sums."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from neuroactivity.arrays import is_sharded, part_of, put_together, sum_shards
from tests.neuroactivity.arrays.ranks import rank_of, shared_out

ROWS, COLUMNS, WHOLE = Shard(0), Shard(1), Replicate()


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


SUMS = {
    "rows": ((4, 6), (1,), (4, 1), (4, 1)),
    "columns": ((4, 6), (0,), (1, 6), (1, 6)),
    "neither": ((4, 6), (), (4, 6), (4, 6)),
    "all": ((4, 6), (0, 1), (1, 1), (1, 1)),
    "a part of an axis": ((4, 2, 3), (1,), (4, 6), (4, 2, 3)),
    "all parts of an axis": ((4, 2, 3), (1, 2), (4, 1), (4, 1, 1)),
    "parts of the first axis": ((2, 2, 2, 3), (0, 1), (1, 6), (1, 1, 2, 3)),
    "axes in one": ((24,), (0,), (1, 1), (1,)),
    "axes in one, kept": ((24,), (), (4, 6), (24,)),
}


@pytest.mark.counts(cells=27)
@pytest.mark.parametrize("placement", [ROWS, COLUMNS, WHOLE], ids=["rows", "columns", "whole"])
@pytest.mark.parametrize(("sizes", "reduced", "shape", "opened"), SUMS.values(), ids=SUMS)
def test_what_ranks_add_up_is_the_sum(sizes, reduced, shape, opened, placement):
    x, added = normal(4, 6), []
    for rank in range(2):
        with rank_of(rank, 2) as mesh:
            found, left = sum_shards(shared_out(x, mesh, [placement]), sizes, reduced)
        assert (tuple(found.shape), left) == (shape, opened)
        assert found.dtype == torch.float64
        added.append(found)
    axes = [axis for axis in (0, 1) if shape[axis] != x.shape[axis]]
    expected = x.abs().sum(axes, keepdim=True) if axes else x.abs()
    torch.testing.assert_close(added[0] if placement is WHOLE else sum(added), expected)


@pytest.mark.parametrize(
    ("shape", "sizes", "reduced", "expected"),
    [
        ((2, 3, 4), (2, 12), (1,), (2, 1, 1)),
        ((2, 3, 4), (6, 4), (0,), (1, 1, 4)),
        ((2, 3, 4), (6, 2, 2), (1, 2), (2, 3, 1)),
        ((1, 3), (3,), (), (1, 3)),
        ((3, 1), (3,), (0,), (1, 1)),
        ((3,), (3, 1), (0,), (1,)),
        ((1, 4), (1, 4), (1,), (1, 1)),
    ],
)
def test_axes_that_a_pattern_joins_or_parts_are_summed_together(shape, sizes, reduced, expected):
    x = normal(*shape)
    with rank_of(0, 1) as mesh:
        found, _ = sum_shards(shared_out(x, mesh, [Shard(0)]), sizes, reduced)
    axes = [axis for axis, (old, new) in enumerate(zip(shape, expected, strict=True)) if old != new]
    torch.testing.assert_close(found, x.abs().sum(axes, keepdim=True) if axes else x.abs())


def test_uneven_and_empty_parts_add_up():
    x, added = normal(4, 2).float(), []
    for rank in range(3):  # of 2, 2 and no rows
        with rank_of(rank, 3) as mesh:
            added.append(sum_shards(shared_out(x, mesh, [ROWS]), (4, 2), (1,))[0])
    assert [tensor.count_nonzero().item() for tensor in added] == [2, 2, 0]
    assert added[0].dtype == torch.float32
    torch.testing.assert_close(sum(added), x.abs().sum(1, keepdim=True))


@pytest.mark.parametrize("placements", [(ROWS, COLUMNS), (ROWS, WHOLE), (WHOLE, COLUMNS), (WHOLE, WHOLE)])
def test_ranks_talk_along_those_axes_of_a_mesh_that_share_a_tensor_out(monkeypatch, placements):
    talked, x, added = [], normal(4, 6), torch.zeros(4, 1, dtype=torch.float64)
    monkeypatch.setattr(dist, "all_reduce", lambda _, group: talked.append(dist.get_process_group_ranks(group)))
    for rank in range(4):
        with rank_of(rank, 2, 2) as mesh:
            added += sum_shards(shared_out(x, mesh, placements), (4, 6), (1,))[0]
    along = [[[0, 2], [1, 3], [0, 2], [1, 3]], [[0, 1], [0, 1], [2, 3], [2, 3]]]
    sharded = [axis for axis in (0, 1) if placements[axis] is not WHOLE]
    assert talked == [along[axis][rank] for rank in range(4) for axis in sharded]
    torch.testing.assert_close(added / 2 ** (2 - len(sharded)), x.abs().sum(1, keepdim=True))


def test_a_part_begins_where_its_rank_s_entries_do():
    x = torch.arange(24.0).reshape(4, 6)
    with rank_of(3, 2, 2) as mesh:
        tensor = shared_out(x, mesh, (ROWS, COLUMNS))
        part, start = part_of(tensor)
        assert is_sharded(tensor)
        assert start == (2, 3)
        torch.testing.assert_close(part, x[2:, 3:])
        torch.testing.assert_close(put_together(part, start, (4, 6), tensor)[2:, 3:], part)
    assert not is_sharded(x)


def test_gradients_still_to_be_added_up_are_first():
    with rank_of(0, 2, 2) as mesh:
        x = normal(2, 6)
        tensor = DTensor.from_local(x, mesh, (Partial(), COLUMNS), run_check=False, shape=(2, 12), stride=(12, 1))
        found, _ = sum_shards(tensor, (2, 12), (0,))
        torch.testing.assert_close(found, torch.cat([x.abs().sum(0, keepdim=True), torch.zeros(1, 6)], dim=1).double())
        with pytest.raises(ValueError, match=r"a tensor of shape \(2, 12\) is sharded in a way that is not known"):
            part_of(tensor)


def test_no_entries_are_no_sum():
    with rank_of(0, 2) as mesh:
        found, sizes = sum_shards(shared_out(torch.ones(0, 6), mesh, [COLUMNS]), (0, 6), (0,))
    assert (tuple(found.shape), sizes) == ((0, 6), (0, 6))


def test_an_array_that_is_not_sharded_is_left_to_others():
    x = torch.ones(2, 3)
    assert sum_shards(x, (2, 3), (1,)) == (x, (2, 3))
