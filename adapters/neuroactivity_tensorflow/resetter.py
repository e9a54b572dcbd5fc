"""The engine of ReGraMa and ReDo: an optimizer that delegates every step, counts, measures and resets."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, SupportsIndex

import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity.report import build_report, warn_of_alerts
from neuroactivity.wrapping import (
    ResetOptions,
    as_inputs,
    check_initializer,
    check_seed,
    is_due,
    trained_groups,
    warn_of_spread,
    written_params,
)
from neuroactivity_tensorflow.constraints import constrain, constraints_of, mark_constrained
from neuroactivity_tensorflow.graphs import merge_replicas, on_host
from neuroactivity_tensorflow.initializers import FreshValues, Initializer
from neuroactivity_tensorflow.layouts import layout_to_use
from neuroactivity_tensorflow.optimizers import Moment, members_of, moments_of
from neuroactivity_tensorflow.parameters import Model, assign_all, dense_gradient, is_frozen, tf_variable, variables_of
from neuroactivity_tensorflow.saving import SavedWrapper
from neuroactivity_tensorflow.slots import cleared_moments, members, unscale_and_clip
from neuroactivity_tensorflow.state import BuildState, ModelRecord, refuse_second_wrapper, remark_outsiders


class Resetter(SavedWrapper):
    """Measures and resets a model's neurons after every ``every``-th step of the optimizer that it wraps."""

    def __init__(
        self,
        optimizer: Any,
        model: Model | ModelRecord,
        *,
        example_inputs: tuple[Any, ...] | Any = (),
        layout: na.Layout | None = None,
        tau: float = 0.01,
        every: SupportsIndex = 1000,
        max_fraction: float | None = None,
        reset_silent: bool = False,
        initializer: Initializer = "layer",
        moments: Mapping[str, Moment] | None = None,
        seed: int = 0,
        on_report: Callable[[na.ActivityReport], None] | None = None,
        name: str | None = None,
    ) -> None:
        options = ResetOptions(
            tau=tau, every=every, max_fraction=max_fraction, reset_silent=reset_silent, on_report=on_report
        )
        check_initializer(initializer, "layer", "snapshot")
        seed = check_seed(seed)
        optimizer = keras.optimizers.get(optimizer)
        for member in members_of(optimizer) if options.writes else ():
            moments_of(member, moments)  # raises if it is not known
        layout = layout_to_use(model, as_inputs(example_inputs), layout, writes=options.writes)
        if not isinstance(model, ModelRecord):
            layout.validate(variables_of(model))
            layout = mark_constrained(layout, variables_of(model)) if options.writes else layout
            model = ModelRecord.of(model, layout, initializer if options.writes else "snapshot")
        super().__init__(optimizer, name=name)
        self.layout, self.options, self.initializer, self.seed = layout, options, initializer, seed
        self._state = BuildState(model, moments)
        refuse_second_wrapper(self, members_of(optimizer), model.written(layout) if options.writes else ())

    @abstractmethod
    def _measure(self, grads: Mapping[str, Any], trained: na.Layout) -> tuple[dict[str, Any], Any]:
        """Score the groups that this step trains; say of all groups whether there was anything to score."""

    def build(self, variables: Sequence[Any]) -> None:
        """Build the inner optimizer and the wrapper's variables, and find the model's parameters in ``variables``."""
        if self.built:
            return
        with tf.init_scope():
            state = self._state
            named = state.record.bind(variables)
            state.variables = {name: tf_variable(variable) for name, variable in named.items()}
            state.constraints = constraints_of(named)
            self.layout = remark_outsiders(self.layout, state.record) if self.options.writes else self.layout
            state.trained = trained_groups(self.layout, state.variables, writes=self.options.writes)
            shapes = {name: tuple(variable.shape) for name, variable in state.variables.items()}
            state.shapes = {name: group.bind(shapes).shape for name, group in state.trained.items()}
            state.writes = self.options.writes
            reset = state.trained if state.writes else na.Layout([])
            self.inner_optimizer.build(variables)
            state.members = members(self.inner_optimizer, state.moments) if reset else ()
            self._add_variables(reset)
            layers, snapshot = state.record.layers, state.snapshot
            state.fresh = FreshValues(
                state.variables, reset, self.initializer, layers=layers, snapshot=snapshot, seed=self.seed
            )
            if self.initializer == "layer":
                views = [v for g in reset.values() if g.resettable for v in g.incoming + g.unscored]
                fresh = state.fresh.draw(0, sorted({view.param for view in views}))
                present = {name: tf_variable(state.variables[name]) for name in fresh}
                warn_of_spread(fresh, present, stacklevel=3)
            super().build(list(variables))

    def _add_variables(self, reset: na.Layout) -> None:
        """Make the variables that are saved with the optimizer: counts, the last measurement, the snapshot."""
        state = self._state
        size = sum(int(np.prod(shape)) for shape in state.shapes.values())
        wide = any(variable.dtype == tf.float64 for variable in state.variables.values())
        self._counts = self.add_variable((3,), dtype="int64", name="counts")
        self._scores = self.add_variable((size,), dtype="float64" if wide else "float32", name="scores")
        self._masks = self.add_variable((size,), dtype="bool", name="masks")
        self._present = self.add_variable((len(state.trained),), dtype="bool", name="present")
        groups = [group for group in reset.values() if group.resettable] if self.initializer == "snapshot" else []
        names = list(dict.fromkeys(view.param for group in groups for view in group.incoming + group.unscored))
        self._snapshot = []
        for name in names:
            variable, label = state.variables[name], f"{name.replace('/', '_')}_snapshot"
            start = keras.initializers.Constant(variable.numpy())
            self._snapshot.append(self.add_variable(variable.shape, start, variable.dtype.name, name=label))
        state.snapshot = {name: tf_variable(copy) for name, copy in zip(names, self._snapshot, strict=True)}

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Let the inner optimizer make the step, count it, and measure and reset when that is due."""
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            self.build(trainable_variables)
        variables = trainable_variables or self._trainable_variables
        trained = self._groups_of_step(variables)
        if grads and self._state.snapshot:
            merge_replicas(self._take_snapshot, {})
        self.inner_optimizer.apply(grads, trainable_variables)
        if not grads:
            return
        self._iterations.assign_add(1)
        by_id = {id(tf_variable(variable)): gradient for variable, gradient in zip(variables, grads, strict=True)}
        named = {name: by_id.get(id(variable)) for name, variable in self._state.variables.items()}
        merge_replicas(partial(self._measure_when_due, trained), named)

    def _groups_of_step(self, variables: Sequence[Any]) -> na.Layout:
        """Return the groups that a step trains: layers may have been frozen since the build."""
        state, trained = self._state, [variable for variable in variables if not is_frozen(variable)]
        if self.options.writes and not state.writes:
            raise ValueError("max_fraction: this wrapper was built with 0, only to measure; make another one to reset")
        ids = {id(tf_variable(variable)) for variable in trained}
        names = [name for name, variable in state.variables.items() if id(variable) in ids]
        if len(names) == len(state.variables):
            return state.trained
        return trained_groups(self.layout, names, writes=self.options.writes, by="step")

    def _take_snapshot(self, grads: Mapping[str, Any], summed: Callable[[Any], Any]) -> None:
        """Take the snapshot before the first step: weights may have been loaded since the build."""

        def take() -> None:
            for name, copy in self._state.snapshot.items():
                copy.assign(tf.convert_to_tensor(self._state.variables[name]))

        tf.cond(tf.equal(tf_variable(self._iterations), 0), take, lambda: None)

    def _measure_when_due(self, trained: na.Layout, grads: Mapping[str, Any], summed: Callable[[Any], Any]) -> None:
        """Measure and reset if a measurement is due, with the gradients of all replicas."""

        def measure_and_reset() -> None:
            variables = self._state.variables
            self._state.check_model()
            dense = {name: dense_gradient(summed(gradient), variables[name]) for name, gradient in grads.items()}
            self._measure_and_reset(unscale_and_clip(self.inner_optimizer, dense, variables), trained)

        tf.cond(is_due(tf_variable(self._iterations), every=self.options.every), measure_and_reset, lambda: None)

    def _measure_and_reset(self, grads: Mapping[str, Any], trained: na.Layout) -> None:
        """Measure, reset inactive neurons, and keep the outcome for the report."""
        state = self._state
        scores, present = self._measure(grads, trained)
        masks = self.options.masks(scores)
        resettable = {name: mask for name, mask in masks.items() if trained[name].resettable}
        count = tf.math.count_nonzero(state.join(resettable, tf.bool))
        counts = tf_variable(self._counts) + tf.stack([1, tf.cast(count > 0, tf.int64), count])
        kept = (self._counts, self._scores, self._masks, self._present)
        new = (counts, state.join(scores, tf_variable(self._scores).dtype), state.join(masks, tf.bool), present)
        pairs = list(zip(map(tf_variable, kept), new, strict=True))
        if resettable and self.options.writes:
            tf.cond(count > 0, lambda: assign_all(self._reset(resettable, trained) + pairs), lambda: assign_all(pairs))
        else:
            assign_all(pairs)
        if self.on_report is not None:
            read = [tf.convert_to_tensor(tf_variable(variable)) for variable in (self._iterations, *kept)]
            on_host(self._report, read, [], what="on_report")

    def _reset(self, masks: Mapping[str, Any], trained: na.Layout) -> list[tuple[Any, Any]]:
        """Compute what a reset of the masked neurons writes; nothing is written yet."""
        state = self._state
        assert state.fresh is not None
        names = written_params(masks, trained)
        params = {name: tf.convert_to_tensor(state.variables[name]) for name in names}
        fresh = state.fresh.draw(tf_variable(self._counts)[1] + 1, sorted(names))
        new = constrain(state.constraints, na.reset(params, fresh, masks, trained), params)
        pairs = [(state.variables[name], value) for name, value in new.items()]
        return pairs + cleared_moments(state.members, state.variables, new, masks, trained)

    def _report(self, *kept: Any) -> list[Any]:
        self.options.on_report(self.last_report)  # type: ignore[misc]
        return []

    @property
    def last_report(self) -> na.ActivityReport | None:
        """The latest report, read from the optimizer's variables; ``None`` before the first measurement.

        It warns of each group that cannot be judged, once.
        """
        if not self.measurements:
            return None
        state = self._state
        present = dict(zip(state.trained, self._present.numpy(), strict=True))
        scores = {name: value for name, value in state.split(self._scores.numpy()).items() if present[name]}
        report = build_report(scores, self.layout, self.options.tau, masks=state.split(self._masks.numpy()))
        warn_of_alerts(report, state.warned, stacklevel=2)
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
        totals = ("inactive_fraction", "neurons", "inactive", "reset", "silent", "nonfinite")
        names = [*(f"{name}/inactive_fraction" for name in self.layout), *totals]
        report = self.last_report
        return {f"{prefix}/{name}": math.nan for name in names} | (report.scalars(prefix) if report else {})
