"""The engine of ReGraMa and ReDo: it counts an optimizer's steps, measures the model's neurons and resets them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.report import build_report, warn_of_alerts
from neuroactivity.wrapping import ResetOptions, as_inputs, is_due, option, trained_groups
from neuroactivity_torch.initializers import FreshValues, Initializer
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.optimizers import Moment, cleared_moments, moments_of
from neuroactivity_torch.parameters import parameters

_COUNTS = ("steps", "measurements", "resets", "neurons_reset")


class Resetter(ABC):
    """Measures and resets a model's neurons after every ``every``-th step of its optimizer."""

    tau, every, max_fraction = option("tau"), option("every"), option("max_fraction")
    reset_silent, on_report = option("reset_silent"), option("on_report")

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        example_inputs: tuple[Any, ...] | Tensor = (),
        layout: na.Layout | None = None,
        tau: float = 0.01,
        every: SupportsIndex = 1000,
        max_fraction: float | None = None,
        reset_silent: bool = False,
        initializer: Initializer = "layer",
        moments: Mapping[str, Moment] | None = None,
        seed: int = 0,
        on_report: Callable[[na.ActivityReport], None] | None = None,
    ) -> None:
        self.options = ResetOptions(
            tau=tau, every=every, max_fraction=max_fraction, reset_silent=reset_silent, on_report=on_report
        )
        self.model, self.optimizer = model, optimizer
        self.layout = layout_of(model, *as_inputs(example_inputs)) if layout is None else layout
        self.layout.validate(parameters(model))
        self.last_report: na.ActivityReport | None = None
        self.steps = self.measurements = self.resets = self.neurons_reset = 0
        writes = self.options.writes
        self._trained = _trained_names(model, optimizer)
        self._trained_layout = trained_groups(self.layout, self._trained, writes=writes)
        self._moments = moments_of(optimizer, moments) if writes else {}
        self._fresh = FreshValues(model, self._trained_layout if writes else na.Layout([]), initializer, seed=seed)
        self._warned: set[str] = set()
        hook = torch.compiler.disable(self._after_step)  # type: ignore[no-untyped-call]
        self._handle = optimizer.register_step_post_hook(hook)

    @abstractmethod
    def _measure(self) -> dict[str, Tensor]:
        """Score the neurons that the optimizer trains."""

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Count a step; measure and reset when one is due."""
        skipped = getattr(optimizer, "found_inf", None)  # a fused step that gradient scaling has called off
        if skipped is not None and float(skipped) > 0:
            return
        self.steps += 1
        if not is_due(self.steps, every=self.options.every):
            return
        with torch.no_grad():
            scores = self._measure()
            masks = self.options.masks(scores)
            report = build_report(scores, self.layout, self.options.tau, masks=masks)
            marked = {group.name: masks[group.name] for group in report.groups if group.reset}
            if marked:
                self._reset(marked)
        self.measurements += 1
        self.resets += bool(marked)
        self.neurons_reset += sum(group.reset or 0 for group in report.groups)
        self.last_report = report
        warn_of_alerts(report, self._warned, stacklevel=2)
        if self.options.on_report is not None:
            self.options.on_report(report)

    def _reset(self, masks: Mapping[str, Tensor]) -> None:
        """Reset the masked neurons: everything is built before the first value is written."""
        layout, named, params = self._trained_layout, dict(self.model.named_parameters()), parameters(self.model)
        drawn = {view.param for name in masks for view in layout[name].incoming + layout[name].unscored}
        new = na.reset(params, self._fresh.draw(self.resets + 1, sorted(drawn)), masks, layout)
        pairs = [(params[name], value) for name, value in new.items() if value is not params[name]]
        pairs += cleared_moments(self.optimizer, self._moments, named, new, masks, layout)
        for old, value in pairs:
            old.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: the counts, and the snapshot if there is one."""
        return {**{name: getattr(self, name) for name in _COUNTS}, "snapshot": self._fresh.snapshot}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that :meth:`state_dict` returned.

        Raises:
            ValueError: If the state is not of this form, or holds a snapshot where none is used, or the reverse.
        """
        expected = {*_COUNTS, "snapshot"}
        if set(state) != expected:
            raise ValueError(f"state: expected the keys {sorted(expected)}, got {sorted(state)}")
        snapshot = state["snapshot"]
        if set(snapshot or ()) != set(self._fresh.snapshot or ()):
            raise ValueError("state: its snapshot does not hold the parameters that this initializer needs")
        for name in _COUNTS:
            setattr(self, name, int(state[name]))
        self._fresh.snapshot = snapshot

    def detach(self) -> None:
        """Remove the hook from the optimizer; the model keeps its values."""
        self._handle.remove()


def _trained_names(model: nn.Module, optimizer: Optimizer) -> set[str]:
    """Names of the model's parameters that the optimizer trains, by identity."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in trained}
