"""The engine of ReGraMa and ReDo: it counts an optimizer's steps, measures the model's neurons and resets them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, SupportsIndex
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.report import build_report, warn_of_alerts
from neuroactivity.wrapping import (
    COUNTS,
    ResetOptions,
    as_inputs,
    check_same_layout,
    check_searched,
    is_due,
    note_outside,
    option,
    read_counts,
    trained_groups,
    written_params,
    written_rows,
)
from neuroactivity_torch.changes import fitting_groups, trained_parameters, warn_of_changes
from neuroactivity_torch.initializers import FreshValues, Initializer
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.optimizers import Moment, cleared_moments, steppers
from neuroactivity_torch.parameters import check_memory, parameters
from neuroactivity_torch.rows import Entries, overwrite_entries, shrink


class Resetter(ABC):
    """Measures and resets a model's neurons after every ``every``-th step of its optimizer."""

    tau, every, max_fraction = option("tau"), option("every"), option("max_fraction")
    reset_silent, on_report = option("reset_silent"), option("on_report")
    _reads_outputs = False
    """Whether scores need to know who reads the neurons, so that a layout that is only listed will not do."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
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
        self._options = ResetOptions(
            tau=tau, every=every, max_fraction=max_fraction, reset_silent=reset_silent, on_report=on_report
        )
        writes = self._writes = self.options.writes
        self.model, self.optimizer = model, optimizer
        self._steppers = steppers(optimizer, moments, writes=writes)
        self.layout = self._find_layout(as_inputs(example_inputs), layout)
        self._reported = self.layout  # as it is reset now
        self.last_report: na.ActivityReport | None = None
        self.steps = self.measurements = self.resets = self.neurons_reset = 0
        self._stepped: set[int] = set()
        self._checked = False
        self._warned: set[str] = set()
        self._trained = trained_parameters(model, self._steppers)
        self._trained_layout = trained_groups(self.layout, self._trained, writes=writes)
        self._check_writes(first=True)
        drawn = self._trained_layout if writes else na.Layout([])
        untrained = not any(stepper.optimizer.state for stepper in self._steppers)
        self._fresh = FreshValues(model, drawn, initializer, seed=seed, compare=untrained)
        _ATTACHED.add(self)
        hook = torch.compiler.disable(self._after_step)  # type: ignore[no-untyped-call]
        self._handles = [stepper.optimizer.register_step_post_hook(hook) for stepper in self._steppers]

    @property
    def options(self) -> ResetOptions:
        """All options together."""
        return self._options

    @options.setter
    def options(self, options: ResetOptions) -> None:
        if options.writes and not self._writes:
            raise ValueError("max_fraction: the wrapper was made with 0, to measure only; attach another one to reset")
        self._options = options

    def _find_layout(self, inputs: tuple[Any, ...], layout: na.Layout | None) -> na.Layout:
        """Return the layout, discovered if it is not given, with a remark if the optimizer trains other networks."""
        if layout is None and not inputs and (self._writes or self._reads_outputs):
            what = "what the model is called with is needed to find its layout"
            hint = "" if self._reads_outputs else ", or max_fraction=0 to measure only"
            raise na.LayoutError(f"example_inputs: {what}; or give layout={hint}")
        layout = layout_of(self.model, *inputs) if layout is None else layout
        layout.validate(parameters(self.model))
        check_searched(layout, writes=self._writes)
        own = {id(parameter) for parameter in self.model.parameters()}
        outside = {held for stepper in self._steppers for held in stepper.holds()} - own
        return note_outside(layout, len(outside), type(self.model).__name__)

    @abstractmethod
    def _measure(self) -> dict[str, Tensor]:
        """Score the neurons that the optimizer trains."""

    def _written(self) -> dict[str, nn.Parameter]:
        """The parameters that resets write, by name."""
        layout = self._trained_layout
        return {name: self._trained[name] for name in written_params(layout, layout)} if self._writes else {}

    def _check_writes(self, *, first: bool = False) -> None:
        """Raise if resets could not write what they are to write, or another wrapper writes it."""
        written = self._written()
        check_memory(dict(self.model.named_parameters()), written)
        for stepper in self._steppers:
            held = stepper.holds()
            names = [name for name, parameter in written.items() if id(parameter) in held]
            stepper.check_state(written, names)
            if first:
                stepper.check_first_state(written, names)
        optimizers, own = {id(stepper.optimizer) for stepper in self._steppers}, set(map(id, written.values()))
        for other in _ATTACHED:
            shared = optimizers & {id(stepper.optimizer) for stepper in other._steppers}
            if other is not self and shared and own & set(map(id, other._written().values())):
                raise ValueError(
                    f"optimizer: a {type(other).__name__} is attached to it already and resets the same parameters; "
                    "call its detach() first, or make one of the two with max_fraction=0, to measure only"
                )

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Count a step, once every optimizer has taken it; measure and reset when one is due."""
        skipped = getattr(optimizer, "found_inf", None)  # a fused step that gradient scaling has called off
        if skipped is not None and float(skipped) > 0:
            return
        self._stepped.add(id(optimizer))
        if len(self._stepped) < len(self._steppers):
            return
        self._stepped.clear()
        if not self._checked:
            self._look()
            self._check_writes()  # now that there is a state
            self._checked = True
        self.steps += 1
        if is_due(self.steps, every=self.options.every):
            try:
                report = self._measure_and_reset()
            except BaseException:
                self.steps -= 1
                raise
            self._count(report)

    @torch.no_grad()
    def _measure_and_reset(self) -> na.ActivityReport:
        """Score the neurons that are trained now, and reset those that are due."""
        self._look()
        scores = self._measure()
        masks = self.options.masks(scores)
        report = build_report(scores, self._reported, self.options.tau, masks=masks)
        marked = {group.name: masks[group.name] for group in report.groups if group.reset}
        if marked:
            self._reset(marked)
        return report

    def _count(self, report: na.ActivityReport) -> None:
        """Count what was done, and tell."""
        reset = [group.reset for group in report.groups if group.reset]
        self.measurements += 1
        self.resets += bool(reset)
        self.neurons_reset += sum(reset)
        self.last_report = report
        warn_of_alerts(report, self._warned, stacklevel=3)
        if self.options.on_report is not None:
            self.options.on_report(report)

    def _look(self) -> None:
        """See which parameters are trained now: some may have been frozen, replaced or added."""
        before, now = self._trained, trained_parameters(self.model, self._steppers)
        if before.keys() == now.keys() and all(before[name] is parameter for name, parameter in now.items()):
            return
        layout = fitting_groups(self.layout, parameters(self.model))
        old, self._trained = self._trained_layout, now
        self._trained_layout = trained_groups(layout, now, writes=self._writes, strict=False)
        if self._writes:
            self._check_writes()
            self._fresh.cover(self._trained_layout)
        reported = [self._trained_layout.get(name, group) for name, group in self.layout.items()]
        self._reported = na.Layout([replace(group, partners=()) for group in reported])
        warn_of_changes(self.model, before, now, old, self._trained_layout)

    def _reset(self, masks: Mapping[str, Tensor]) -> None:
        """Reset the masked neurons: everything is built before a value is written, and all is written or none."""
        layout, params, outgoing = self._trained_layout, self._trained, self.options.outgoing
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters(self.model).items()}
        chosen = {name: mask.tolist() for name, mask in masks.items()}
        rows = written_rows(chosen, layout, shapes, outgoing=outgoing)
        drawn = self._fresh.drawn(rows)
        fresh = {
            id(each): value for each, value in zip(drawn, self._fresh.draw_rows(self.resets + 1, drawn), strict=True)
        }
        new = []
        for each in rows:
            param = params[each.view.param]
            entries = Entries.of(each, param.device)
            value = fresh.get(id(each))
            if value is None:
                value = entries.zeros(param)
            elif each.role == "outgoing" and outgoing == "small":
                value = shrink(value, entries, param, masks[each.group], each)
            new.append((each, entries, value))
        written = [(params[each.view.param], entries, values) for each, entries, values in new]
        overwrite_entries([*written, *cleared_moments(self._steppers, params, new)])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: the counts, the layout as JSON values, and the snapshot if there is one.

        Give a resumed run's wrapper ``layout=na.Layout.from_dict(state["layout"])``, and it does not search again.
        """
        snapshot = self._fresh.snapshot
        copied = None if snapshot is None else {name: value.clone() for name, value in snapshot.items()}
        return {**{n: getattr(self, n) for n in COUNTS}, "snapshot": copied, "layout": self.layout.to_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that :meth:`state_dict` returned; everything is checked before anything is set.

        Raises:
            ValueError: If the state is not of this form, holds another layout, or a snapshot where none is used, or the
                reverse.
        """
        expected = {*COUNTS, "snapshot"}
        keys = set(state) if isinstance(state, Mapping) else type(state)
        if keys not in (expected, expected | {"layout"}):  # older versions kept no layout
            shown = sorted(map(str, keys)) if isinstance(keys, set) else keys.__name__
            raise ValueError(f"state: expected the keys {sorted(expected)} and 'layout', got {shown}")
        counts = read_counts(state)
        check_same_layout(state.get("layout"), self.layout)
        self._fresh.snapshot = self._fresh.check_snapshot(state["snapshot"])
        vars(self).update(counts)

    def detach(self) -> None:
        """Remove the hooks from the optimizer; the model keeps its values."""
        _ATTACHED.discard(self)
        for handle in self._handles:
            handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the hooks, and with them the functions that only they call: few of these can be pickled."""
        return vars(self) | {"_handles": [], "_steppers": [], "_options": replace(self.options, on_report=None)}


_ATTACHED: WeakSet[Resetter] = WeakSet()
"""The wrappers that are attached to an optimizer."""
