"""Scores of one or several batches, the neurons that are to be reset, and when each was."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import neuroactivity as na
from neuroactivity.arrays import Arrays
from neuroactivity.report import build_report
from neuroactivity.wrapping import ResetOptions, advance, own_scores, reset_before
from neuroactivity_jax.conditions import number_of_run
from neuroactivity_jax.parameters import PyTree, as_jax, parameters

Signal = Mapping[str, Array | None] | Callable[[], Mapping[str, Array | None]]

NOT_ADDED = -1.0
"""The sum of no magnitudes; magnitudes are zero or more, or NaN."""


class Records(NamedTuple):
    """What is remembered of measurements, as in :class:`ActivityState`."""

    magnitudes: dict[str, Array]
    masks: dict[str, Array]
    measurements: Array
    neurons_reset: Array
    reset_before: dict[str, Array]
    resets: Array
    scores: dict[str, Array]
    since: dict[str, Array]


class Measurement(NamedTuple):
    """Scores, the magnitudes added up so far, and the neurons to reset, all False for a run that is not due."""

    scores: dict[str, Array]
    magnitudes: dict[str, Array]
    masks: dict[str, Array]


@dataclass(frozen=True)
class Measuring:
    """Scores neurons, and chooses those that are reset.

    Args:
        layout: The neuron groups.
        options: When to measure, and what to reset.
        by_activations: Whether neurons are scored by their activations instead of their gradients.
        params: The parameters, or None where nothing is reset.
    """

    layout: na.Layout
    options: ResetOptions
    by_activations: bool
    params: PyTree

    def try_score(self, like: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Call a user's score of gradients once, with zeros, so that what is wrong with it shows now.

        Args:
            like: Arrays of the shapes of the gradients.
            shapes: The shapes of the scores.
        """
        if not (self.options.score is None or self.by_activations):
            with jax.ensure_compile_time_eval():
                zeros = {name: x if x is None else jnp.zeros_like(x) for name, x in like.items()}
                self._own_scores(zeros, shapes)

    def _own_scores(self, arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array] | None:
        """Return what a user's score says, if there is one."""
        if self.options.score is None:
            return None

        def named() -> Arrays:
            if self.params is None:
                raise ValueError("params: the score takes them; call update(grads, state, params)")
            return as_jax(parameters(self.params))

        kind: Any = "activations" if self.by_activations else "weights"
        options: Any = {"signal": kind, "params": named, "known": lambda x: not isinstance(x, jax.core.Tracer)}
        return own_scores(self.options.score, arrays, self.layout, shapes, **options)

    def measure(self, records: Records, signal: Signal, due: Array, step: Array) -> Measurement:
        """Score the neurons of each run that is due.

        Args:
            records: What is remembered.
            signal: Gradients, or activations.
            due: Whether a measurement is due; if not, magnitudes are added up.
            step: Number of the update.
        """
        arrays = as_jax(signal() if callable(signal) else signal)
        own = self._own_scores(arrays, {name: was.shape for name, was in records.scores.items()})
        scores, magnitudes = self._scores(arrays, own, records.magnitudes, due, step)
        return Measurement(scores, magnitudes, self._masks(scores, records.since, due, step))

    def remember(self, records: Records, measurement: Measurement, due: Array) -> Records:
        """Return what is remembered after a measurement, and hand its report to the user's function.

        Args:
            records: What was remembered before it.
            measurement: What was measured, with the masks of the neurons that were reset.
            due: Whether a measurement was due.
        """
        scores, magnitudes, masks = measurement
        before = reset_before(records.since)
        if self.options.on_report is not None:
            jax.debug.callback(self._report, due, number_of_run(due, scores), scores, masks, before)
        marked = sum([jnp.sum(mask, dtype=jnp.int32) for mask in masks.values()], jnp.int32(0))

        def latest(new: Mapping[str, Array], old: Mapping[str, Array]) -> dict[str, Array]:
            measured = {name: due & (scores[name] != NOT_ADDED).all() for name in scores}
            return {
                name: jnp.where(measured[name], new[name], was).astype(was.dtype) if name in scores else was
                for name, was in old.items()
            }

        since = advance(records.since, masks)
        return Records(
            magnitudes=magnitudes,
            masks=latest(masks, records.masks),
            measurements=records.measurements + jnp.int32(due),
            neurons_reset=records.neurons_reset + marked,
            reset_before=latest(before, records.reset_before),
            resets=records.resets + jnp.int32(marked > 0),
            scores=latest(scores, records.scores),
            since={name: jnp.where(due, since[name], was) for name, was in records.since.items()},
        )

    def _scores(
        self, arrays: dict[str, Any], own: dict[str, Array] | None, sums: dict[str, Array], due: Array, step: Array
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Score this batch, or the last batches together; also return the sums of magnitudes so far.

        Of a user's scores the mean so far takes the place of sums. Where no batch had a group, its scores are all
        :data:`NOT_ADDED`.
        """
        kind: Any = "activations" if self.by_activations else "weights"
        if self.options.batches == 1:
            return na.grama(arrays, self.layout, signal=kind) if own is None else own, sums
        added = na.magnitudes(arrays, self.layout, signal=kind) if own is None else own
        collects = self.options.collects_at(step)

        def joined(was: Array, new: Array) -> Array:
            more = was + new if own is None else was + (new - was) / jnp.asarray(self.options.batch_at(step), new.dtype)
            return jnp.where(was == NOT_ADDED, new, more)

        total = {name: joined(was, added[name]) if name in added else was for name, was in sums.items()}
        total = {name: jnp.where(collects, value, sums[name]).astype(sums[name].dtype) for name, value in total.items()}
        scores = na.scores(total) if own is None else total
        scores = {name: jnp.where(total[name] == NOT_ADDED, NOT_ADDED, score) for name, score in scores.items()}
        return scores, {name: jnp.where(due, NOT_ADDED, value) for name, value in total.items()}

    def _masks(self, scores: dict[str, Array], since: dict[str, Array], due: Array, step: Array) -> dict[str, Array]:
        """Choose the neurons to reset."""
        allowed = due & self.options.resets_at(step)
        return {
            name: mask & allowed & (scores[name] != NOT_ADDED).all() & self.layout[name].resettable
            for name, mask in self.options.masks(scores, since).items()
        }

    def _report(
        self,
        due: Any,
        run: Any,
        scores: Mapping[str, Any],
        masks: Mapping[str, Any],
        before: Mapping[str, Any],
    ) -> None:
        """Call the user's function on the host, for a run that is due."""
        if due and self.options.on_report is not None:
            scores, masks, before = jax.tree.map(np.asarray, (scores, masks, before))
            measured = {name: score for name, score in scores.items() if (score != NOT_ADDED).all()}
            masks, before = ({name: of[name] for name in measured} for of in (masks, before))
            report = build_report(measured, self.layout, self.options.tau, masks=masks, reset_before=before)
            self.options.on_report(report if run < 0 else dataclasses.replace(report, run=int(run)))


def score_dtype(group: na.NeuronGroup, arrays: Mapping[str, Array]) -> Any:
    """Return the precision of a group's scores."""
    return jnp.result_type(jnp.float32, *[arrays[view.param].dtype for view in group.incoming if view.param in arrays])
