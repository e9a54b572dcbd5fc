"""Entries of tensors, by index, however the tensors lie in memory."""

import numpy as np
import pytest
import torch
from torch.distributed.tensor import Shard

import neuroactivity as na
from neuroactivity.wrapping import written_rows
from neuroactivity_torch.rows import locate, overwrite_entries
from tests.neuroactivity.arrays.ranks import rank_of, shared_out
from tests.neuroactivity.cases import CASES, CONV_TORCH, draw

ORDERS = {
    "in order": lambda x: x.clone(),
    "turned round": lambda x: (
        x.permute(*reversed(range(x.ndim)))
        .clone(memory_format=torch.contiguous_format)
        .permute(*reversed(range(x.ndim)))
    ),
    "with gaps": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "channels last": lambda x: x.clone(memory_format=torch.channels_last) if x.ndim == 4 else x.clone(),
}


def of_case(case, seed=5):
    """Parameters, fresh ones, masks, and the rows that a reset writes."""
    params, fresh = [{n: torch.tensor(x) for n, x in draw(case.shapes, s).items()} for s in (seed, seed + 1)]
    generator = np.random.default_rng(seed)
    masks = {name: torch.tensor(generator.random(shape) < 0.5) for name, shape in case.scores.items()}
    shapes = {name: tuple(value.shape) for name, value in params.items()}
    rows = written_rows({name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}, case.layout, shapes)
    return params, fresh, masks, rows


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_entries_are_read_and_written_where_a_reset_writes(case, order):
    params, fresh, masks, rows = of_case(case)
    expected = na.reset(params, fresh, masks, case.layout)
    params = {name: ORDERS[order](value) for name, value in params.items()}
    places = {name: value.data_ptr() for name, value in params.items()}
    for each, entries in locate(rows, params):
        value = 0.0 if each.role == "outgoing" else entries.read(ORDERS[order](fresh[each.view.param]))
        entries.write(params[each.view.param], value)
        assert torch.equal(entries.read(params[each.view.param]), entries.zeros(params[each.view.param]) + value)
    for name, value in params.items():
        assert torch.equal(value, expected[name])
        assert value.data_ptr() == places[name]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_their_flat_places_are_those_of_a_flat_tensor(case):
    params, _, _, rows = of_case(case)
    for each, entries in locate(rows, params):
        value = params[each.view.param]
        assert torch.equal(value.flatten()[entries.flat()], entries.read(value).flatten())


def test_what_was_written_is_put_back_when_a_write_fails():
    params, _, _, rows = of_case(CONV_TORCH)
    before = {name: value.clone() for name, value in params.items()}
    writes = [(params[each.view.param], entries, 7.0) for each, entries in locate(rows, params)]
    with pytest.raises(RuntimeError):
        overwrite_entries([*writes, (torch.zeros(1), writes[0][1], 7.0)])
    assert all(torch.equal(value, before[name]) for name, value in params.items())
    overwrite_entries(writes)
    assert all(bool((entries.read(tensor) == 7.0).all()) for tensor, entries, _ in writes)


@pytest.mark.counts(cells=len(CASES), ranks=2)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_rank_reads_and_writes_its_part_of_a_sharded_tensor(case):
    params, fresh, masks, rows = of_case(case)
    expected, read = na.reset(params, fresh, masks, case.layout), [0.0] * len(rows)
    for rank in range(2):
        with rank_of(rank, 2) as mesh:
            held = {name: shared_out(value.clone(), mesh, [Shard(0)]) for name, value in params.items()}
            found = [(each, entries, held[each.view.param]) for each, entries in locate(rows, params)]
            read = [before + entries.read(own) for before, (_, entries, own) in zip(read, found, strict=True)]
            for each, entries, own in found:
                old, before = entries.take(own), own.to_local().clone()
                entries.write(own, 7.0)
                entries.put(own, old)
                assert torch.equal(own.to_local(), before)
                entries.write(own, 0.0 if each.role == "outgoing" else entries.read(fresh[each.view.param]))
            for name, own in held.items():
                assert torch.equal(own.to_local(), shared_out(expected[name], mesh, [Shard(0)]).to_local())
    for total, (each, entries) in zip(read, locate(rows, params), strict=True):
        assert torch.equal(total, entries.read(params[each.view.param]))
