"""Neuronal activity of the PyTorch agents: measured at the optimizers' own steps, reset as the settings say."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa
from reference_agents.activity import ActivityLog, watches
from reference_agents.config import Config


class Activity(ActivityLog):
    """Watches over the networks of an agent, each through the optimizer that trains it.

    Everything happens inside ``optimizer.step()``, where the gradients are those of that very step.

    Args:
        config: Which method resets, how often, and what it may touch.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._wrappers: dict[str, ReGraMa | ReDo] = {}

    def watch(
        self,
        network: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        layout: na.Layout,
        probe: Callable[[], Tensor | tuple[Tensor, ...]],
    ) -> None:
        """Watch over one network from now on.

        Args:
            network: Its name in the records.
            model: The network.
            optimizer: The optimizer that trains it, and perhaps others too.
            layout: Its neuron groups.
            probe: Returns inputs of the network on which ReDo may measure activations.
        """
        for watch in watches(self.config, network):
            options: dict[str, Any] = {
                "layout": layout,
                "tau": watch.tau,
                "every": watch.every,
                "max_fraction": watch.max_fraction,
                "seed": watch.seed,
                "on_report": self.reader(watch.kind, network, layout),
            }
            self._wrappers[f"{watch.kind}/{network}"] = (
                ReGraMa(model, optimizer, **options)
                if watch.kind == "inactive"
                else ReDo(model, optimizer, probe=probe, **options)
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what later measurements and resets depend on."""
        return self.state() | {"wrappers": {name: wrapper.state_dict() for name, wrapper in self._wrappers.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self.load_state(state)
        for name, wrapper in self._wrappers.items():
            wrapper.load_state_dict(state["wrappers"][name])
