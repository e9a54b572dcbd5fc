"""The engine of ReGraMa and ReDo: it counts an optimizer's steps, measures the model's neurons and resets them."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.report import build_report, latest_scalars, warn_of_alerts
from neuroactivity.wrapping import (
    COUNTS,
    advance,
    check_same_layout,
    is_due,
    read_counts,
    reset_before,
    unprotected,
    warn_of_resets,
    written_params,
)
from neuroactivity_torch.attaching import Attached
from neuroactivity_torch.clock import Clock, corrects_bias, read_clock, warn_of_counts, written_entries
from neuroactivity_torch.memory import Memory, read_arrays
from neuroactivity_torch.optimizers import Stepper, cleared_moments
from neuroactivity_torch.parameters import overwrite, parameters


class Resetter(Attached):
    """Measures and resets a model's neurons after every ``every``-th step of its optimizer."""

    _signal: Literal["weights", "activations"]
    """What neurons are scored by."""

    @abstractmethod
    def _signals(self) -> Mapping[str, Tensor | None]:
        """What the neurons that the optimizer trains are scored by, at this step."""

    def _stepper(self, optimizer: Optimizer) -> Stepper:
        return next(stepper for stepper in self._steppers if stepper.optimizer is optimizer)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Keep what a step will change where a reset was not long ago."""
        if self._clock:
            self._clock.before_step(self._stepper(optimizer))

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Count a step, once every optimizer has taken it; measure and reset when one is due."""
        skipped = getattr(optimizer, "found_inf", None)  # a fused step that gradient scaling has called off
        if skipped is not None and float(skipped) > 0:
            return
        if self._clock:
            self._clock.after_step(self._stepper(optimizer))
        self._stepped.add(id(optimizer))
        if len(self._stepped) < len(self._steppers):
            return
        self._stepped.clear()
        if not self._checked:
            self._look()
            self._check_writes()  # now that there is a state
            if self._writes and self.options.clock == "own":
                warn_of_counts(self._steppers, self._written())
            self._checked = True
        self.steps += 1
        if not self.options.collects_at(self.steps):
            self._memory.sums = {}
            return
        try:
            report = self._collect()
        except BaseException:
            self.steps -= 1
            raise
        if report is not None:
            self._count(report)

    @torch.no_grad()
    def _collect(self) -> na.ActivityReport | None:
        """Take what neurons are scored by; where a measurement is due, score those that are trained, and reset."""
        self._look()
        layout, signals, due = self._trained_layout, self._signals(), is_due(self.steps, every=self.options.every)
        if self.options.batches == 1:
            return self._choose_and_reset(na.grama(signals, layout, signal=self._signal))
        sums = self._memory.added(na.magnitudes(signals, layout, signal=self._signal))
        if due:
            return self._choose_and_reset(na.scores({name: sums[name] for name in layout if name in sums}))
        self._memory.sums = sums
        return None

    def _choose_and_reset(self, scores: Mapping[str, Tensor]) -> na.ActivityReport:
        """Reset the neurons that are due."""
        options, since, resets = self.options, self._memory.seen(scores), self.options.resets_at(self.steps)
        masks = {n: mask & (resets and self._reported[n].resettable) for n, mask in options.masks(scores).items()}
        masks = unprotected(masks, since, int(options.protect))
        before = reset_before(since)
        report = build_report(scores, self._reported, options.tau, masks=masks, reset_before=before)
        marked = {group.name: masks[group.name] for group in report.groups if group.reset}
        if marked:
            self._reset(marked)
        self._memory.since, self._memory.sums = advance(since, masks), {}
        return report

    def _count(self, report: na.ActivityReport) -> None:
        """Count what was done, and tell."""
        reset = [group.reset for group in report.groups if group.reset]
        self.measurements += 1
        self.resets += bool(reset)
        self.neurons_reset += sum(reset)
        self.last_report = report
        warn_of_alerts(report, self._warned, stacklevel=3)
        warn_of_resets(report, self._warned, stacklevel=3)
        if self.options.on_report is not None:
            self.options.on_report(report)

    def _reset(self, masks: Mapping[str, Tensor]) -> None:
        """Reset the masked neurons: everything is built before a value is written, and all is written or none."""
        layout, params, outgoing = self._trained_layout, parameters(self.model), self.options.outgoing
        drawn = written_params(masks, layout, outgoing="keep" if outgoing == "zero" else outgoing)
        new = na.reset(params, self._fresh.draw(self.resets + 1, drawn), masks, layout, outgoing=outgoing)
        pairs = [(params[name], value) for name, value in new.items() if value is not params[name]]
        cleared = cleared_moments(self._steppers, self._trained, new, masks, layout, outgoing=outgoing)
        young = {} if self.options.clock == "run" else self._young_entries(masks)
        overwrite([*pairs, *cleared])
        for name, index in young.items():
            self._clock.start(name, self._trained[name], index)

    def _young_entries(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Where a reset writes what an optimizer with a bias correction trains."""
        corrected = {n for stepper in self._steppers if corrects_bias(stepper) for n in stepper.holds()}
        written = written_entries(self._trained, masks, self._trained_layout, self.options.outgoing)
        return {name: index for name, index in written.items() if id(self._trained[name]) in corrected}

    def scalars(self, prefix: str = "neuroactivity") -> dict[str, float]:
        """Return the latest report for a logger, with the same keys at any time.

        Args:
            prefix: What every key begins with.

        Returns:
            What :meth:`neuroactivity.ActivityReport.scalars` returns; NaN for groups that were not measured, and for
            everything before the first measurement.

        Example:
            >>> from neuroactivity_torch import ReGraMa
            >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2))
            >>> regrama = ReGraMa(model, torch.optim.SGD(model.parameters()), max_fraction=0)
            >>> regrama.scalars("critic")["critic/0/inactive_fraction"]
            nan
        """
        return latest_scalars(self.last_report, self.layout, prefix)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as numbers, JSON values and tensors that share no memory with the wrapper.

        These are the counts, the layout, the snapshot if there is one, when each neuron was reset, sums of magnitudes,
        and the entries that go by their own clock.

        Give a resumed run's wrapper ``layout=na.Layout.from_dict(state["layout"])``, and it does not search again.
        """
        snapshot = self._fresh.snapshot
        copied = None if snapshot is None else {name: value.clone() for name, value in snapshot.items()}
        counts, arrays = {name: getattr(self, name) for name in COUNTS}, self._memory.state(self.layout)
        params = dict(self.model.named_parameters())
        clock = self._clock.state({n: params[n] for n in written_params(self.layout, self.layout) if n in params})
        return {**counts, "snapshot": copied, "layout": self.layout.to_dict(), **arrays, "clock": clock}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that :meth:`state_dict` returned; everything is checked before anything is set.

        Raises:
            ValueError: If the state is not of this form, holds another layout, or a snapshot where none is used, or the
                reverse.
        """
        expected, later = {*COUNTS, "snapshot"}, {"layout", "since", "sums", "clock"}  # older versions had none of them
        keys = set(state) if isinstance(state, Mapping) else type(state)
        if not isinstance(keys, set) or not expected <= keys <= expected | later:
            shown = sorted(map(str, keys)) if isinstance(keys, set) else keys.__name__
            raise ValueError(f"state: expected the keys {sorted(expected)} and {', '.join(later)}, got {shown}")
        counts, params = read_counts(state), dict(self.model.named_parameters())
        check_same_layout(state.get("layout"), self.layout)
        arrays = read_arrays(state, self.layout, {name: tuple(value.shape) for name, value in params.items()})
        young = read_clock(state.get("clock", {}), params)
        self._fresh.snapshot = self._fresh.check_snapshot(state["snapshot"])
        vars(self).update(counts)
        self._memory, self._clock = Memory(**arrays), Clock(young)
