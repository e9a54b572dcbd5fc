"""The PyTorch networks: their shapes, what they compute, where they start, and the layouts found in them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from neuroactivity_torch import layout_of
from reference_agents.config import Config
from reference_agents.torch.networks import ACTIVATIONS, linear, network
from reference_agents.torch.sac import Actor

FUNCTIONS = {
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "swish": functional.silu,
    "mish": functional.mish,
}


def build(*, depth, **settings):
    return network(Config(width=8, **settings), 4, 2, depth, torch.Generator().manual_seed(0))


def test_layers_start_as_pytorch_starts_them():
    torch.manual_seed(0)
    ours, theirs = linear(64, 500, torch.Generator().manual_seed(1)), nn.Linear(64, 500)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.shape == other.shape
        assert mine.abs().max() <= 64**-0.5
        torch.testing.assert_close(mine.std(), other.std(), rtol=0.1, atol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_mlp_has_the_depth_width_and_activation_asked_for(activation):
    net = build(activation=activation, depth=3)
    shapes = [tuple(layer.weight.shape) for layer in net if isinstance(layer, nn.Linear)]
    assert shapes == [(8, 4), (8, 8), (8, 8), (2, 8)]
    assert sum(isinstance(layer, ACTIVATIONS[activation]) for layer in net) == 3


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_bronet_has_as_many_blocks_as_asked_for(depth):
    net = build(network="bronet", depth=depth)
    shapes = [tuple(layer.weight.shape) for layer in net.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(8, 4), *[(8, 8)] * (2 * depth), (2, 8)]
    assert sum(isinstance(layer, nn.LayerNorm) for layer in net.modules()) == 1 + 2 * depth


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_bronet_computes_residual_blocks(activation):
    net, act = build(network="bronet", activation=activation, depth=2), FUNCTIONS[activation]
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():  # also scales and shifts, which start as one and zero
        nn.init.normal_(parameter, generator=generator)
    values = net.state_dict()

    def dense(x, name):
        return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(1, keepdim=True)
        scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return scaled * values[f"{name}.weight"] + values[f"{name}.bias"]

    inputs = torch.randn(16, 4, generator=generator)
    stream = act(norm(dense(inputs, "layer"), "norm"))
    for block in ("block1", "block2"):
        hidden = act(norm(dense(stream, f"{block}.layer1"), f"{block}.norm1"))
        stream = stream + norm(dense(hidden, f"{block}.layer2"), f"{block}.norm2")
    torch.testing.assert_close(net(inputs), dense(stream, "head"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["mlp", "bronet"])
def test_equal_generators_give_equal_networks(kind):
    once, again = (build(network=kind, depth=1).state_dict() for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_an_mlps_layout_is_proved():
    layout = layout_of(build(depth=2), torch.zeros(8, 4))
    assert {name: group.status for name, group in layout.items()} == {
        "layer1": "exclusive",
        "layer2": "exclusive",
        "head": "head",
    }


def test_a_bronets_layout_is_found():
    actor = Actor(Config(network="bronet", width=8), 4, 2, torch.Generator().manual_seed(0))
    layout = layout_of(actor, torch.zeros(8, 4))
    assert {name.removeprefix("trunk."): group.status for name, group in layout.items()} == {
        "layer": "through_norm",
        "norm": "shared",
        "block1.layer1": "through_norm",
        "block1.norm1": "exclusive",
        "block1.layer2": "through_norm",
        "block1.norm2": "shared",
        "mean": "head",
        "log_std": "head",
    }
    outgoing = {group.name: [view.param for view in group.outgoing] for group in layout.values() if group.outgoing}
    assert outgoing == {
        group: ["trunk.block1.layer2.weight"] for group in ("trunk.block1.layer1", "trunk.block1.norm1")
    }
