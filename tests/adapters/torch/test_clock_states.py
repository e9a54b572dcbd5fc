"""Entries that go by their own clock are part of what a resumed run is given."""

import copy
import io
import math
from functools import partial

import pytest
import torch
from torch import optim

from neuroactivity.wrapping.clock import YOUNG
from neuroactivity_torch import ReGraMa
from tests.adapters.torch.clocks import LAYOUT, OPTIMIZERS, Run, young
from tests.adapters.torch.models import X, mlp, step


@pytest.mark.parametrize("name", ["Adam", "Adam fused", "AMSGrad", "NAdam"])
def test_resumed_in_the_middle_equals_uninterrupted(name):
    def train(pause):
        run = Run(OPTIMIZERS[name][0], 7, torch.float32, protect=1)
        for number in range(23):
            if number == pause:
                file = io.BytesIO()
                parts = ("model", "optimizer", "schedule", "resetter")
                torch.save({part: getattr(run, part).state_dict() for part in parts}, file)
                state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
                run = Run(OPTIMIZERS[name][0], 7, torch.float32, protect=1)
                for part in parts:
                    getattr(run, part).load_state_dict(state[part])
            run.step(number)
        return run

    run, resumed = train(None), train(17)
    assert run.resetter.resets == 3
    for one, other in zip(run.params.values(), resumed.params.values(), strict=True):
        assert torch.equal(one, other)
        for key, value in run.optimizer.state[one].items():
            assert torch.equal(value, resumed.optimizer.state[other][key])


def test_a_state_shares_no_memory_with_the_clock():
    run = young()
    state = run.resetter.state_dict()
    run.resetter.load_state_dict(state)
    before = copy.deepcopy(run.resetter.state_dict()["clock"])
    for records in state["clock"].values():
        for record in records:
            record["index"].zero_()
            record["numbers"]["step"] = 99.0
    after = run.resetter.state_dict()["clock"]
    assert before.keys() == after.keys() == {"0.weight", "0.bias", "2.weight", "2.bias", "4.weight"}
    for name, records in before.items():
        for one, other in zip(records, after[name], strict=True):
            assert torch.equal(one["index"], other["index"])
            assert (one["age"], one["numbers"]) == (other["age"], other["numbers"])


WRONG = {
    "another parameter": {"9.weight": []},
    "no entries": {"0.bias": []},
    "an index outside": {"0.bias": [{"index": torch.tensor([16]), "age": 0, "numbers": {}}]},
    "an index twice": {"0.bias": [{"index": torch.tensor([3, 3]), "age": 0, "numbers": {}}]},
    "an index of another dtype": {"0.bias": [{"index": torch.tensor([1.0]), "age": 0, "numbers": {}}]},
    "too old": {"0.bias": [{"index": torch.tensor([3]), "age": YOUNG, "numbers": {"step": 1.0}}]},
    "without a count": {"0.bias": [{"index": torch.tensor([3]), "age": 2, "numbers": {}}]},
    "with a count that is not its age": {"0.bias": [{"index": torch.tensor([3]), "age": 2, "numbers": {"step": 3.0}}]},
    "with a count below zero": {"0.bias": [{"index": torch.tensor([3]), "age": 2, "numbers": {"step": -1.0}}]},
    "with a count that is no number": {
        "0.bias": [{"index": torch.tensor([3]), "age": 2, "numbers": {"step": math.nan}}]
    },
    "with another number that is none": {
        "0.bias": [{"index": torch.tensor([3]), "age": 2, "numbers": {"step": 2.0, "mu_product": math.inf}}]
    },
    "something else": 3,
}


@pytest.mark.parametrize("clock", WRONG.values(), ids=WRONG)
def test_a_wrong_clock_is_refused_and_nothing_is_set(clock):
    run = young()
    with pytest.raises(ValueError, match=r"^state: clock"):
        run.resetter.load_state_dict({**run.resetter.state_dict(), "steps": 99, "clock": clock})
    assert run.resetter.steps == 9


@pytest.mark.counts(faults=1)
def test_young_entries_that_another_optimizer_had_are_new_to_this_one():
    """NAdam keeps two numbers of a parameter, Adam one."""
    model, other = mlp(), mlp()
    adam, nadam = optim.Adam(model.parameters(), lr=0.01), optim.NAdam(other.parameters(), lr=0.01)
    first, second = [ReGraMa(m, o, layout=LAYOUT, tau=0.7, every=2) for m, o in ((model, adam), (other, nadam))]
    for _ in range(3):
        step(model, adam, X)
    step(other, nadam, X)
    second.load_state_dict(first.state_dict())
    before = other[0].weight.detach().clone()
    step(other, nadam, X)
    assert second.steps == 4
    assert (other[0].weight - before).abs().max() > 0


@pytest.mark.counts(faults=3)
@pytest.mark.parametrize(
    "other", [partial(optim.SGD, momentum=0.9), optim.RMSprop, optim.Adadelta], ids=["SGD", "RMSprop", "Adadelta"]
)
def test_an_optimizer_that_corrects_no_bias_needs_no_young_entries(other):
    """It is given those of Adam, and goes on as if it had not been."""
    model, ends = mlp(), []
    adam = optim.Adam(model.parameters())
    regrama = ReGraMa(model, adam, layout=LAYOUT, tau=0.7, every=2)
    for _ in range(3):
        step(model, adam, X)
    state = regrama.state_dict()
    assert state["clock"]
    for given in (state, {**state, "clock": {}}):
        model = mlp()
        optimizer = other(model.parameters(), lr=0.01)
        resumed = ReGraMa(model, optimizer, layout=LAYOUT, tau=0.7, every=1000)
        resumed.load_state_dict(given)
        assert resumed.state_dict()["clock"] == {}
        for _ in range(YOUNG + 2):
            step(model, optimizer, X)
        resumed.detach()
        ends.append(model[0].weight)
    assert torch.equal(*ends)


@pytest.mark.counts(faults=1)
def test_a_parameter_of_another_shape_has_no_young_entries():
    """What was young lies elsewhere in it, were it flat."""
    model = mlp()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    regrama = ReGraMa(model, optimizer, layout=LAYOUT, tau=0.7, every=2)
    for _ in range(2):
        step(model, optimizer, X)
    assert {"0.weight", "2.weight"} <= regrama.state_dict()["clock"].keys()
    for parameter, axis in ((model[0].weight, 0), (model[0].bias, 0), (model[2].weight, 1)):
        state = optimizer.state[parameter]
        parts = {"exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"], "": parameter.data}
        grown = {key: torch.cat([value, value.narrow(axis, 0, 1)], axis) for key, value in parts.items()}
        parameter.data, parameter.grad = grown.pop(""), None
        state |= grown
    step(model, optimizer, X)
    assert regrama.state_dict()["clock"].keys() & {"0.weight", "0.bias", "2.weight"} == set()
