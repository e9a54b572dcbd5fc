"""Small JAX agents to test, and how to compile them in little time."""

import functools
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reference_agents.config import Config
from reference_agents.jax import dacer, learning, networks, sac, td3
from tests.reference_agents.cases import ACTION, OBSERVATION

COMPILED = ("_compiled_act", "_compiled_update")
SMALL = {"width": 8, "batch_size": 32, "tau": 0.2, "reset_every": 6}
AGENTS = {"sac": sac.SAC, "td3": td3.TD3, "dacer": dacer.DACER}


@functools.cache
def discover_layout(network, inputs):
    return networks.discover_layout(network, inputs)


@functools.cache
def known(*described):
    """The compiled functions of such agents."""
    return {}


def sharing(start):
    """Let an agent take over what was compiled for one that differs at most in its seed: that is in no function."""

    def started(self, config, *sizes):
        start(self, config, *sizes)
        shared = known(config.to_json().replace(f'"seed": {config.seed}', '"seed": 0'), *sizes)
        for name in COMPILED:
            setattr(self, name, shared.setdefault(name, getattr(self, name)))

    return started


@contextmanager
def compiled_once():
    """Compile each agent's functions only once, and find each layout only once."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (learning, sac, td3, dacer):
            patch.setattr(module, "discover_layout", discover_layout)
        for agent in AGENTS.values():
            patch.setattr(agent, "__init__", sharing(agent.__init__))
        yield


def agent_of(algo, **settings):
    """A small agent; a BRO-net has one block everywhere."""
    small = SMALL | ({"depth": 1} if settings.get("network") == "bronet" else {})
    return AGENTS[algo](Config(**small | settings, framework="jax", algo=algo), OBSERVATION, ACTION)


def parts(agent):
    """Copies of every parameter of an agent, by the name of its network, its layer and its own."""
    state = agent.state
    networks = {"actor": state.actor.params, **{name: trained.params for name, trained in state.critics.items()}}
    networks |= {f"target of {name}": params for name, params in state.targets.items()}
    if hasattr(state, "target_actor"):
        networks["target of actor"] = state.target_actor
    leaves = jax.tree.leaves_with_path(networks)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.array(leaf) for path, leaf in leaves}


def moved(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if not np.array_equal(before[name], after[name])}


def from_torch(module):
    """The parameters of a PyTorch network as those of the same network in JAX."""
    params = {}
    for name, value in module.state_dict().items():
        layer, _, kind = name.rpartition(".")
        kind = {"weight": "kernel" if value.ndim == 2 else "scale", "bias": "bias"}[kind]
        params.setdefault(layer, {})[kind] = jnp.array(value.numpy().T)
    return params
