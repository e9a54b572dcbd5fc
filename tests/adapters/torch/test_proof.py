"""What the proof of a group must see: one copy that reads another, masked outputs, gates beside a norm, slots."""

from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import layout_of

X = torch.zeros(8, 5)


class Agents(nn.Module):
    """Three agents with weights of their own, each of which may hear the mean of all messages, or its neighbour's."""

    def __init__(self, hears):
        super().__init__()
        torch.manual_seed(0)
        self.hears, inputs = hears, 8 if hears == "itself" else 16
        for name, *shape in (
            ("a_weight", 3, 5, 8),
            ("a_bias", 3, 1, 8),
            ("b_weight", 3, inputs, 2),
            ("b_bias", 3, 1, 2),
        ):
            self.register_parameter(name, nn.Parameter(0.3 * torch.randn(*shape)))

    def forward(self, x):
        h = torch.relu(x @ self.a_weight + self.a_bias)
        heard = {"itself": [h], "all": [h, h.mean(0, keepdim=True).expand_as(h)], "neighbour": [h, h.roll(1, 0)]}
        return torch.cat(heard[self.hears], -1) @ self.b_weight + self.b_bias


def stacked_layers(name, params):
    layer, _, kind = name.rpartition("_")
    if kind != "weight":
        return None
    return na.dense(layer, weight=(name, "stack in neuron"), unscored=[(f"{layer}_bias", "stack one neuron")])


@pytest.mark.parametrize("hears", ["itself", "all", "neighbour"])
def test_copies_that_read_one_another_are_not_exclusive(hears):
    group = layout_of(Agents(hears), torch.zeros(3, 6, 5), rule=stacked_layers)["a"]
    if hears == "itself":
        assert group.status == "exclusive"
    else:
        assert (group.status, group.reason) == ("unproved", "its copies feed one another")


class Masked(nn.Module):
    """Features over their size, which has no gradient, and an output of which one entry is masked."""

    def __init__(self, fill, *, detached=True):
        super().__init__()
        self.enc, self.out, self.fill, self.detached = nn.Linear(5, 16), nn.Linear(16, 4), fill, detached

    def forward(self, x):
        h = torch.relu(self.enc(x))
        if self.detached:
            h = h / (1e-3 + h.detach().abs().mean(-1, keepdim=True))
        return self.out(h).masked_fill(torch.tensor([False, False, False, True]), self.fill)


@pytest.mark.parametrize("fill", [0.0, -1e8, torch.finfo(torch.float32).min, -torch.inf])
def test_a_masked_output_does_not_hide_others(fill):
    group = layout_of(Masked(fill), X)["enc"]
    assert (group.status, group.reason) == ("unproved", "reaches the output on a path without gradient")
    assert layout_of(Masked(fill, detached=False), X)["enc"].status == "exclusive"


class Gated(nn.Module):
    """A gate that reads what a norm without shifts reads, and multiplies what it puts out."""

    def __init__(self, *, gated):
        super().__init__()
        self.a, self.norm, self.out = nn.Linear(5, 16), nn.RMSNorm(16), nn.Linear(16, 2)
        self.gate = nn.Linear(16, 16) if gated else None

    def forward(self, x):
        h = torch.relu(self.a(x))
        return self.out(self.norm(h) * (torch.sigmoid(self.gate(h)) if self.gate else 1.0))


def test_a_gate_beside_a_norm_is_fed_too():
    assert layout_of(Gated(gated=False), X)["a"].status == "through_norm"
    assert layout_of(Gated(gated=True), X)["a"].status == "unproved"


@dataclass(slots=True)
class State:
    hidden: torch.Tensor


class Slotted(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.out = nn.Linear(5, 16), nn.Linear(16, 2)

    def forward(self, x):
        h = torch.relu(self.enc(x))
        return self.out(h), State(h)


def test_an_output_in_slots_is_an_output():
    assert layout_of(Slotted(), X)["enc"].status == "head"


class Noisy(nn.Module):
    """Adds noise from a generator of its own, and keeps what it has seen."""

    def __init__(self, generator):
        super().__init__()
        self.enc, self.out, self.generator, self.seen = nn.Linear(5, 16), nn.Linear(16, 2), generator, deque(maxlen=3)

    def forward(self, x):
        y = self.out(torch.relu(self.enc(x)))
        self.seen.append(y.detach())
        if isinstance(self.generator, torch.Generator):
            return y + 0.1 * torch.randn(y.shape, generator=self.generator)
        return y + 0.1 * torch.as_tensor(self.generator.normal(size=y.shape), dtype=y.dtype)


@pytest.mark.parametrize("kind", [torch.Generator, np.random.default_rng, np.random.RandomState])
def test_a_generator_of_the_model_is_left_as_it_was(kind):
    def draw(generator):
        return torch.randn(4, generator=generator) if kind is torch.Generator else generator.normal(size=4)

    generator, same = (torch.Generator().manual_seed(3) if kind is torch.Generator else kind(3) for _ in range(2))
    model = Noisy(generator)
    assert layout_of(model, X)["enc"].status == "exclusive"
    assert model.generator is generator
    assert not model.seen
    np.testing.assert_array_equal(draw(generator), draw(same))


class Reader(nn.Linear):
    """Reads with some function of its weights."""

    def __init__(self, function):
        super().__init__(16, 2)
        self.function = function

    def forward(self, x):
        return nn.functional.linear(x, self.function(self.weight), self.bias)


@pytest.mark.parametrize(
    ("function", "status"),
    [(torch.abs, "unproved"), (torch.square, "unproved"), (torch.relu, "unproved"), (torch.tanh, "exclusive")],
)
def test_weights_that_never_leave_zero_are_not_set_to_zero(function, status):
    group = layout_of(nn.Sequential(nn.Linear(5, 16), nn.ReLU(), Reader(function)), X)["0"]
    assert group.status == status
    assert ("never learn again" in group.reason) == (status == "unproved")
