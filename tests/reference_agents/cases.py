"""Small agents and batches to test them on."""

import copy
from importlib import import_module

import numpy as np
import torch

from reference_agents.agent import FACTORIES, Batch
from reference_agents.config import Config

OBSERVATION, ACTION = 5, 2


def agent_of(algo, **settings):
    """A small PyTorch agent."""
    small = {"width": 16, "batch_size": 32, "threads": 1, "tau": 0.2, "reset_every": 50}
    config = Config(**small | settings, framework="torch", algo=algo)
    module, name = FACTORIES["torch", algo]
    return getattr(import_module(module), name)(config, OBSERVATION, ACTION)


def batch(seed, *, size=32):
    rng = np.random.default_rng(seed)
    return Batch(
        observations=rng.normal(size=(size, OBSERVATION)).astype(np.float32),
        actions=rng.uniform(-1, 1, (size, ACTION)).astype(np.float32),
        rewards=rng.normal(size=(size, 1)).astype(np.float32),
        next_observations=rng.normal(size=(size, OBSERVATION)).astype(np.float32),
        terminated=(rng.random((size, 1)) < 0.2).astype(np.float32),
    )


def tensors(values):
    return Batch(*map(torch.from_numpy, values))


def snapshot(module):
    return copy.deepcopy(module.state_dict())


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}
