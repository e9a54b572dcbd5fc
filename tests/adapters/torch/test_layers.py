"""Which layer has which groups, and what a user's rule says before them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import layout_of
from neuroactivity_torch.layers import list_groups
from tests.adapters.torch.models import X, mlp


def test_a_rule_is_asked_first_for_every_parameter():
    asked = []

    def rule(name, value):
        asked.append((name, tuple(value.shape)))

    assert list_groups(mlp(), rule=rule) == list_groups(mlp())
    assert asked == [(name, tuple(value.shape)) for name, value in mlp().named_parameters()]


def test_a_rule_overrides_a_known_layer():
    """The layer is known no more, and the groups stand in the order of the parameters."""

    def rule(name, value):
        return na.dense("mine", weight=(name, "neuron in"), bias="2.bias") if name == "2.weight" else None

    layout = layout_of(mlp(), X, rule=rule)
    plain = layout_of(mlp(), X)
    assert list(layout) == ["0", "mine", "4"]
    assert layout["mine"] == replace(plain["2"], name="mine")
    assert (layout["0"], layout["4"]) == (plain["0"], plain["4"])


def test_a_rule_is_not_asked_of_what_it_has_taken():
    asked = []

    def rule(name, value):
        asked.append(name)
        return na.dense("mine", weight=(name, "neuron in"), bias="0.bias") if name == "0.weight" else None

    assert [group.name for group in list_groups(mlp(), rule=rule)] == ["mine", "2", "4"]
    assert asked == ["0.weight", "2.weight", "2.bias", "4.weight", "4.bias"]


def test_a_rule_that_takes_a_fused_projection_takes_its_channels():
    model = nn.MultiheadAttention(8, 2)

    def rule(name, value):
        return na.dense("all", weight=(name, "neuron in")) if name == "in_proj_weight" else None

    assert [group.name for group in list_groups(model)] == ["query", "key", "value", "out_proj"]
    assert [group.name for group in list_groups(model, rule=rule)] == ["all", "out_proj"]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_neurons_of_attention(fused, bias):
    widths = {} if fused else {"kdim": 6, "vdim": 10}
    model = nn.MultiheadAttention(8, 2, bias=bias, **widths)
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    channels = list_groups(model)[:3]
    assert [group.name for group in channels] == ["query", "key", "value"]
    assert [group.bind(shapes).shape for group in channels] == [(8,)] * 3
    (heads, _) = list_groups(model, attention="heads")
    assert heads.bind(shapes).shape == (2,)
    assert len(heads.incoming) == (1 if fused else 3)
    assert [len(group.unscored) for group in (*channels, heads)] == [int(bias)] * 4
    grads = {name: torch.randn(shape) for name, shape in shapes.items()}
    weights = grads["in_proj_weight"].split(8) if fused else [grads[f"{part}_proj_weight"] for part in "qkv"]
    means = weights[1].abs().mean(dim=1)
    torch.testing.assert_close(na.grama(grads, na.Layout(channels))["key"], means / means.mean())
    sums = sum(weight.abs().reshape(2, -1).sum(dim=1) for weight in weights)
    torch.testing.assert_close(na.grama(grads, na.Layout([heads]))[heads.name], sums / sums.mean())
