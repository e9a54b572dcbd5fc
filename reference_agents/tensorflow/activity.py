"""Neuronal activity of the TensorFlow agents: ReGraMa and ReDo wrappers around their optimizers."""

from collections.abc import Callable

import keras

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa
from reference_agents.activity import ActivityLog, wrapper_options
from reference_agents.config import Config
from reference_agents.tensorflow.networks import Tensor


class Activity(ActivityLog):
    """Measures and resets the networks of an agent inside the optimizer's step, with the gradients of that step.

    Reports are transferred to the host only at steps that measure. The state of the wrappers is saved with the
    variables of the optimizers; ``state`` is the rest.

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
        model: keras.Model,
        optimizer: keras.Optimizer,
        layout: na.Layout,
        probe: Callable[[], Tensor],
    ) -> keras.Optimizer:
        """Wrap the optimizer of one network.

        Args:
            network: Name of the network in the records.
            model: The network.
            optimizer: Optimizer of the network, which may train others too, and may be wrapped for these already.
            layout: Neuron groups of the network.
            probe: Returns inputs of the network on which ReDo measures activations.

        Returns:
            The wrapped optimizer.
        """
        for options in wrapper_options(self.config, network):
            on_report = self.report_handler(options.kind, network, layout)
            arguments = {"layout": layout, "on_report": on_report, **options.arguments}
            optimizer = (
                ReGraMa(optimizer, model, **arguments)
                if options.kind == "inactive"
                else ReDo(optimizer, model, probe=probe, **arguments)
            )
            self._wrappers[f"{options.kind}/{network}"] = optimizer
        return optimizer
