"""Neuronal activity of the JAX agents: measured in the optimizers' own updates, reset as the settings say."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax
from jax import Array

import neuroactivity as na
from neuroactivity_jax import redo, regrama, report
from reference_agents.activity import ActivityLog, watches
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
        self._readers: dict[str, list[Callable[[na.ActivityReport], None]]] = {}
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
        self._readers[network] = [self.reader(watch.kind, network, layout) for watch in chosen]
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

    def after_step(self, trained: Mapping[str, Trained]) -> None:
        """Count a step of the optimizers of some networks, and take in what they found if they were to measure."""
        for network, (_, state) in trained.items():
            self._steps[network] += 1
            if self._steps[network] % self.config.reset_every == 0:
                for read in self._readers[network]:
                    found = report(state, self._layouts[network])
                    assert found is not None  # it has just been measured
                    read(found)
                    state = state.inner_state

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the states of the optimizers."""
        return super().state() | {"steps": dict(self._steps)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned."""
        super().load_state(state)
        self._steps = dict(state["steps"])
