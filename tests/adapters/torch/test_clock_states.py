"""Entries that go by their own clock are part of what a resumed run is given."""

import copy
import io

import pytest
import torch

from neuroactivity.wrapping.clock import YOUNG
from tests.adapters.torch.clocks import OPTIMIZERS, Run, young


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
    "something else": 3,
}


@pytest.mark.parametrize("clock", WRONG.values(), ids=WRONG)
def test_a_wrong_clock_is_refused_and_nothing_is_set(clock):
    run = young()
    with pytest.raises(ValueError, match=r"^state: clock"):
        run.resetter.load_state_dict({**run.resetter.state_dict(), "steps": 99, "clock": clock})
    assert run.resetter.steps == 9
