"""What a wrapper remembers of its measurements, in variables that are saved with it."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity.report import build_report, latest_scalars, warn_of_alerts
from neuroactivity.wrapping import NEVER, advance, drawn_views, reset_before, warn_of_resets
from neuroactivity_tensorflow.clock import OwnClock, corrects_bias
from neuroactivity_tensorflow.parameters import tf_variable
from neuroactivity_tensorflow.saving import SavedWrapper


class Remembering(SavedWrapper):
    """A wrapper with its last measurement, its history of resets, and what is added up for the next score."""

    def _add_variables(self, reset: na.Layout) -> None:
        """Make the variables: counts, the last measurement, the snapshot, the history, the clocks."""
        state = self._state
        size = sum(int(np.prod(shape)) for shape in state.shapes.values())
        wide = any(variable.dtype == tf.float64 for variable in state.variables.values())
        floating = "float64" if wide else "float32"
        self._counts = self.add_variable((3,), dtype="int64", name="counts")
        self._scores = self.add_variable((size,), dtype=floating, name="scores")
        self._masks = self.add_variable((size,), dtype="bool", name="masks")
        self._present = self.add_variable((len(state.trained),), dtype="bool", name="present")
        self._add_snapshot(reset)
        first = len(self._variables)
        never = keras.initializers.Constant(NEVER)
        self._since = self.add_variable((size,), never, "int32", name="since")
        self._before = self.add_variable((size,), dtype="bool", name="before")
        self._sums = self.add_variable((size,), dtype=floating, name="sums")
        self._seen = self.add_variable((len(state.trained),), dtype="int32", name="seen")
        self._add_clocks(reset, size)
        state.newer = tuple([id(variable) for variable in self._variables[first:]])

    def _add_snapshot(self, reset: na.Layout) -> None:
        """Make variables for the initial values of what a reset draws anew."""
        state, self._snapshot = self._state, []
        shapes = {name: tuple(variable.shape) for name, variable in state.variables.items()}
        drawn = drawn_views(reset, shapes, outgoing=self.options.outgoing)
        names = list(drawn) if self.initializer == "snapshot" else []
        for name in names:
            variable, label = state.variables[name], f"{name.replace('/', '_')}_snapshot"
            start = keras.initializers.Constant(variable.numpy())
            self._snapshot.append(self.add_variable(variable.shape, start, variable.dtype.name, name=label))
        state.snapshot = {name: tf_variable(copy) for name, copy in zip(names, self._snapshot, strict=True)}

    def _add_clocks(self, reset: na.Layout, size: int) -> None:
        """Make the clock of each optimizer that needs one."""
        state, self._clocks, clocks = self._state, [], []
        if self.options.clock == "own":
            long_ago = keras.initializers.Constant(-NEVER)
            for member in state.members:
                if corrects_bias(member.optimizer):
                    born = self.add_variable((size,), long_ago, "int64", name="born")
                    latest = self.add_variable((), long_ago, "int64", name="latest")
                    self._clocks += [born, latest]
                    outgoing = self.options.outgoing
                    clocks.append(OwnClock(member, state.variables, reset, outgoing, state.split, born, latest))
        state.clocks = tuple(clocks)

    def _remember(
        self, scores: Mapping[str, Any], present: Any, masks: Mapping[str, Any]
    ) -> tuple[Any, list[tuple[Any, Any]]]:
        """Return the number of neurons to reset, and what is kept of a measurement, to be written."""
        state, since = self._state, self._state.split(tf_variable(self._since))
        mask = state.join(masks, tf.bool)
        number = tf.math.count_nonzero(mask)
        kept = [
            (self._counts, tf_variable(self._counts) + tf.stack([1, tf.cast(number > 0, tf.int64), number])),
            (self._scores, state.join(scores, tf_variable(self._scores).dtype)),
            (self._masks, mask),
            (self._present, present),
            (self._before, state.join(reset_before(since), tf.bool)),
            (self._since, state.join(advance(since, masks), tf.int32)),
        ]
        return number, [(tf_variable(variable), value) for variable, value in kept]

    @property
    def last_report(self) -> na.ActivityReport | None:
        """The latest report, read from the optimizer's variables; ``None`` before the first measurement.

        It warns of each group that cannot be judged, and of resets that do not last, once.
        """
        if not self.measurements:
            return None
        state = self._state
        present = dict(zip(state.trained, self._present.numpy(), strict=True))
        scores = {name: value for name, value in state.split(self._scores.numpy()).items() if present[name]}
        masks, before = state.split(self._masks.numpy()), state.split(self._before.numpy())
        report = build_report(scores, self.layout, self.options.tau, masks=masks, reset_before=before)
        warn_of_alerts(report, state.warned, stacklevel=2)
        warn_of_resets(report.total, state.warned, stacklevel=2)
        return report

    def scalars(self, prefix: str = "neuroactivity") -> dict[str, float]:
        """Return the latest report for a logger, with the same keys at any time.

        Args:
            prefix: What every key begins with.

        Returns:
            What :meth:`neuroactivity.ActivityReport.scalars` returns; NaN for groups that were not measured, and for
            everything before the first measurement.

        Example:
            >>> from neuroactivity_tensorflow import ReGraMa
            >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
            >>> regrama = ReGraMa(keras.optimizers.SGD(), model, max_fraction=0)
            >>> regrama.scalars("critic")["critic/0/inactive_fraction"]
            nan
        """
        return latest_scalars(self.last_report, self.layout, prefix)
