"""Small PyTorch agents, and what the tests of them share."""

import copy
from importlib import import_module

import torch

from reference_agents.agent import FACTORIES, Batch
from reference_agents.config import Config
from tests.reference_agents.cases import ACTION, OBSERVATION


def agent_of(algo, **settings):
    """A small PyTorch agent."""
    small = {"width": 16, "batch_size": 32, "threads": 1, "tau": 0.2, "reset_every": 50}
    config = Config(**small | settings, framework="torch", algo=algo)
    module, name = FACTORIES["torch", algo]
    return getattr(import_module(module), name)(config, OBSERVATION, ACTION)


def tensors(values):
    return Batch(*map(torch.from_numpy, values))


def snapshot(module):
    return copy.deepcopy(module.state_dict())


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}
