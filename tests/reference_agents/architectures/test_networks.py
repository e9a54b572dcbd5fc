"""An MLP with LayerNorm, SimBa and attention: their settings, what they compute, and where they start."""

import dataclasses

import numpy as np
import pytest
import torch

from reference_agents import config as constants
from reference_agents.commandline import parse
from reference_agents.config import PAPER_TAU, Config
from reference_agents.errors import UsageError
from reference_agents.torch import networks
from reference_agents.train import Command
from tests.reference_agents.architectures.cases import ALL, FRAMEWORKS, HEADS, INPUTS, WIDE, WIDTH, common

ACTIVATIONS = [pytest.param(name, marks=[pytest.mark.slow] * (name != "mish")) for name in networks.ACTIVATIONS]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def with_torchs_values(shapes, state):
    """Values of a PyTorch network in the names and shapes of another framework's."""
    values = {}
    for name, shape in shapes.items():
        value = state[common(name)].numpy()
        values[name] = (value.T if name.endswith("kernel") else value).reshape(shape).copy()
    assert sorted(map(common, values)) == sorted(state)
    return values


def test_defaults_are_simbas_own_and_those_of_an_mlp_for_others():
    simba, attention, normed = (Config(network=kind) for kind in ("simba", "attention", "mlp_layernorm"))
    assert normed == dataclasses.replace(Config(), network="mlp_layernorm", tau=0.01)
    assert (simba.width, simba.depth, simba.actor_depth, simba.batch_size, simba.replay_ratio) == (256, 2, 1, 256, 2)
    assert (simba.actor_lr, simba.critic_lr) == (1e-4, 1e-4)
    assert (attention.width, attention.depth, attention.actor_depth) == (64, 2, 1)
    assert (attention.batch_size, attention.replay_ratio) == (256, 1)
    assert (attention.actor_lr, attention.critic_lr) == (3e-4, 1e-3)
    assert parse(Command, ["--network", "attention", "--out", "runs/demo"], prog="train").config == attention
    given = {"width": 8, "critic_lr": 0.5}
    for kind in ALL:
        config = Config(network=kind, **given)
        assert {name: getattr(config, name) for name in given} == given
        assert Config(network=kind, **dict.fromkeys(given)) == Config(network=kind)
        assert Config.from_json(config.to_json()) == config
        for reset in ("none", "regrama", "redo"):
            assert Config(network=kind, reset=reset).tau == PAPER_TAU["bronet"][reset]


@pytest.mark.parametrize("width", [1, 6, 66])
def test_a_width_that_heads_cannot_share_is_refused(width):
    with pytest.raises(UsageError) as caught:
        Config(network="attention", width=width)
    assert str(caught.value) == f"width: expected a multiple of 4, the heads of attention, got {width}"
    assert Config(network="simba", width=width).width == width
    assert constants.HEADS == HEADS


def scattered(net, seed):
    """Give all parameters other values, also scales and shifts, which start as one and zero."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator(seed))
    return net


@pytest.mark.sampled(1)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ALL)
def test_jax_computes_what_pytorch_computes(kind, activation):
    import jax

    from neuroactivity_jax import parameters
    from reference_agents.jax import networks as jax_networks

    config = Config(network=kind, activation=activation, width=WIDTH)
    theirs = scattered(networks.network(config, INPUTS, 2, 2, generator(0)), 1)
    ours, inputs = jax_networks.network(config, INPUTS, 2, 2), torch.randn(16, INPUTS, generator=generator(2))
    params = ours.init(jax.random.key(0))
    values = with_torchs_values({name: array.shape for name, array in parameters(params).items()}, theirs.state_dict())
    params = {name: {key: values[f"{name}/{key}"] for key in layer} for name, layer in params.items()}
    np.testing.assert_allclose(ours(params, inputs.numpy()), theirs(inputs).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ALL)
def test_keras_computes_what_pytorch_computes(kind, activation):
    from neuroactivity_tensorflow import parameters, write
    from reference_agents.tensorflow import networks as keras_networks

    config = Config(network=kind, activation=activation, width=WIDTH)
    theirs = scattered(networks.network(config, INPUTS, 2, 2, generator(0)), 1)
    ours, inputs = keras_networks.network(config, INPUTS, 2, 2, 0), torch.randn(16, INPUTS, generator=generator(2))
    shapes = {name: tuple(value.shape) for name, value in parameters(ours).items()}
    write(ours, with_torchs_values(shapes, theirs.state_dict()))
    np.testing.assert_allclose(ours(inputs.numpy()), theirs(inputs).detach(), rtol=1e-5, atol=1e-5)


def started(framework, config, inputs, seed):
    """Initial values of a network with two blocks or hidden layers, in PyTorch's names."""
    if framework == "torch":
        drawn = networks.network(config, inputs, 64, 2, generator(seed)).state_dict()
        return {name: value.numpy() for name, value in drawn.items()}
    if framework == "jax":
        import jax

        from neuroactivity_jax import parameters
        from reference_agents.jax import networks as jax_networks

        drawn = parameters(jax_networks.network(config, inputs, 64, 2).init(jax.random.key(seed)))
    else:
        from neuroactivity_tensorflow import parameters
        from reference_agents.tensorflow import networks as keras_networks

        drawn = parameters(keras_networks.network(config, inputs, 64, 2, seed))
    return {common(name): np.asarray(value) for name, value in drawn.items()}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_layer_starts_alike_in_every_framework_and_is_drawn_apart(framework, kind):
    config, inputs = Config(network=kind, width=64), 100
    once, again, other = (started(framework, config, inputs, seed) for seed in (0, 0, 1))
    drawn = {name: value for name, value in once.items() if "norm" not in name}
    for name, value in drawn.items():
        first = "layer1" if kind == "mlp_layernorm" else "layer"
        fan_in = {first: inputs, "layer2": WIDE.get(kind, 1) * 64}.get(name.split(".")[-2], 64)
        assert 0.9 * fan_in**-0.5 < abs(value).max() <= fan_in**-0.5, name
        assert value.std() == pytest.approx(fan_in**-0.5 / 3**0.5, rel=0.2), name
        assert not np.array_equal(value, other[name]), name
    for name in once.keys() - drawn.keys():
        assert (once[name] == (1 if name.endswith("weight") else 0)).all()
    assert all(np.array_equal(once[name], again[name]) for name in once)
    assert len({value.ravel()[:8].tobytes() for value in drawn.values()}) == len(drawn)
