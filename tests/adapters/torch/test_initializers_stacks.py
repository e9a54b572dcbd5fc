"""Fresh values of stacks: several layers in one, of which an initialiser may know or not."""

import math

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch.initializers import FreshValues


def fresh_values(model, layout):
    return FreshValues(model, layout, "layer", seed=0)


class Members(nn.Module):
    """Four two-layer networks in one, whose stacked weights stand in PyTorch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(100, 50), nn.Linear(50, 1)
        for layer, (outputs, inputs) in ((self.first, (50, 100)), (self.last, (1, 50))):
            bound = 1 / math.sqrt(inputs)
            layer.weight = nn.Parameter(torch.empty(4, outputs, inputs).uniform_(-bound, bound))
            layer.bias = nn.Parameter(torch.zeros(4, outputs))

    def forward(self, x):
        hidden = torch.relu(torch.einsum("bi,eoi->ebo", x, self.first.weight) + self.first.bias[:, None])
        return torch.einsum("ebi,eoi->ebo", hidden, self.last.weight) + self.last.bias[:, None]

    @staticmethod
    def layout(first="first"):
        return na.Layout(
            [
                na.dense(
                    first,
                    weight=(f"{first}.weight", "stack neuron in"),
                    bias=(f"{first}.bias", "stack neuron"),
                    outgoing=[("last.weight", "stack out neuron")],
                    activation="stack ... neuron",
                )
            ]
        )


def test_stacked_weights_under_a_layer_of_pytorch_are_drawn_member_by_member():
    drawn = fresh_values(Members(), Members.layout()).draw(1, ["first.weight", "first.bias"])
    assert drawn["first.weight"].shape == (4, 50, 100)
    for values_ in [*drawn["first.weight"], *drawn["first.bias"]]:
        assert 0.8 * 0.1 < values_.abs().max() <= 0.1
    assert len({float(member.sum()) for member in drawn["first.weight"]}) == 4


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [
        ("neuron stack in", (50, 4, 100)),
        ("neuron ... stack", (50, 10, 10, 4)),
        ("neuron stack ...", (50, 4, 10, 10)),
    ],
)
def test_stacks_on_another_axis_are_drawn_member_by_member(pattern, shape):
    layer = nn.Linear(100, 50, bias=False)
    layer.weight = nn.Parameter(torch.zeros(shape))
    layout = na.Layout([na.dense("stack", weight=("weight", pattern))])
    drawn = fresh_values(layer, layout).draw(1, ["weight"])["weight"]
    assert drawn.shape == shape
    assert 0.099 < drawn.abs().max() <= 0.1
    assert drawn.select(shape.index(4), 0).std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)


def test_an_initialiser_that_knows_stacks_draws_them_whole():
    class Ensemble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.zeros(4, 3, 2)), nn.Parameter(torch.zeros(4, 3))

        def reset_parameters(self):
            nn.init.zeros_(self.bias)
            for member in self.weight:
                nn.init.orthogonal_(member)

    model = nn.ModuleDict({"first": Ensemble(), "last": nn.Linear(3, 1)})
    model["last"].weight = nn.Parameter(torch.zeros(4, 1, 3))
    drawn = fresh_values(model, Members.layout()).draw(1, ["first.weight"])["first.weight"]
    torch.testing.assert_close(drawn.mT @ drawn, torch.eye(2).expand(4, 2, 2))


@pytest.mark.parametrize("members", [4, 1])
def test_stacks_of_a_layer_that_does_not_draw_all_entries_alike_are_drawn_member_by_member(members):
    layer = nn.Embedding(10, 3, padding_idx=0)
    layer.weight = nn.Parameter(torch.zeros(10, members, 3))
    drawn = fresh_values(layer, na.Layout([na.dense("stack", weight=("weight", "in stack neuron"))])).draw(
        1, ["weight"]
    )
    assert drawn["weight"].shape == (10, members, 3)
    assert (drawn["weight"][0] == 0).all()
    assert len(drawn["weight"][1:].unique()) == 9 * members * 3
