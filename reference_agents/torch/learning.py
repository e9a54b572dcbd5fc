"""What the updates of the PyTorch agents have in common: twin critics, steps, target networks, a state to keep."""

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
    """A network, an optimizer, or whatever else has a state to keep."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Take over a state."""


def twin_critics(config: Config, observation_size: int, action_size: int, generator: torch.Generator) -> nn.ModuleList:
    """Build two critics, from (batch, observation + action) to (batch, 1), alike but for their weights."""
    return nn.ModuleList(network(config, observation_size + action_size, 1, config.depth, generator) for _ in range(2))


def pairs(observations: Tensor, actions: Tensor) -> Tensor:
    """Return what a critic judges, (batch, observation + action)."""
    return torch.cat([observations, actions], 1)


def lowest(critics: nn.ModuleList, observations: Tensor, actions: Tensor) -> Tensor:
    """Return the lower of two critics' values, (batch, 1)."""
    inputs = pairs(observations, actions)
    return torch.minimum(critics[0](inputs), critics[1](inputs))


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take one step down a loss, leaving the gradients of parameters that are not the optimizer's alone."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.zero_grad()
    loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
    optimizer.step()


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move a target network a fraction of the way towards the trained one."""
    for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
        slow.lerp_(fast, rate)


def prune(model: nn.Module, masks: Masks, layout: na.Layout) -> None:
    """Remove masked neurons of a network from what it computes."""
    marked = {group: torch.from_numpy(mask) for group, mask in masks.items()}
    write(model, analysis.prune(parameters(model), marked, layout))


def pack(parts: Mapping[str, Stateful], **values: Any) -> bytes:
    """Write the states of an agent's parts, and its further values, as bytes."""
    file = io.BytesIO()
    torch.save(values | {"parts": {name: part.state_dict() for name, part in parts.items()}}, file)
    return file.getvalue()


def unpack(state: bytes, parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """Let the parts take over the states that ``pack`` wrote, and return the further values."""
    values: dict[str, Any] = torch.load(io.BytesIO(state), weights_only=True)
    saved = values.pop("parts")
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return values
