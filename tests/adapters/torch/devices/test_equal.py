"""A run on several ranks does what the same run does on one device, on every rank."""

import itertools

import pytest
import torch

from tests.adapters.torch.devices.cells import train_all
from tests.adapters.torch.devices.worlds import in_world, on_cpus

QUICK = [
    {"how": "ddp", "method": "redo"},
    {"how": "bare", "method": "regrama", "optimizer": "sgd"},
    {"how": "no_sync", "method": "regrama"},
    {"how": "static", "method": "redo", "optimizer": "sgd"},
    {"how": "fsdp", "method": "regrama", "optimizer": "adamw"},
    {"how": "fsdp", "model": "uneven", "method": "redo", "initializer": "snapshot"},
    {"how": "tensor", "method": "redo"},
    {"how": "tensor", "model": "uneven", "method": "regrama", "outgoing": "small"},
    {"how": "mesh1", "method": "regrama"},
    {"how": "mesh2", "method": "redo"},
]
OPTIONS = [{"initializer": "snapshot"}, {"outgoing": "small"}, {"outgoing": "fresh"}, {"batches": 2}, {"clock": "run"}]
OPTIONS += [{"max_fraction": 0, "lowest": None, "layout": None}, {"check_ranks": True}]
SHARDED = ("fsdp", "mesh1", "mesh2", "hybrid")
MODELS = {
    **{how: ["even"] for how in ("ddp", "bare", "no_sync", "static", "looked_at", "columns", "mesh1", "hybrid")},
    "fsdp": ["even", "uneven", "conv", "recurrent"],
    "tensor": ["even", "uneven"],
    "mesh2": ["even", "uneven"],
}


def assert_same(found, expected, *, exact: bool) -> None:
    """Compare tensors by name."""
    assert found.keys() == expected.keys()
    for name, value in found.items():
        limits = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-4, "atol": 2e-5}
        torch.testing.assert_close(value, expected[name], equal_nan=True, **limits, msg=lambda m, n=name: f"{n}: {m}")


def check(cell, alone, ranks) -> None:
    """Compare what ranks did with each other, to the bit, and with a run on one device."""
    texts = [outcome for outcome in (alone, *ranks) if isinstance(outcome, str)]
    assert not texts, texts
    assert len(alone.masks) == 2 or cell.get("steps")
    for rank in ranks:
        assert rank.counts == alone.counts
        for k in range(len(alone.masks)):
            assert_same(rank.masks[k], alone.masks[k], exact=True)
            assert_same(rank.scores[k], alone.scores[k], exact=False)
            assert_same(rank.written[k], alone.written[k], exact=cell.get("outgoing") != "small")
            for found, first in zip(rank[:3], ranks[0][:3], strict=True):
                assert_same(found[k], first[k], exact=True)
        for found, first, expected in zip(rank[3:5], ranks[0][3:5], alone[3:5], strict=True):
            assert_same(found, first, exact=True)
            assert_same(found, expected, exact=False)


def alone(cells):
    return train_all([{**cell, "how": "alone"} for cell in cells])


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    cells = [{"steps": 4, **cell} for cell in QUICK]
    return list(zip(cells, alone(cells), *in_world(train_all, tmp_path_factory.mktemp("world"), cells), strict=True))


@pytest.mark.counts(cells=1, ranks=2)
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=on_cpus if cell["how"] in SHARDED else (), id=" ".join(map(str, cell.values())))
        for number, cell in enumerate(QUICK)
    ],
)
def test_two_ranks_do_what_one_device_does(quick, number):
    cell, expected, *ranks = quick[number]
    check(cell, expected, ranks)
    assert sum(mask.sum() for masks in expected.masks for mask in masks.values()) > 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "number"),
    [
        pytest.param(how, 4 if how == "hybrid" else 2, marks=pytest.mark.counts(cells=6 * len(models) + 7, ranks=2))
        for how, models in MODELS.items()
    ]
    + [pytest.param("mesh2", 4, marks=pytest.mark.counts(cells=19, ranks=4))],
)
def test_all_methods_optimizers_and_options(how, number, tmp_path):
    every = itertools.product(MODELS[how], ["regrama", "redo"], ["sgd", "adam", "adamw"])
    cells = [{"model": model, "method": method, "optimizer": name} for model, method, name in every] + OPTIONS
    cells = [{"how": how, "steps": 4, **cell} for cell in cells]
    ranks = in_world(train_all, tmp_path, cells, ranks=number)
    for cell, expected, *found in zip(cells, alone(cells), *ranks, strict=True):
        check(cell, expected, found)


@pytest.mark.slow
@pytest.mark.counts(cells=6, ranks=2)
def test_a_transformer_with_a_residual_stream_and_normalisations(tmp_path):
    cells = [
        {"how": how, "model": "vit", "method": method, "optimizer": "sgd", "steps": 4}
        for how in ("fsdp", "tensor", "mesh2")
        for method in ("regrama", "redo")
    ]
    for cell, expected, *found in zip(cells, alone(cells), *in_world(train_all, tmp_path, cells), strict=True):
        check(cell, expected, found)


@pytest.mark.slow
@pytest.mark.counts(cells=14, ranks=2)
def test_other_ways_to_replicate_and_to_shard(tmp_path):
    """Where gradients are rounded before they are added up, ranks do the same as each other, not as one device."""
    hows = ("buckets", "unused", "replicate", "rounded", "kept", "offloaded", "bfloat16")
    cells = [{"how": how, "method": method, "steps": 4} for how in hows for method in ("regrama", "redo")]
    for cell, expected, *found in zip(cells, alone(cells), *in_world(train_all, tmp_path, cells), strict=True):
        check(cell, found[0] if cell["how"] in ("rounded", "bfloat16") else expected, found)


KINDS = [{"method": "redo"}, {"method": "regrama", "initializer": "snapshot"}]


@pytest.mark.slow
@on_cpus
@pytest.mark.counts(cells=8, ranks=2)
def test_a_run_that_is_moved_to_more_or_fewer_ranks_goes_on_with_the_same_draws(tmp_path_factory):
    """Each half has four steps and two resets, and reset entries go by their own clock when it is moved."""
    cells, spread = [{"steps": 4, "model": "uneven", **kind} for kind in KINDS], ("ddp", "fsdp", "mesh2")
    whole = [
        outcome._replace(**{n: getattr(outcome, n)[2:] for n in ("scores", "masks", "written")})
        for outcome in alone([{**cell, "steps": 8} for cell in cells])
    ]
    first = alone([{**cell, "saved": True} for cell in cells])
    saved = [{**cell, "how": "fsdp", "saved": True} for cell in cells]
    moved = [{**cell, "how": how, "state": first[k].state} for how in spread for k, cell in enumerate(cells)]
    ranks = list(zip(*in_world(train_all, tmp_path_factory.mktemp("world"), saved + moved), strict=True))
    back = [{**cell, "state": rank.state} for cell, (rank, _) in zip(cells, ranks, strict=False)]
    for number, outcomes in enumerate([*ranks[2:], *[(outcome,) for outcome in alone(back)]]):
        check(cells[number % 2], whole[number % 2], outcomes)
        assert outcomes[0].counts[2] == 4
