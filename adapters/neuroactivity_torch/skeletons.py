"""Copies of modules without their values, on which initialisers can be tried."""

import math
from collections.abc import Mapping

import torch
from torch import nn


def initialiser_of(module: nn.Module) -> str | None:
    """The name of the method that initialises a module's parameters."""
    return next((known for known in ("reset_parameters", "_reset_parameters") if hasattr(module, known)), None)


def skeleton(
    module: nn.Module, stacks: Mapping[str, tuple[int, ...]] | None = None, *, device: str = "cpu"
) -> nn.Module:
    """Copy a module with empty parameters, sharing everything else; hooks and values stay untouched.

    ``stacks`` names axes of its own parameters that the copy is to do without.
    """
    copy: nn.Module = object.__new__(type(module))  # of fully_shard's classes __new__ makes something else
    copy.__dict__ = dict(module.__dict__)
    copy.__dict__["_parameters"] = {
        name: None if value is None else _empty(value, (stacks or {}).get(name, ()), device)
        for name, value in module._parameters.items()
    }
    copy.__dict__["_buffers"] = {
        name: None if value is None else value.detach().to(device, copy=True) for name, value in module._buffers.items()
    }
    copy.__dict__["_modules"] = {
        name: None if child is None else skeleton(child, device=device) for name, child in module._modules.items()
    }
    return copy


def _empty(parameter: nn.Parameter, without: tuple[int, ...], device: str) -> nn.Parameter:
    """Make a parameter of NaN on a device, like another one but for some axes: what is not initialised shows."""
    left_out = {axis % parameter.ndim for axis in without}
    shape = [size for axis, size in enumerate(parameter.shape) if axis not in left_out]
    empty = torch.zeros(shape, dtype=parameter.dtype, device=device)
    return nn.Parameter(empty.fill_(math.nan) if empty.is_floating_point() else empty, parameter.requires_grad)
