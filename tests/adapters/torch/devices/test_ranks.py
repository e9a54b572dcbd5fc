"""What ranks communicate, what they notice of each other, and what is refused."""

import pytest
import torch

from neuroactivity_torch import ReGraMa
from tests.adapters.torch.devices import scenes
from tests.adapters.torch.devices.cells import layout_for
from tests.adapters.torch.devices.worlds import in_world, on_cpus
from tests.adapters.torch.models import mlp

pytestmark = on_cpus

SCENES = {
    "parts": (scenes.scores_of_parts, {}),
    "unsummed": (scenes.unsummed_gradients, {}),
    "ddp": (scenes.traffic, {"how": "ddp"}),
    "ddp redo": (scenes.traffic, {"how": "ddp", "redo": True}),
    "ddp checked": (scenes.traffic, {"how": "ddp", "check_ranks": True}),
    "fsdp": (scenes.traffic, {"how": "fsdp"}),
    "fsdp snapshot": (scenes.traffic, {"how": "fsdp", "initializer": "snapshot"}),
    "fsdp redo": (scenes.traffic, {"how": "fsdp", "redo": True}),
    "fsdp small": (scenes.traffic, {"how": "fsdp", "outgoing": "small"}),
    "tensor": (scenes.traffic, {"how": "tensor"}),
    "tensor small": (scenes.traffic, {"how": "tensor", "outgoing": "small"}),
    "own scores": (scenes.own_scores, {}),
    "refusals": (scenes.refusals, {}),
    "parted": (scenes.parted, {}),
    "loop": (scenes.custom_loop, {}),
}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    found = in_world(scenes.play, tmp_path_factory.mktemp("world"), SCENES)
    assert not any(isinstance(each, str) for each in found), found
    return found


@pytest.mark.slow
@pytest.mark.counts(cells=26, ranks=2)
def test_scores_of_sharded_gradients_are_those_of_whole_ones(ranks):
    for rank in ranks:
        assert len(rank["parts"]) == 26
        assert {name: off for name, off in rank["parts"] if off > 1e-6} == {}


@pytest.mark.counts(cells=1, ranks=2)
def test_gradients_that_are_still_to_be_added_up_over_ranks_are(ranks):
    assert max(rank["unsummed"] for rank in ranks) < 1e-5


@pytest.mark.counts(ranks=2)
def test_gradients_that_ddp_has_reduced_need_no_communication(ranks):
    assert ranks[0]["ddp"] == [[], [], [], [], [], []]


@pytest.mark.counts(ranks=2)
def test_redo_communicates_a_number_for_each_neuron_and_nothing_between_measurements(ranks):
    flag, sums = [1], [8 + 8 + 2 + 3]  # three groups, with the number of samples of each
    assert ranks[0]["ddp redo"] == [[], [], flag + sums, [], [], flag + sums]


@pytest.mark.counts(ranks=2)
def test_beside_the_forward_pass_of_its_probe_redo_communicates_no_more_under_fsdp(ranks):
    flag, sums = [1], [8 + 8 + 2 + 3]
    gathered = [8 * 5 + 8, 8 * 8 + 8, 2 * 8 + 2]  # the parameters of each layer, as in any forward pass
    assert ranks[0]["fsdp redo"] == 2 * [[], [], flag + gathered + sums]


@pytest.mark.counts(ranks=2)
def test_check_ranks_communicates_two_numbers_for_each_parameter(ranks):
    seen = ranks[0]["ddp checked"]
    assert [len(step) for step in seen] == [0, 0, 1, 0, 0, 1]
    assert seen[2] == [2 * (5 + 1)]  # five parameters are written; and the number of resets


@pytest.mark.counts(ranks=2)
@pytest.mark.parametrize(("how", "most"), [("fsdp", 3), ("tensor", 3), ("fsdp small", 5), ("tensor small", 5)])
def test_sharded_gradients_communicate_a_number_for_each_neuron(ranks, how, most):
    seen = ranks[0][how]
    assert [seen[k] for k in (0, 1, 3, 4)] == [[], [], [], []]
    assert seen[2] == seen[5]
    assert set(seen[2]) <= {8, 2}
    assert len(seen[2]) <= most


