"""Neuronal activity of the PyTorch agents: measured at the optimizers' own steps, reset as the settings say."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa
from reference_agents.agent import Counts
from reference_agents.config import PAPER_TAU, Config
from reference_agents.seeding import derive


class Activity:
    """Watches over the networks of an agent, each through the optimizer that trains it.

    GraMa is measured whatever resets, so that runs can be compared; where ReDo resets, or nothing does, it only looks
    on. Everything happens inside ``optimizer.step()``, where the gradients are those of that very step.

    Args:
        config: Which method resets, how often, and what it may touch.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.fractions: dict[str, float | None] = {}
        self._gauges: dict[str, ReGraMa] = {}
        self._healers: dict[str, ReGraMa | ReDo] = {}

    def watch(
        self,
        network: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        layout: na.Layout,
        probe: Callable[[], Tensor],
    ) -> None:
        """Watch over one network from now on.

        Args:
            network: Its name in the records.
            model: The network.
            optimizer: The optimizer that trains it, and perhaps others too.
            layout: Its neuron groups.
            probe: Returns inputs of the network on which ReDo may measure activations.
        """
        config, seed = self.config, derive(self.config.seed, "reset", network)
        self._gauges[network] = self._healers[network] = ReGraMa(
            model,
            optimizer,
            layout=layout,
            tau=PAPER_TAU["regrama"] if config.reset == "redo" else config.threshold,
            every=config.reset_every,
            max_fraction=config.max_fraction if config.reset == "regrama" else 0.0,
            seed=seed,
            on_report=self._note("inactive", network, layout),
        )
        if config.reset == "redo":
            self._healers[network] = ReDo(
                model,
                optimizer,
                probe=probe,
                layout=layout,
                tau=config.threshold,
                every=config.reset_every,
                max_fraction=config.max_fraction,
                seed=seed,
                on_report=self._note("dormant", network, layout),
            )

    def counts(self) -> dict[str, Counts]:
        """Measurements and resets of each network, by the method that resets."""
        return {
            network: Counts(healer.measurements, healer.resets, healer.neurons_reset)
            for network, healer in self._healers.items()
        }

    def reports(self) -> dict[str, na.ActivityReport]:
        """Latest report on each network, by the method that resets; networks not yet measured are left out."""
        reports = {network: healer.last_report for network, healer in self._healers.items()}
        return {network: report for network, report in reports.items() if report is not None}

    def state_dict(self) -> dict[str, Any]:
        """Return what later measurements and resets depend on."""
        return {
            "fractions": dict(self.fractions),
            "gauges": {network: gauge.state_dict() for network, gauge in self._gauges.items()},
            "healers": {network: healer.state_dict() for network, healer in self._healers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self.fractions = dict(state["fractions"])
        for network in self._gauges:
            self._gauges[network].load_state_dict(state["gauges"][network])
            self._healers[network].load_state_dict(state["healers"][network])

    def _note(self, kind: str, network: str, layout: na.Layout) -> Callable[[na.ActivityReport], None]:
        """Make room for the fractions of a network's groups, and return what fills it with each report."""
        prefix = f"{kind}/{network}"
        self.fractions |= {f"{prefix}/{group}": None for group in layout}

        def note(report: na.ActivityReport) -> None:
            fractions = report.scalars(prefix)
            for group in layout:
                self.fractions[f"{prefix}/{group}"] = fractions.get(f"{prefix}/{group}/inactive_fraction")

        return note
