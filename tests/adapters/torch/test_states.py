"""What a resumed run is given, and copies of wrappers."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import optim

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa, layout_of
from tests.adapters.torch.models import X, mlp, step

LAYOUT = layout_of(mlp(), X)


def attached(initializer="snapshot", optimizer=optim.Adam, **options):
    model = mlp()
    trained = optimizer(model.parameters())
    options = {"layout": LAYOUT, "every": 1, "tau": 0.5, **options}
    regrama = ReGraMa(model, trained, initializer=initializer, **options)
    step(model, trained, X)
    return regrama


def same(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


BAD = {
    "negative": {"steps": -5},
    "fraction": {"measurements": 2.7},
    "text": {"neurons_reset": "12"},
    "truth": {"resets": True},
    "nothing": {"steps": None},
    "more measurements than steps": {"steps": 3, "measurements": 4},
    "more resets than measurements": {"resets": 5},
    "no neuron reset": {"neurons_reset": 0},
    "snapshot of another shape": {
        "snapshot": {n: torch.zeros(3) for n in ("0.weight", "0.bias", "2.weight", "2.bias")}
    },
    "snapshot of another dtype": {"snapshot": {n: v.double() for n, v in mlp().state_dict().items()}},
    "snapshot of something else": {"snapshot": [1, 2]},
    "snapshot of too little": {"snapshot": {"0.weight": torch.zeros(16, 5)}},
    "snapshot of too much": {"snapshot": {**mlp().state_dict(), "9.weight": torch.zeros(2)}},
    "snapshot that is not finite": {"snapshot": {n: v * torch.nan for n, v in mlp().state_dict().items()}},
    "no snapshot": {"snapshot": None},
    "no layout": {"layout": {"groups": [{"name": 3}]}},
    "another layout": {"layout": na.Layout([LAYOUT["0"]]).to_dict()},
    "another key": {"loss": 0.5},
    "history of no group": {"since": {"9": torch.zeros(16, dtype=torch.int32)}},
    "history of another shape": {"since": {"0": torch.zeros(3, dtype=torch.int32)}},
    "history of another dtype": {"since": {"0": torch.zeros(16)}},
    "history before the start": {"since": {"0": torch.full((16,), -1, dtype=torch.int32)}},
    "sums below zero": {"sums": {"0": -torch.ones(16)}, "batches": {"0": 1}},
    "sums of another shape": {"sums": {"0": torch.zeros(1, 16)}},
    "sums of another dtype": {"sums": {"0": torch.zeros(16, dtype=torch.int32)}},
    "sums of something else": {"sums": [1.0]},
    "a number of batches without a sum": {"batches": {"0": 1}},
    "a sum without a number of batches": {"sums": {"0": torch.zeros(16)}},
    "a sum of no batch": {"sums": {"0": torch.zeros(16)}, "batches": {"0": 0}},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_a_state_that_is_wrong_anywhere_is_refused_and_nothing_is_set(change):
    regrama = attached()
    good = copy.deepcopy(regrama.state_dict())
    assert good["resets"] == 1
    with pytest.raises(ValueError, match=r"^state: "):
        regrama.load_state_dict({**good, "steps": 7, **change})
    assert same(regrama.state_dict(), good)


def test_what_is_no_state_is_refused():
    with pytest.raises(ValueError, match=r"state: expected the keys .* got int"):
        attached().load_state_dict(5)


def test_numpys_whole_numbers_are_numbers():
    regrama = attached()
    regrama.load_state_dict({**regrama.state_dict(), "steps": np.int64(9)})
    assert regrama.steps == 9
    assert type(regrama.steps) is int


@pytest.mark.parametrize("missing", [["layout"], ["layout", "score", "since", "sums", "batches", "clock"]])
def test_a_state_of_an_older_version_has_less(missing):
    regrama = attached()
    state = {key: value for key, value in regrama.state_dict().items() if key not in missing}
    regrama.load_state_dict({**state, "steps": 7})
    assert regrama.steps == 7
    assert bool(regrama.state_dict()["since"]) is ("since" in state)


def test_a_wrapper_that_only_measures_resets_nothing_whatever_state_it_is_given():
    measuring = attached(initializer="layer", max_fraction=0)
    measuring.load_state_dict({**attached().state_dict(), "snapshot": None})
    counted = measuring.neurons_reset
    step(measuring.model, measuring.optimizer, X)
    assert measuring.neurons_reset == counted
    assert measuring.last_report.total.reset == 0


@pytest.mark.parametrize("clock", ["own", "run"])
def test_entries_that_go_by_their_own_clock_are_in_the_state(clock):
    assert bool(attached("layer", clock=clock).state_dict()["clock"]) is (clock == "own")


def test_a_state_shares_no_memory_with_the_wrapper():
    regrama = attached()
    state = regrama.state_dict()
    start = state["snapshot"]["0.weight"].clone()
    state["snapshot"]["0.weight"].zero_()
    assert torch.equal(regrama.state_dict()["snapshot"]["0.weight"], start)
    saved = regrama.state_dict()
    regrama.load_state_dict(saved)
    saved["snapshot"]["0.weight"].zero_()
    assert torch.equal(regrama.state_dict()["snapshot"]["0.weight"], start)


def test_a_resumed_run_takes_its_layout_from_the_state_and_does_not_search(monkeypatch):
    file = io.BytesIO()
    torch.save(attached("layer").state_dict(), file)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    monkeypatch.setattr("neuroactivity_torch.attaching.layout_of", None)
    regrama = attached("layer", layout=na.Layout.from_dict(state["layout"]))
    regrama.load_state_dict(state)
    assert regrama.layout == LAYOUT


@pytest.mark.parametrize("optimizer", [optim.Adam, optim.Rprop, optim.Adagrad])
@pytest.mark.parametrize("initializer", ["layer", lambda key: mlp().state_dict()])
def test_a_wrapper_can_be_pickled_and_copied_without_its_hook(optimizer, initializer):
    regrama = attached(initializer, optimizer, on_report=lambda report: None, tau=0.0)
    file = io.BytesIO()
    torch.save(regrama, file)
    copies = [pickle.loads(pickle.dumps(regrama)), copy.deepcopy(regrama), copy.copy(regrama)]
    for twin in [*copies, torch.load(io.BytesIO(file.getvalue()), weights_only=False)]:
        assert same(twin.state_dict(), regrama.state_dict())
        assert (twin.tau, twin.layout, twin.last_report) == (0.0, LAYOUT, regrama.last_report)
        twin.detach()
    assert len(regrama.optimizer._optimizer_step_post_hooks) == 1
    assert not copies[0].optimizer._optimizer_step_post_hooks
    assert regrama.on_report is not None


def test_a_copy_of_redo_has_lost_its_probe():
    model = mlp()
    redo = ReDo(model, optim.Adam(model.parameters()), layout=LAYOUT, probe=lambda: X)
    assert pickle.loads(pickle.dumps(redo)).state_dict() == redo.state_dict()


def test_measuring_needs_no_example_inputs():
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    regrama = ReGraMa(model, optimizer, max_fraction=0, every=1)
    step(model, optimizer, X)
    assert {group.name: group.status for group in regrama.last_report.groups} == dict.fromkeys(
        ("0", "2", "4"), "listed"
    )


def test_resetting_needs_example_inputs_or_a_layout_that_was_searched():
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        na.LayoutError, match=r"example_inputs: what the model is called with is needed .* max_fraction=0"
    ):
        ReGraMa(model, optimizer)
    with pytest.raises(na.LayoutError, match="layout: its groups are listed and not searched"):
        ReGraMa(model, optimizer, layout=layout_of(model))
    with pytest.raises(
        na.LayoutError, match="example_inputs: what the model is called with is needed to find its layout"
    ):
        ReDo(model, optimizer, probe=lambda: X, max_fraction=0)
    assert not optimizer._optimizer_step_post_hooks
