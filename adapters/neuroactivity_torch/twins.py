"""Twins of an optimizer, of its class and with its options, that step on other parameters than it holds."""

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


def first_state(optimizer: Optimizer, parameter: nn.Parameter, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an optimizer keeps for a parameter like this one after a step; nothing if a copy of it cannot be made."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return {}  # its steps may wait for those of other processes
    twin = nn.Parameter(torch.zeros_like(parameter))
    twin.grad = torch.zeros_like(parameter)
    devices = [parameter.device.index] if parameter.is_cuda else []
    try:
        trial = twin_of(optimizer, copy.deepcopy)
        vars(trial)["param_groups"] = [{**options, "params": [twin]}]
        with torch.random.fork_rng(devices=devices):
            trial.step()
    except Exception:  # whatever it is, there is nothing to be learned
        return {}
    state: Mapping[str, Any] = trial.state.get(twin, {})
    return state


def twin_of(optimizer: Optimizer, copied: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> Optimizer:
    """Return an optimizer of the same class and options, without parameters, state and hooks."""
    apart = ("state", "param_groups", "_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    passing = ("step", "grad_scale", "found_inf")  # what schedules and gradient scaling attach to it
    twin = object.__new__(type(optimizer))
    vars(twin).update(copied({k: value for k, value in vars(optimizer).items() if k not in (*apart, *passing)}))
    vars(twin).update({key: OrderedDict() for key in apart}, state=defaultdict(dict))
    return twin
