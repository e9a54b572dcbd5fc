"""Small TensorFlow agents, and what the tests of them share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import functools
from importlib import import_module
from unittest.mock import patch

import numpy as np
import tensorflow as tf

from neuroactivity_tensorflow import layout_of, parameters
from reference_agents.agent import FACTORIES, Batch
from reference_agents.config import Config
from tests.reference_agents.cases import ACTION, OBSERVATION, batch

NETWORKS = ("actor", "critic1", "critic2")
SMALL = {"width": 16, "batch_size": 32, "threads": 1, "tau": 0.2, "reset_every": 8}
_layouts = {}


def agent_of(algo, *, graphs=False, **settings):
    """Build a small agent. Its updates run eagerly unless graphs are asked for, whose tracing takes seconds."""
    config = Config(**SMALL | settings, framework="tensorflow", algo=algo)
    module, name = FACTORIES["tensorflow", algo]

    def once(model, *inputs):
        key = algo, config.network, config.activation, *(tuple(value.shape) for value in inputs)
        if key not in _layouts:
            _layouts[key] = layout_of(model, *inputs)
        return _layouts[key]

    with patch.object(import_module(module), "layout_of", once):
        agent = getattr(import_module(module), name)(config, OBSERVATION, ACTION)
    if not graphs:
        for name, function in list(vars(agent).items()):
            if isinstance(function, tf.types.experimental.PolymorphicFunction):
                setattr(agent, name, function.python_function)
    return agent


@functools.cache
def _built(algo):
    """Two agents alike, whose graphs are traced once for all tests, and the state that they start from."""
    agent, twin = (agent_of(algo, graphs=True) for _ in range(2))
    return agent, twin, agent.save()


def traced(algo):
    """Two agents alike that have learned nothing, and update in graphs."""
    agent, twin, start = _built(algo)
    agent.load(start)
    twin.load(start)
    return agent, twin


def learn(agent, *seeds):
    for seed in seeds:
        agent.update(batch(seed))


def tensors(values):
    return Batch(*map(tf.constant, values))


def networks(agent):
    """The networks that are trained, by the names that records give them."""
    return dict(zip(NETWORKS, (agent.actor, *agent.critics), strict=True))


def values(*models):
    """Copies of every parameter of networks, by number and name."""
    named = {f"{i}/{name}": value for i, model in enumerate(models) for name, value in parameters(model).items()}
    return {name: value.numpy() for name, value in named.items()}


def parts(agent):
    """Copies of every parameter that is trained."""
    return values(*networks(agent).values())


def moved(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def copied(generator):
    """A generator that draws what the other one will."""
    return tf.random.Generator.from_state(tf.identity(generator.state), alg="philox")
