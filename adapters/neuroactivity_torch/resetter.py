"""The engine of ReGraMa and ReDo: it counts an optimizer's steps, measures the model's neurons and resets them."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.arrays import is_sharded
from neuroactivity.report import latest_scalars, warn_of_alerts
from neuroactivity.wrapping import (
    Rows,
    is_due,
    own_scores,
    undivided,
    warn_of_resets,
    written_rows,
)
from neuroactivity_torch.clock import Clock, warn_of_counts
from neuroactivity_torch.devices import whole
from neuroactivity_torch.measurements import Joined, Measurement, to_host
from neuroactivity_torch.optimizers import Stepper, cleared_moments
from neuroactivity_torch.parameters import UsedGradient, dense_gradient
from neuroactivity_torch.ranks import fingerprint
from neuroactivity_torch.rows import Entries, locate, overwrite_entries, shrink
from neuroactivity_torch.saving import SavedWrapper


class Resetter(SavedWrapper):
    """Measures and resets a model's neurons after every ``every``-th step of its optimizer."""

    _signal: Literal["weights", "activations"]
    """What neurons are scored by."""

    @abstractmethod
    def _signals(self) -> Mapping[str, Tensor | None]:
        """What the neurons that the optimizer trains are scored by, at this step."""

    def _magnitudes(self, signals: Mapping[str, Tensor | None], layout: na.Layout) -> dict[str, Tensor]:
        """Neurons' mean magnitudes at this step, or what a user's score says."""
        score, shapes, signal = self.options.score, self._score_shapes(layout), self._signal
        if score is None:
            return na.magnitudes(signals, layout, signal=signal)
        options: Any = {"signal": signal, "params": lambda: {n: whole(p.detach()) for n, p in self._params.items()}}
        signals = {name: None if value is None else whole(value) for name, value in signals.items()}
        return own_scores(score, signals, layout, shapes, **options)

    def _score_shapes(self, layout: na.Layout) -> dict[str, tuple[int, ...]]:
        shapes = {name: tuple(parameter.shape) for name, parameter in self._params.items()}
        return {name: group.bind(shapes).shape for name, group in layout.items()}

    @torch.no_grad()
    def _try_score(self, signals: Mapping[str, Tensor | None]) -> None:
        if self.options.score is not None:
            zeros = {name: x if x is None else torch.zeros_like(x) for name, x in signals.items()}
            Resetter._magnitudes(self, zeros, self._trained_layout)

    def _stepper(self, optimizer: Optimizer) -> Stepper:
        return next(stepper for stepper in self._steppers if stepper.optimizer is optimizer)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Keep what a step will change: where a reset was not long ago, and gradients that are to be scored."""
        stepper = self._stepper(optimizer)
        if self._clock:
            self._clock.before_step(stepper)
        if self._signal != "weights" or not self.options.collects_at(self.steps + 1) or not stepper.alters_gradients:
            return None
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            self._keep_gradients(stepper)
            return None

        def kept(*given: Any, **options: Any) -> Any:
            loss = closure(*given, **options)
            self._keep_gradients(stepper)
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": kept}
        return (args[0], kept, *args[2:]), kwargs

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Count a step, once every optimizer has taken it; measure and reset when one is due."""
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            why = "a CUDA graph captures its step, and no wrapper sees when it is replayed; step outside of the graph"
            raise RuntimeError(f"the optimizer cannot be followed: {why}, or detach() first")
        skipped = getattr(optimizer, "found_inf", None)  # a fused step that gradient scaling has called off
        if skipped is not None and float(skipped) > 0:
            return
        if self._clock:
            with undivided():
                self._clock.after_step(self._stepper(optimizer))
        stepper = self._stepper(optimizer)
        if not self._is_last(stepper):
            if self._signal == "weights" and not stepper.alters_gradients and self.options.collects_at(self.steps + 1):
                self._keep_gradients(stepper)
            return
        if not self._checked:
            self._look()
            self._check_writes()  # now that there is a state
            if self._writes and self.options.clock == "own":
                warn_of_counts(self._steppers, self._written())
            self._checked = True
        step, measured = self.steps + 1, self.measurements
        self.steps = step
        if not self.options.collects_at(step):
            self._memory.clear()
            return
        try:
            found = self._collect(step)
        except BaseException:
            self.steps -= self.measurements == measured  # an interrupt waits for all that is done at a step
            raise
        finally:
            self._gradients = {}
        if found is not None:
            self._tell(found)

    def _is_last(self, stepper: Stepper) -> bool:
        """Whether all optimizers have stepped now, each once, and on the gradients that are there.

        Gradient scaling may have called off the step of some only.
        """
        if len(self._steppers) == 1:
            return True
        optimizer = stepper.optimizer
        for number in stepper.holds() if self._gradients and not stepper.alters_gradients else ():
            self._gradients.pop(number, None)
        if id(optimizer) in self._stepped:
            self._stepped = {}
        self._stepped[id(optimizer)] = UsedGradient.of(optimizer)
        if len(self._stepped) == len(self._steppers):
            self._stepped = {number: used for number, used in self._stepped.items() if not used.is_over}
        if len(self._stepped) < len(self._steppers):
            return False
        self._stepped = {}
        return True

    def _keep_gradients(self, stepper: Stepper) -> None:
        """Keep the gradients that are scored: of several optimizers, one may clear its own before all have stepped."""
        scored = {view.param for group in self._trained_layout.values() for view in group.incoming}
        for name in scored if self.options.score is None else self._params:
            parameter = self._params[name]
            if id(parameter) in stepper.holds():
                value = dense_gradient(parameter)
                self._gradients[id(parameter)] = None if value is None else value.clone()

    @torch.no_grad()
    def _collect(self, step: int) -> Measurement | None:
        """Take what neurons are scored by; where a measurement is due, score those that are trained, and reset."""
        self._look()
        layout, signals = self._trained_layout, self._signals()
        own = self.options.score is None
        if own and self.options.batches == 1 and not (self._reads_outputs and self._ranks):
            return self._choose_and_reset(na.grama(signals, layout, signal=self._signal), step)
        sums, batches = self._memory.added(self._magnitudes(signals, layout))
        if is_due(step, every=self.options.every):
            found = {name: sums[name] if own else sums[name] / batches[name] for name in layout if name in sums}
            return self._choose_and_reset(na.scores(found) if own else found, step)
        self._memory.sums, self._memory.batches = sums, batches
        return None

    def _choose_and_reset(self, scores: Mapping[str, Tensor], step: int) -> Measurement:
        """Reset the neurons that are due, and count what was done."""
        options = self.options
        masks: dict[str, Tensor] = {}
        if self._writes and options.resets_at(step):
            due = {name: score for name, score in scores.items() if self._reported[name].resettable}
            ages = self._memory.seen(due).parts() if options.protect else {}
            masks = to_host(options.masks(due, {n: ages[n].to(score.device) for n, score in due.items() if n in ages}))
        scores = to_host(scores)
        chosen = before = since = Joined.of({})
        if self._writes:
            chosen, before, since = self._memory.chosen(scores, masks)
        found = Measurement(self._reported, options.tau, scores, chosen, before)
        with undivided():
            new = self._reset(found) if found.reset else ()
            self._memory.since = since
            self._memory.clear()
            self.measurements, self._latest = self.measurements + 1, found
            self.resets += bool(found.reset)
            self.neurons_reset += found.total.reset or 0
        if self._check_ranks and options.resets_at(step):
            self._compare_ranks(new)
        return found

    def _tell(self, found: Measurement) -> None:
        """Warn of what a measurement found, and pass its report on."""
        warn_of_alerts(found.judged(without=self._warned), self._warned, stacklevel=6)
        warn_of_resets(found.total, self._warned, stacklevel=6)
        if self.options.on_report is not None:
            self.options.on_report(found.report)

    @property
    def last_report(self) -> na.ActivityReport | None:
        """What the latest measurement found; ``None`` before the first."""
        return None if self._latest is None else self._latest.report

    def _reset(self, found: Measurement) -> Sequence[tuple[Rows, Entries, Tensor | float]]:
        """Reset the masked neurons: everything is built before a value is written, and all is written or none."""
        layout, params, outgoing = self._trained_layout, self._trained, self.options.outgoing
        shapes = {name: tuple(parameter.shape) for name, parameter in params.items()}
        located = locate(written_rows(found.reset, layout, shapes, outgoing=outgoing), params)
        drawn = self._fresh.drawn(located)
        values = self._fresh.draw_rows(self.resets + 1, drawn, params)
        fresh = dict(zip([id(each) for each, _ in drawn], values, strict=True))
        new: list[tuple[Rows, Entries, Tensor | float]] = []
        for each, entries in located:
            param, value = params[each.view.param], fresh.get(id(each), 0.0)
            if isinstance(value, Tensor) and each.role == "outgoing" and outgoing == "small":
                value = shrink(value, entries, param, found.masks.parts()[each.group].to(param.device), each)
            new.append((each, entries, value))
        written = [(params[each.view.param], entries, values) for each, entries, values in new]
        clock = self._started_clock(new) if self.options.clock == "own" else self._clock
        overwrite_entries([*written, *cleared_moments(self._steppers, params, new)])
        self._clock = clock
        return new

    def _compare_ranks(self, new: Sequence[tuple[Rows, Entries, Tensor | float]]) -> None:
        """Raise if the ranks have other parameters or moments, or have not written the same into sharded ones."""
        numbers = dict.fromkeys(self._written(), 0)
        for name, param in self._written().items():
            states = [value for stepper in self._steppers for _, value in stepper.state_of(param)]
            for value in (param, *states):
                if isinstance(value, Tensor) and not is_sharded(value):
                    numbers[name] = (31 * numbers[name] + fingerprint(value)) % 2**62
        for each, entries, values in new:
            for part in (entries.flat(), torch.as_tensor(values)):
                numbers[each.view.param] ^= fingerprint(part)
        differing = self._ranks.differing({**numbers, "the number of resets": self.resets})
        if differing:
            raise RuntimeError(f"check_ranks: the ranks have parted, step {self.steps}: they differ in {differing}")

    def _started_clock(self, new: Sequence[tuple[Rows, Entries, Tensor | float]]) -> Clock:
        """Return the clock when that of what a reset writes has started, where the optimizer corrects a bias."""
        corrected = self._corrected()
        written: dict[str, list[Tensor]] = {}
        for rows, entries, _ in new:
            written.setdefault(rows.view.param, []).append(entries.flat())
        trained = self._trained
        begun = {n: (trained[n], torch.unique(torch.cat(i))) for n, i in written.items() if id(trained[n]) in corrected}
        return self._clock.started(begun)

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
