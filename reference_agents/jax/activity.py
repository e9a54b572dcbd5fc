"""Neuronal activity of the JAX agents: measured in the optimizers' own updates, reset as the settings say."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax
from jax import Array

import neuroactivity as na
from neuroactivity_jax import redo, regrama, report
from reference_agents.activity import ActivityLog, Counts, watches
from reference_agents.config import Config
from reference_agents.jax.networks import Params


class Trained(NamedTuple):
    """What is trained, with the state of the optimizer that trains it."""

    params: Any  # those of a network, or one number
    optimizer: optax.OptState


class Activity(ActivityLog):
    """Watches over the networks of an agent, each through the optimizer that trains it.

    Everything happens inside the optimizer's update, with the gradients of that very update. What it finds stays in the
    optimizer's state, on the device; it is read from there after the updates that measure, and after no other, so that
    these need not be waited for.

    Args:
        config: Which method resets, how often, and what it may touch.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._layouts: dict[str, na.Layout] = {}
        self._readers: dict[str, dict[str, Callable[[na.ActivityReport], None]]] = {}
        self._steps: dict[str, int] = {}

    def watch(
        self,
        network: str,
        optimizer: optax.GradientTransformation,
        layout: na.Layout,
        start: Callable[[Array], Params],
    ) -> optax.GradientTransformationExtraArgs:
        """Watch over one network from now on.

        Args:
            network: Its name in the records.
            optimizer: The optimizer that trains it, and nothing else.
            layout: Its neuron groups.
            start: Draws initial parameters, of which a reset takes what it needs.

        Returns:
            The optimizer to use instead.
        """
        chosen = watches(self.config, network)
        self._layouts[network], self._steps[network] = layout, 0
        self._readers[network] = {watch.kind: self.reader(watch.kind, network, layout) for watch in chosen}
        for watch in reversed(chosen):  # what resets is next to the optimizer, and what looks on is around it
            wrap = regrama if watch.kind == "inactive" else redo
            optimizer = wrap(
                optimizer,
                layout,
                initializer=start,
                tau=watch.tau,
                every=watch.every,
                max_fraction=watch.max_fraction,
                seed=watch.seed,
            )
        return optimizer

    def after_update(self, trained: Mapping[str, Trained], *, steps: int) -> None:
        """Count the steps that the optimizers of some networks took, and take in what they found if any measured."""
        for network, (_, state) in trained.items():
            before, after = self._steps[network], self._steps[network] + steps
            self._steps[network] = after
            if after // self.config.reset_every > before // self.config.reset_every:
                self._read(network, state)

    def _read(self, network: str, state: Any) -> None:
        """Take in the last report on a network, and how many there were: one update may have brought several."""
        for kind, read in self._readers[network].items():
            found = report(state, self._layouts[network])
            assert found is not None  # it has just been measured
            read(found)
            self._counts[network][kind] = Counts(int(state.measurements), int(state.resets), int(state.neurons_reset))
            state = state.inner_state

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the states of the optimizers."""
        return super().state() | {"steps": dict(self._steps)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned."""
        super().load_state(state)
        self._steps = dict(state["steps"])
