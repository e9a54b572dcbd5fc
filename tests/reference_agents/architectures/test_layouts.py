"""The layouts found in an MLP with LayerNorm, SimBa and attention: proved, and the same in every framework."""

import functools

import pytest
import torch

from neuroactivity_torch import layout_of
from reference_agents.config import Config
from reference_agents.torch import networks
from reference_agents.torch.sac import Actor
from tests.reference_agents.architectures.cases import ACTION, ALL, COMPILED, FRAMEWORKS, INPUTS, WIDTH, expected, plain


@functools.cache
def found(framework, kind, network):
    """The layout of an actor of SAC, or of a critic with two blocks, and the shapes of its parameters."""
    config = Config(network=kind, width=WIDTH)
    if framework == "jax":
        import jax

        from neuroactivity_jax import parameters
        from reference_agents.jax import networks as jax_networks
        from reference_agents.jax.sac import Actor as JaxActor

        actor = JaxActor(jax_networks.Trunk(config, INPUTS, config.actor_depth, "trunk."), ACTION)
        model = actor if network == "actor" else jax_networks.network(config, INPUTS, 1, 2)
        layout, params = jax_networks.discover_layout(model, INPUTS), parameters(model.init(jax.random.key(0)))
    elif framework == "torch":
        actor = Actor(config, INPUTS, ACTION, torch.Generator())
        model = actor if network == "actor" else networks.network(config, INPUTS, 1, 2, torch.Generator())
        layout, params = layout_of(model, torch.zeros(8, INPUTS)), model.state_dict()
    else:
        import tensorflow as tf

        import neuroactivity_tensorflow
        from reference_agents.tensorflow import networks as keras_networks
        from reference_agents.tensorflow.sac import Actor as KerasActor

        critic = keras_networks.network(config, INPUTS, 1, 2, 0)
        model = KerasActor(config, INPUTS, ACTION) if network == "actor" else critic
        layout = neuroactivity_tensorflow.layout_of(model, tf.zeros((8, INPUTS)))
        params = neuroactivity_tensorflow.parameters(model)
    return layout, {name: tuple(value.shape) for name, value in params.items()}


LONG = [(framework, "simba") for framework in COMPILED]  # whose parts attention has too
LAYOUTS = [
    pytest.param(
        framework, kind, network, marks=[pytest.mark.slow] * (network == "critic" or (framework, kind) in LONG)
    )
    for framework in FRAMEWORKS
    for kind in ALL
    for network in ("actor", "critic")
]
OUTGOING = {
    "torch": {"out neuron"},
    "jax": {"neuron out", "neuron out dim", "neuron neuron out"},
    "tensorflow": {"neuron out", "neuron head out", "neuron neuron out"},
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("framework", "kind", "network"), LAYOUTS)
def test_layouts_are_proved_and_the_same_in_every_framework(framework, kind, network):
    layout, shapes = found(framework, kind, network)
    heads = {"mean": ACTION, "log_std": ACTION} if network == "actor" else {"head": 1}
    groups = {
        plain(name): (
            group.count(shapes),
            group.status,
            {plain(view.param).rpartition(".")[0] for view in group.outgoing},
        )
        for name, group in layout.items()
    }
    wanted = expected(kind, Config(network=kind).actor_depth if network == "actor" else 2, heads)
    assert groups == wanted
    assert list(groups) == list(wanted)
    for name, group in layout.items():
        assert all(plain(view.param).rpartition(".")[0] == plain(name) for view in group.incoming + group.unscored)
    read = {view.pattern for group in layout.values() for view in group.outgoing}
    assert read == (OUTGOING[framework] if kind == "attention" else OUTGOING[framework] & {"out neuron", "neuron out"})


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("framework", "kind", "network"), LAYOUTS)
def test_partners_and_reasons_are_named(framework, kind, network):
    layout, _ = found(framework, kind, network)
    groups = {plain(name): group for name, group in layout.items()}
    partners = {name: [plain(partner) for partner in group.partners] for name, group in groups.items()}
    others = {"query": "key", "key": "query"}
    for name, group in groups.items():
        first, _, last = name.rpartition(".")
        assert partners[name] == ([f"{first}.{others[last]}"] if last in others else [])
        assert group.resettable == (group.status != "head")
        assert not group.stacks
        if group.status == "shared":  # a writer of the residual stream
            assert group.reason.startswith("read by ")
            assert " together with " in group.reason
