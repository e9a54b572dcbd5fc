"""Neuronal activity of the PyTorch agents: ReGraMa and ReDo wrappers around their optimizers."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa
from reference_agents.activity import ActivityLog, wrapper_options
from reference_agents.config import Config


class Activity(ActivityLog):
    """Measures and resets the networks of an agent inside ``optimizer.step()``, with the gradients of that step.

    Args:
        config: Settings of the run.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._wrappers: dict[str, ReGraMa | ReDo] = {}

    def wrap(
        self,
        network: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        layout: na.Layout,
        probe: Callable[[], Tensor | tuple[Tensor, ...]],
    ) -> None:
        """Wrap the optimizer of one network.

        Args:
            network: Name of the network in the records.
            model: The network.
            optimizer: Optimizer of the network, which may train others too.
            layout: Neuron groups of the network.
            probe: Returns inputs of the network on which ReDo measures activations.
        """
        for options in wrapper_options(self.config, network):
            on_report = self.report_handler(options.kind, network, layout)
            arguments = {"layout": layout, "on_report": on_report, **options.arguments}
            self._wrappers[f"{options.kind}/{network}"] = (
                ReGraMa(model, optimizer, **arguments)
                if options.kind == "inactive"
                else ReDo(model, optimizer, probe=probe, **arguments)
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the log and of the wrappers."""
        return self.state() | {"wrappers": {name: wrapper.state_dict() for name, wrapper in self._wrappers.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.load_state(state)
        for name, wrapper in self._wrappers.items():
            wrapper.load_state_dict(state["wrappers"][name])
