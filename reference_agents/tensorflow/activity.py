"""Neuronal activity of the TensorFlow agents: measured at the optimizers' own steps, reset as the settings say."""

from collections.abc import Callable
from typing import Any

import keras

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa
from reference_agents.activity import ActivityLog, watches
from reference_agents.config import Config
from reference_agents.tensorflow.networks import Tensor


class Activity(ActivityLog):
    """Watches over the networks of an agent, each through the optimizer that trains it.

    Everything happens inside the optimizer's step, where the gradients are those of that very step. Reports come to
    the host when a measurement is due, and at no other step. What later measurements and resets depend on are variables
    of the optimizers, saved with them; ``state`` is all the rest.

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
        model: keras.Model,
        optimizer: keras.Optimizer,
        layout: na.Layout,
        probe: Callable[[], Tensor],
    ) -> keras.Optimizer:
        """Wrap an optimizer so that it watches over one network.

        Args:
            network: Its name in the records.
            model: The network.
            optimizer: The optimizer that trains it, and perhaps others too; perhaps it watches over these already.
            layout: Its neuron groups.
            probe: Returns inputs of the network on which ReDo may measure activations.

        Returns:
            The optimizer to step with from now on.
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
            optimizer = (
                ReGraMa(optimizer, model, **options)
                if watch.kind == "inactive"
                else ReDo(optimizer, model, probe=probe, **options)
            )
            self._wrappers[f"{watch.kind}/{network}"] = optimizer
        return optimizer
