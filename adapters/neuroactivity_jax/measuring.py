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
from neuroactivity.report import build_report
from neuroactivity.wrapping import ResetOptions, advance, reset_before, unprotected
from neuroactivity_jax.conditions import number_of_run
from neuroactivity_jax.parameters import as_jax

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


@dataclass(frozen=True)
class Measuring:
    """Scores neurons, and chooses those that are reset.

    Args:
        layout: The neuron groups.
        options: When to measure, and what to reset.
        by_activations: Whether neurons are scored by their activations instead of their gradients.
    """

    layout: na.Layout
    options: ResetOptions
    by_activations: bool

    def measure(self, records: Records, signal: Signal, due: Array, step: Array) -> tuple[Records, dict[str, Array]]:
        """Score the neurons of each run that is due.

        Args:
            records: What is remembered.
            signal: Gradients, or activations.
            due: Whether a measurement is due; if not, magnitudes are added up.
            step: Number of the update.

        Returns:
            What is remembered now, and the masks of the neurons to reset, all False for a run that is not due.
        """
        arrays = as_jax(signal() if callable(signal) else signal)
        scores, magnitudes = self._scores(arrays, records.magnitudes, due, step)
        before = reset_before(records.since)
        masks = self._masks(scores, records.since, due, step)
        if self.options.on_report is not None:
            again = {name: before[name] for name in scores}
            jax.debug.callback(self._report, due, number_of_run(due, scores), scores, masks, again)
        marked = sum([jnp.sum(mask, dtype=jnp.int32) for mask in masks.values()], jnp.int32(0))

        def latest(new: Mapping[str, Array], old: Mapping[str, Array]) -> dict[str, Array]:
            measured = {name: due & (scores[name] != NOT_ADDED).all() for name in scores}
            return {
                name: jnp.where(measured[name], new[name], was).astype(was.dtype) if name in scores else was
                for name, was in old.items()
            }

        since = advance(records.since, masks)
        records = Records(
            magnitudes=magnitudes,
            masks=latest(masks, records.masks),
            measurements=records.measurements + due,
            neurons_reset=records.neurons_reset + marked,
            reset_before=latest(before, records.reset_before),
            resets=records.resets + (marked > 0),
            scores=latest(scores, records.scores),
            since={name: jnp.where(due, since[name], was) for name, was in records.since.items()},
        )
        return records, masks

    def _scores(
        self, arrays: dict[str, Any], sums: dict[str, Array], due: Array, step: Array
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Score this batch, or the last batches together; also return the sums of magnitudes so far.

        Where no batch had a group, its scores are all :data:`NOT_ADDED`.
        """
        if self.options.batches == 1:
            score = na.tau_dormant if self.by_activations else na.grama
            return score(arrays, self.layout), sums
        kind: Any = "activations" if self.by_activations else "weights"
        added = na.magnitudes(arrays, self.layout, signal=kind)
        collects = self.options.collects_at(step)
        total = {
            name: jnp.where(was == NOT_ADDED, added.get(name, was), was + added.get(name, 0))
            for name, was in sums.items()
        }
        total = {name: jnp.where(collects, value, sums[name]).astype(sums[name].dtype) for name, value in total.items()}
        scores = na.scores(total)
        scores = {name: jnp.where(total[name] == NOT_ADDED, NOT_ADDED, score) for name, score in scores.items()}
        return scores, {name: jnp.where(due, NOT_ADDED, value) for name, value in total.items()}

    def _masks(self, scores: dict[str, Array], since: dict[str, Array], due: Array, step: Array) -> dict[str, Array]:
        """Choose the neurons to reset."""
        allowed = due & self.options.resets_at(step)
        masks = {
            name: mask & allowed & (scores[name] != NOT_ADDED).all() & self.layout[name].resettable
            for name, mask in self.options.masks(scores).items()
        }
        return unprotected(masks, since, int(self.options.protect)) if self.options.protect else masks

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
