"""Neuronal activity of the JAX agents: ReGraMa and ReDo wrappers around their optimizers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax
from jax import Array

import neuroactivity as na
from neuroactivity_jax import redo, regrama, report
from reference_agents.activity import ActivityLog, Counts, wrapper_options
from reference_agents.config import Config
from reference_agents.jax.networks import Params


class TrainState(NamedTuple):
    """Parameters and the state of their optimizer."""

    params: Any  # of a network, or a scalar
    optimizer: optax.OptState


class Activity(ActivityLog):
    """Measures and resets the networks of an agent inside the optimizer's update, with the gradients of that update.

    Results stay on the device, in the optimizer's state. They are read only after updates that measure, so that the
    host does not wait for the others.

    Args:
        config: Settings of the run.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._layouts: dict[str, na.Layout] = {}
        self._handlers: dict[str, dict[str, Callable[[na.ActivityReport], None]]] = {}
        self._steps: dict[str, int] = {}

    def wrap(
        self,
        network: str,
        optimizer: optax.GradientTransformation,
        layout: na.Layout,
        init: Callable[[Array], Params],
    ) -> optax.GradientTransformationExtraArgs:
        """Wrap the optimizer of one network.

        Args:
            network: Name of the network in the records.
            optimizer: Optimizer of this network only.
            layout: Neuron groups of the network.
            init: Draws initial parameters, from which resets take fresh values.

        Returns:
            The wrapped optimizer.
        """
        wrappers = wrapper_options(self.config, network)
        self._layouts[network], self._steps[network] = layout, 0
        self._handlers[network] = {
            options.kind: self.report_handler(options.kind, network, layout) for options in wrappers
        }
        for options in reversed(wrappers):  # the one that resets is innermost, the one that only measures is around it
            wrap = regrama if options.kind == "inactive" else redo
            optimizer = wrap(optimizer, layout, initializer=init, **options.arguments)
        return optimizer

    def after_update(self, trained: Mapping[str, TrainState], *, steps: int) -> None:
        """Count optimizer steps of networks, and read the reports of those that have measured."""
        for network, (_, state) in trained.items():
            before, after = self._steps[network], self._steps[network] + steps
            self._steps[network] = after
            if after // self.config.reset_every > before // self.config.reset_every:
                self._read(network, state)

    def _read(self, network: str, state: Any) -> None:
        """Read the latest report on a network, and the counts: one update may include several measurements."""
        for kind, handle in self._handlers[network].items():
            latest = report(state, self._layouts[network])
            assert latest is not None  # it has just been measured
            handle(latest)
            self._counts[network][kind] = Counts(int(state.measurements), int(state.resets), int(state.neurons_reset))
            state = state.inner_state

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs besides the optimizer states."""
        return super().state() | {"steps": dict(self._steps)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned."""
        super().load_state(state)
        self._steps = dict(state["steps"])