@pytest.mark.counts(ranks=2)
def test_a_sharded_snapshot_communicates_the_rows_that_are_drawn(ranks):
    seen = ranks[0]["fsdp snapshot"]
    assert [seen[k] for k in (0, 1, 3, 4)] == [[], [], [], []]
    assert sum(seen[2]) <= 8 + 8 + 2 + 2 * (5 + 1) + 2 * (8 + 1)


@pytest.mark.counts(cells=3, ranks=2)
def test_a_score_of_the_user_s_gets_whole_gradients_and_the_mean_over_ranks_counts(ranks):
    for rank in ranks:
        found = rank["own scores"]
        for one, other in (("fsdp", "bare"), ("tensor", "bare"), ("halves", "whole")):
            for name, score in found[one].items():
                torch.testing.assert_close(score, found[other][name], rtol=1e-4, atol=1e-6)
        assert found["another"].startswith("ValueError: score: expected the same on every rank")


@pytest.mark.counts(faults=12, ranks=2)
def test_what_cannot_be_right_is_refused_when_the_wrapper_is_made(ranks):
    for rank in ranks:
        found = rank["refusals"]
        assert "call layout_of before fully_shard" in found["search"]
        assert "call layout_of before fully_shard" in found["search of parts"]
        assert "is it the model's own optimizer" in found["optimizer made before"]
        assert "use torch.distributed.fsdp.fully_shard" in found["flat"]
        assert "optimizer ZeroRedundancyOptimizer is not known" in found["part of an optimizer"]
        assert found["seed"].startswith("ValueError: seed: expected the same on every rank")
        assert found["tau"].startswith("ValueError: options: expected the same on every rank")
        assert found["group"].startswith("ValueError: process_group: expected a group")
        assert found["check"].startswith("ValueError: check_ranks: expected")
        assert found["alone"] == "nothing was raised"
        assert found["initializer"].startswith("ValueError: initializer, snapshot: expected the same on every rank")
        assert found["snapshot"].startswith("ValueError: snapshot: expected the same on every rank; make it after Dist")


@pytest.mark.counts(faults=5, ranks=2)
def test_ranks_that_part_stop_with_the_parameter_s_name(ranks):
    for rank in ranks:
        assert "the ranks have parted, step 2: they differ in 2.weight" in rank["parted"]["value"]
        assert "they differ in 2.weight" in rank["parted"]["moment"]
        assert "0.weight" in rank["parted"]["draw"]
        assert "the number of resets" in rank["parted"]["draw"]
        assert rank["parted"]["steps"] == "0"
    assert ranks[0]["parted"]["probe"] == "RuntimeError: probe: it has failed on another rank"
    assert ranks[1]["parted"]["probe"] == "IndexError: the buffer is empty"
    for moment in ("model", "made"):
        assert ranks[0]["parted"][moment] == "RuntimeError: probe: it has failed on another rank"
        assert "shapes cannot be multiplied" in ranks[1]["parted"][moment]


@pytest.mark.counts(ranks=2)
def test_functions_for_custom_loops_take_a_wrapped_model(ranks):
    moments = ranks[0]["loop"]["0.weight"]
    assert moments[:3].count_nonzero() == 0
    assert moments[3:].count_nonzero() > 0


def test_check_ranks_does_nothing_in_a_process_that_is_alone():
    model = mlp(width=8)
    optimizer = torch.optim.Adam(model.parameters())
    wrapper = ReGraMa(model, optimizer, layout=layout_for("even"), every=1, lowest=0.25, check_ranks=True)
    scenes.backward(model)
    optimizer.step()
    assert wrapper.resets == 1
    with pytest.raises(ValueError, match="process_group"):
        ReGraMa(model, optimizer, layout=layout_for("even"), process_group=object())
