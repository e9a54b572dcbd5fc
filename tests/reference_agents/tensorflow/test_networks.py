"""The TensorFlow networks: where they start, that they compute what PyTorch's do, and the layouts found in them."""

import numpy as np
import pytest
import torch

from reference_agents.config import Config
from reference_agents.tensorflow.networks import ACTIVATIONS, linear, network
from reference_agents.torch import networks as torch_networks
from tests.reference_agents.tensorflow.cases import agent_of, values
from tests.reference_agents.tensorflow.twins import as_torch


def build(*, depth, **settings):
    return network(Config(width=8, **settings), 4, 2, depth, seed=0)


def test_layers_start_as_pytorch_starts_them():
    layer = linear("layer1", 64, 500, seed=1)
    for value in (layer.kernel.numpy(), layer.bias.numpy()):
        assert 0.95 * 64**-0.5 < abs(value).max() <= 64**-0.5
        assert value.std() == pytest.approx(64**-0.5 / 3**0.5, rel=0.1)
        assert value.mean() == pytest.approx(0, abs=0.01)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["mlp", "bronet", "simba", "attention"])
def test_weights_differ_between_layers_and_seeds_and_never_between_equal_seeds(kind):
    config = Config(network=kind, width=8)
    once, again, other = (values(network(config, 8, 8, 2, seed)) for seed in (0, 0, 1))
    drawn = {name: value.tobytes() for name, value in once.items() if "norm" not in name}
    assert len(set(drawn.values())) == len(drawn)
    assert all(np.array_equal(once[name], again[name]) for name in once)
    assert not any(np.array_equal(once[name], other[name]) for name in drawn)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", ["mlp", "bronet"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_computes_what_pytorchs_does(kind, activation):
    ours = build(network=kind, activation=activation, depth=2)
    rng = np.random.default_rng(1)
    for variable in ours.variables:  # also scales and shifts, which start as one and zero
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))
    config = Config(width=8, network=kind, activation=activation)
    theirs = torch_networks.network(config, 4, 2, 2, torch.Generator())
    theirs.load_state_dict(as_torch(ours))
    inputs = 0.1 * rng.normal(size=(16, 4)).astype(np.float32)  # small, so that an epsilon would be seen
    expected = theirs(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_allclose(ours(inputs).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_normalisation_has_pytorchs_epsilon():
    bronet, attention = (build(network=kind, depth=1) for kind in ("bronet", "attention"))
    norms = [bronet.get_layer("norm"), bronet.get_layer("block1").norm1]
    norms += [attention.get_layer("norm"), attention.get_layer("block1").norm, attention.get_layer("attention1").norm]
    assert {layer.epsilon for layer in norms} == {1e-5}


def test_an_mlps_layout_is_proved():
    layout = agent_of("td3").activity._wrappers["inactive/critic1"].layout
    assert {name: group.status for name, group in layout.items()} == {
        "layer1": "exclusive",
        "layer2": "exclusive",
        "head": "head",
    }


@pytest.mark.slow
def test_a_bronets_layout_is_found():
    layout = agent_of("sac", network="bronet").activity._wrappers["inactive/actor"].layout
    assert {name.removeprefix("trunk/"): group.status for name, group in layout.items()} == {
        "layer": "through_norm",
        "norm": "shared",
        "block1/layer1": "through_norm",
        "block1/norm1": "exclusive",
        "block1/layer2": "through_norm",
        "block1/norm2": "shared",
        "mean": "head",
        "log_std": "head",
    }
    outgoing = {group.name: [view.param for view in group.outgoing] for group in layout.values() if group.outgoing}
    assert outgoing == {
        group: ["trunk/block1/layer2/kernel"] for group in ("trunk/block1/layer1", "trunk/block1/norm1")
    }
