"""Reports are made when read; what is warned of is counted for all groups at once, and is what the report counts."""

import pytest
import torch
from torch import optim

import neuroactivity as na
from neuroactivity_torch import ReGraMa, measurements
from neuroactivity_torch.measurements import Joined, Measurement, to_host
from tests.adapters.torch.models import X, mlp, step

LAYOUT = na.Layout(
    [
        na.dense("flat", weight=("a", "in neuron")),
        na.dense("stack", weight=("b", "stack in neuron")),
        na.dense("other", weight=("c", "in neuron")),
    ]
)


@pytest.mark.parametrize("seed", range(20))
def test_the_counts_are_those_of_the_report(seed):
    generator = torch.Generator().manual_seed(seed)

    def some(*shape):
        return torch.rand(shape, generator=generator) < 0.5

    scores = {"flat": torch.rand(5, generator=generator), "stack": torch.rand(3, 4, generator=generator)}
    scores["stack"][seed % 3] = 0.0
    scores["stack"][(seed + 1) % 3] = float("nan")
    scores["other"] = torch.zeros(6) if seed % 2 else torch.ones(6)
    masks, before = [{"flat": some(5), "stack": some(3, 4), "other": some(6)} for _ in range(2)]
    found = Measurement(LAYOUT, 0.5, scores, Joined.of(masks), Joined.of(before))
    report, total = found.report, found.report.total
    assert found.judged(without=()).alerts == report.alerts
    assert found.judged(without=["stack"]).alerts == {n: why for n, why in report.alerts.items() if n != "stack"}
    assert found.reset == {
        name: mask.flatten().nonzero().flatten().tolist() for name, mask in masks.items() if mask.any()
    }
    assert (found.total.reset, found.total.reset_again) == (total.reset, total.reset_again)


def test_a_group_that_is_not_measured_any_more_is_not_counted_again():
    scores, masks = {"other": torch.zeros(2)}, {"flat": torch.ones(3) > 0, "other": torch.ones(2) > 0}
    found = Measurement(LAYOUT, 0.5, scores, Joined.of(masks), Joined.of(masks))
    assert found.total.reset_again == found.report.total.reset_again == 2


def test_nothing_measured_is_nothing_to_tell():
    found = Measurement(LAYOUT, 0.5, {}, Joined.of({}), Joined.of({}))
    assert found.judged(without=()).groups == found.report.groups == ()
    assert found.reset == {}
    assert found.total.reset == found.total.reset_again == 0
    assert found.report.absent == ("flat", "stack", "other")


def test_a_report_is_made_when_it_is_read(monkeypatch):
    made, build = [], measurements.build_report
    monkeypatch.setattr(measurements, "build_report", lambda *args, **kw: made.append(1) or build(*args, **kw))
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1)
    step(model, optimizer, X)
    assert made == []
    assert regrama.last_report is regrama.last_report
    assert made == [1]
    regrama.on_report = [].append
    step(model, optimizer, X)
    assert made == [1, 1]


def test_tensors_are_copied_joined_and_parted_in_their_shapes():
    tensors = {"a": torch.rand(3), "b": torch.rand(2, 2), "c": torch.rand(2) < 0.5}
    assert all(torch.equal(value, tensors[name]) for name, value in to_host(tensors).items())
    both = {name: tensors[name] for name in "ab"}
    assert all(torch.equal(value, both[name]) for name, value in Joined.of(both).parts().items())
