"""Shared parts of the PyTorch agents: twin critics, gradient steps, target networks, serialisation."""

import io
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity import analysis
from neuroactivity_torch import parameters, write
from reference_agents.agent import Masks
from reference_agents.config import Config
from reference_agents.torch.networks import network


class Stateful(Protocol):
    """A network, an optimizer, or anything else with a state."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Restore a state."""


def twin_critics(config: Config, observation_size: int, action_size: int, generator: torch.Generator) -> nn.ModuleList:
    """Build two Q-networks, from (batch, observation + action) to (batch, 1), with different initial weights."""
    return nn.ModuleList(network(config, observation_size + action_size, 1, config.depth, generator) for _ in range(2))


def critic_inputs(observations: Tensor, actions: Tensor) -> Tensor:
    """Concatenate observations and actions, (batch, observation + action)."""
    return torch.cat([observations, actions], 1)


def min_q(critics: nn.ModuleList, observations: Tensor, actions: Tensor) -> Tensor:
    """Return the minimum of both critics' Q-values, (batch, 1)."""
    inputs = critic_inputs(observations, actions)
    return torch.minimum(critics[0](inputs), critics[1](inputs))


def gradient_step(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Minimise a loss by one optimizer step, without touching the gradients of other parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.zero_grad()
    loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
    optimizer.step()


@torch.no_grad()
def polyak_update(target: nn.Module, online: nn.Module, polyak: float) -> None:
    """Update a target network: target += polyak * (online - target)."""
    for target_param, param in zip(target.parameters(), online.parameters(), strict=True):
        target_param.lerp_(param, polyak)


def prune(model: nn.Module, masks: Masks, layout: na.Layout) -> None:
    """Prune masked neurons of a network in place."""
    tensors = {group: torch.from_numpy(mask) for group, mask in masks.items()}
    write(model, analysis.prune(parameters(model), tensors, layout))


def pack(parts: Mapping[str, Stateful], **values: Any) -> bytes:
    """Serialise the states of an agent's parts, and further values."""
    file = io.BytesIO()
    torch.save(values | {"parts": {name: part.state_dict() for name, part in parts.items()}}, file)
    return file.getvalue()


def unpack(state: bytes, parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """Restore the parts from what ``pack`` wrote, and return the further values."""
    values: dict[str, Any] = torch.load(io.BytesIO(state), weights_only=True)
    saved = values.pop("parts")
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return values
