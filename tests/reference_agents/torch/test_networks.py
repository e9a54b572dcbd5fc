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


def scattered(net):
    """Give all parameters other values, also scales and shifts, which start as one and zero."""
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return net.state_dict()


def dense(values, name, x):
    return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]


def norm(values, name, x):
    return functional.layer_norm(x, x.shape[-1:], values[f"{name}.weight"], values[f"{name}.bias"])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_simba_computes_wide_residual_blocks(activation):
    net = build(network="simba", activation=activation, depth=2)
    shapes = [tuple(layer.weight.shape) for layer in net.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(8, 4), *[(32, 8), (8, 32)] * 2, (2, 8)]
    values, inputs = scattered(net), torch.randn(16, 4, generator=torch.Generator().manual_seed(2))
    stream = dense(values, "layer", inputs)
    for block in ("block1", "block2"):
        hidden = FUNCTIONS[activation](dense(values, f"{block}.layer1", norm(values, f"{block}.norm", stream)))
        stream = stream + dense(values, f"{block}.layer2", hidden)
    expected = dense(values, "head", norm(values, "norm", stream))
    torch.testing.assert_close(net(inputs), expected, rtol=1e-4, atol=1e-4)


def attend(values, name, tokens):
    """Compute the four heads of attention one by one, for one sample, (token, width)."""
    query, key, value = (dense(values, f"{name}.{part}", tokens).chunk(4, dim=1) for part in ("query", "key", "value"))
    weights = [torch.softmax(q @ k.T / q.shape[1] ** 0.5, 1) for q, k in zip(query, key, strict=True)]
    mixed = torch.cat([weight @ v for weight, v in zip(weights, value, strict=True)], 1)
    return dense(values, f"{name}.out", mixed)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_attention_computes_a_transformer_of_the_entries(activation):
    net = build(network="attention", activation=activation, depth=2)
    values, inputs = scattered(net), torch.randn(16, 4, generator=torch.Generator().manual_seed(2))
    features = []
    for sample in inputs:
        stream = sample[:, None] * values["tokens.slope.weight"] + values["tokens.intercept.weight"]
        assert stream.shape == (4, 8)
        for number in (1, 2):
            name, block = f"attention{number}", f"block{number}"
            stream = stream + attend(values, name, norm(values, f"{name}.norm", stream))
            hidden = FUNCTIONS[activation](dense(values, f"{block}.layer1", norm(values, f"{block}.norm", stream)))
            assert hidden.shape == (4, 16)
            stream = stream + dense(values, f"{block}.layer2", hidden)
        features.append(norm(values, "norm", stream).mean(0))
    expected = dense(values, "head", torch.stack(features))
    torch.testing.assert_close(net(inputs), expected, rtol=1e-4, atol=1e-4)


def test_no_network_draws_from_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for kind in ("mlp", "bronet", "simba", "attention"):
        build(network=kind, depth=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["mlp", "bronet", "simba", "attention"])
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
