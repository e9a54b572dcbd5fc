"""The engine of ReGraMa and ReDo: an optimizer that delegates every step, counts, measures and resets."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal, Unpack

import keras
import tensorflow as tf

import neuroactivity as na
from neuroactivity.wrapping import (
    Options,
    ResetOptions,
    as_inputs,
    check_initializer,
    check_seed,
    drawn_views,
    is_due,
    own_scores,
    trained_groups,
    warn_of_spread,
    written_params,
)
from neuroactivity_tensorflow.claims import refuse_second_wrapper
from neuroactivity_tensorflow.clock import warn_of_counts
from neuroactivity_tensorflow.constraints import constrain, constraints_of, mark_constrained
from neuroactivity_tensorflow.graphs import check_one_strategy, check_scope, merge_replicas, number_of_replicas, on_host
from neuroactivity_tensorflow.initializers import FreshValues
from neuroactivity_tensorflow.layouts import layout_to_use
from neuroactivity_tensorflow.memory import Remembering
from neuroactivity_tensorflow.optimizers import Moment, check_moments, check_whole_steps, members_of, moments_of
from neuroactivity_tensorflow.parameters import Model, assign_all, dense_gradient, is_frozen, tf_variable, variables_of
from neuroactivity_tensorflow.rows import moment_patches, patches
from neuroactivity_tensorflow.slots import cleared_moments, members, used_gradients
from neuroactivity_tensorflow.state import BuildState, ModelRecord, remark_outsiders


class Resetter(Remembering):
    """Measures and resets a model's neurons after every ``every``-th step of the optimizer that it wraps."""

    _signal: Literal["weights", "activations"]
    _own_score: Callable[..., Any]

    def __init__(
        self,
        optimizer: Any,
        model: Model | ModelRecord,
        *,
        example_inputs: tuple[Any, ...] | Any = (),
        layout: na.Layout | None = None,
        tau: float = 0.01,
        moments: Mapping[str, Moment] | None = None,
        name: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        given: dict[str, Any] = {**options}
        initializer: Any = given.pop("initializer", "layer")
        seed = check_seed(given.pop("seed", 0))
        given["score"] = None if given.get("score") is self._own_score else given.get("score")
        checked = ResetOptions(tau=tau, **given)
        check_initializer(initializer, "layer", "snapshot")
        if (optimizer := keras.optimizers.get(optimizer)) is None:
            raise ValueError("optimizer: expected a Keras optimizer, got None")
        for member in members_of(optimizer) if checked.writes else ():
            moments_of(member, moments)  # raises if it is not known
        layout = layout_to_use(model, as_inputs(example_inputs), layout, writes=checked.writes)
        named: Mapping[str, Any] = {}
        if not isinstance(model, ModelRecord):
            named = variables_of(model)
            layout.validate(named)
            if checked.writes:
                layout = mark_constrained(layout, named)
                trained = [name for name, variable in named.items() if not is_frozen(variable)]
                trained_groups(layout, trained, writes=True)  # raises if a reader is frozen
                check_moments(moments, optimizer, [named[name] for name in trained])
            source: Any = initializer if checked.writes else "snapshot"
            model = ModelRecord.of(model, layout, source, outgoing=checked.outgoing)
        super().__init__(optimizer, name=name)
        self.layout, self.options, self._initializer, self._seed = layout, checked, initializer, seed
        self._state = BuildState(model, moments)
        check_one_strategy([self, *members_of(optimizer)], model.trained())
        self._warn_of_counts(stacklevel=2 + (type(self).__init__ is not Resetter.__init__))
        if self.score is not None and named and self._signal == "weights":
            zeros = {name: None if is_frozen(v) else tf.zeros_like(tf_variable(v)) for name, v in named.items()}
            self._own_scores(zeros, layout, named)
        refuse_second_wrapper(self, members_of(optimizer), model.written(layout) if checked.writes else ())

    def _own_scores(
        self, signals: Mapping[str, Any], layout: na.Layout, variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what a user's score says."""
        sizes = {name: tuple(variable.shape) for name, variable in variables.items()}
        shapes = {name: group.bind(sizes).shape for name, group in layout.items()}
        options: Any = {"signal": self._signal, "known": lambda x: tf.executing_eagerly()}
        options["params"] = lambda: {name: tf.convert_to_tensor(variable) for name, variable in variables.items()}
        return own_scores(self.score, signals, layout, shapes, **options)

    def _warn_of_counts(self, *, stacklevel: int) -> None:
        if self.options.writes and self.options.clock == "own":
            warn_of_counts(members_of(self.inner_optimizer), self._state.warned, stacklevel=stacklevel + 1)

    @abstractmethod
    def _measure(self, grads: Mapping[str, Any], trained: na.Layout, *, scored: bool) -> tuple[dict[str, Any], Any]:
        """Score the groups that this step trains, or return their magnitudes; say of all if there was anything.

        A user's scores are returned for both.
        """

    def _measured(self, signals: Mapping[str, Any], trained: na.Layout, *, scored: bool) -> dict[str, Any]:
        if self.score is not None:
            return self._own_scores(signals, trained, self._state.variables)
        return (na.grama if scored else na.magnitudes)(signals, trained, signal=self._signal)

    def build(self, variables: Sequence[Any]) -> None:
        """Build the inner optimizer and the wrapper's variables, and find the model's parameters in ``variables``."""
        if self.built:
            return
        with tf.init_scope():
            state = self._state
            named = state.record.bind(variables)
            state.variables = {name: tf_variable(variable) for name, variable in named.items()}
            check_one_strategy([self, *members_of(self.inner_optimizer)], state.variables.values())
            state.constraints = constraints_of(named)
            self.layout = remark_outsiders(self.layout, state.record) if self.options.writes else self.layout
            state.trained = trained_groups(self.layout, state.variables, writes=self.options.writes)
            shapes = {name: tuple(variable.shape) for name, variable in state.variables.items()}
            state.shapes = {name: group.bind(shapes).shape for name, group in state.trained.items()}
            state.writes, state.made_with = self.options.writes, (self.options.clock, self.options.outgoing)
            reset = state.trained if state.writes else na.Layout([])
            self.inner_optimizer.build(variables)
            state.members = members(self.inner_optimizer, state.moments) if reset else ()
            self._warn_of_counts(stacklevel=2)  # of members that are known now
            self._add_variables(reset)
            initializer, layers, outgoing = self.initializer, state.record.layers, self.options.outgoing
            kept, seed = state.snapshot, self.seed
            state.fresh = FreshValues(
                state.variables, reset, initializer, layers=layers, snapshot=kept, seed=seed, outgoing=outgoing
            )
            if initializer == "layer":
                fresh = state.fresh.draw(0, sorted(drawn_views(reset, shapes)))
                present = {name: tf_variable(state.variables[name]) for name in fresh}
                warn_of_spread(fresh, present, stacklevel=2)
            super().build(list(variables))

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Let the inner optimizer make the step, count it, and measure and reset when that is due."""
        check_scope(self)
        if not tf.executing_eagerly():
            self._state.compiled = True
            self._state.compiled_alone |= getattr(self._state.record.model, "train_function", None) is None
        grads = list(grads)
        if trainable_variables is not None:
            self.build(trainable_variables := list(trainable_variables))
        variables = trainable_variables or self._trainable_variables
        trained = self._groups_of_step(variables)
        if grads and self._state.snapshot:
            merge_replicas(self._take_snapshot, {})
        with ExitStack() as stack:
            for clock in self._state.clocks:
                stack.enter_context(clock)
            self.inner_optimizer.apply(grads, trainable_variables)
        if not grads:
            return
        self._iterations.assign_add(1)

        def used() -> dict[str, Any]:
            by_id = used_gradients(self.inner_optimizer, grads, variables)
            return {name: by_id.get(id(variable)) for name, variable in self._state.variables.items()}

        if number_of_replicas() > 1:  # where each clips its own gradients, which are summed afterwards
            merge_replicas(partial(self._measure_when_due, trained, None), used())
        else:
            merge_replicas(partial(self._measure_when_due, trained, used), {})

    def _groups_of_step(self, variables: Sequence[Any]) -> na.Layout:
        """Return the groups that a step trains: layers may have been frozen since the build."""
        state, trained = self._state, [variable for variable in variables if not is_frozen(variable)]
        if self.options.writes and not state.writes:
            raise ValueError("max_fraction: this wrapper was built with 0, only to measure; make another one to reset")
        if (self.options.clock, self.options.outgoing) != state.made_with:
            clock, outgoing = state.made_with
            raise ValueError(f"this wrapper was built with {clock=}, {outgoing=}; make another one to change that")
        for member in state.members:
            check_whole_steps(member.optimizer)
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

    def _measure_when_due(
        self,
        trained: na.Layout,
        used: Callable[[], Mapping[str, Any]] | None,
        grads: Mapping[str, Any],
        summed: Callable[[Any], Any],
    ) -> None:
        """Measure and reset if a measurement is due, with the gradients of all replicas, or of the only one."""

        def collect() -> None:
            variables = self._state.variables
            self._state.check_model()
            found = used() if used else {name: summed(gradient) for name, gradient in grads.items()}
            dense = {name: dense_gradient(gradient, variables[name]) for name, gradient in found.items()}
            if int(self.options.batches) > 1:
                self._add_up(dense, trained)
            else:
                self._choose_and_reset(*self._measure(dense, trained, scored=True), trained)

        tf.cond(self.options.collects_at(tf_variable(self._iterations)), collect, lambda: None)

    def _add_up(self, grads: Mapping[str, Any], trained: na.Layout) -> None:
        """Add magnitudes to those of other batches; where a measurement is due, score the sums.

        Of a user's scores the mean counts, over the batches that have them.
        """
        state, own = self._state, self.score is None
        magnitudes, present = self._measure(grads, trained, scored=False)
        places = {name: place for place, name in enumerate(state.trained)}
        held, seen = tf_variable(self._sums), tf_variable(self._seen)
        magnitudes = {name: tf.where(present[places[name]], value, 0) for name, value in magnitudes.items()}
        sums, batches = held + state.join(magnitudes, held.dtype), seen + tf.cast(present, seen.dtype)

        def score() -> None:
            found = {name: value for name, value in state.split(sums).items() if name in trained}
            number = {name: tf.cast(batches[places[name]], held.dtype) for name in found}
            scores = na.scores(found) if own else {name: value / number[name] for name, value in found.items()}
            nan = tf.constant(float("nan"), held.dtype)
            scores = {name: tf.where(number[name] > 0, value, nan) for name, value in scores.items()}
            scored = (batches > 0) & [name in trained for name in state.trained]
            cleared = [(held, tf.zeros_like(sums)), (seen, tf.zeros_like(batches))]
            self._choose_and_reset(scores, scored, trained, *cleared)

        due = is_due(tf_variable(self._iterations), every=self.options.every)
        tf.cond(due, score, lambda: assign_all([(held, sums), (seen, batches)]))

    def _choose_and_reset(self, scores: Mapping[str, Any], present: Any, trained: na.Layout, *cleared: Any) -> None:
        """Reset inactive neurons, and keep the outcome for the report; ``cleared`` is written with it."""
        state, options = self._state, self.options
        allowed = tf.convert_to_tensor(options.resets_at(tf_variable(self._iterations)))
        since = state.split(tf_variable(self._since)) if options.protect else {}
        masks = {n: mask & allowed for n, mask in options.masks(scores, since).items() if trained[n].resettable}
        number, pairs = self._remember(scores, present, masks)
        kept = [*pairs, *cleared]

        def reset() -> None:
            mask = state.join(masks, tf.bool)
            clocks = [pair for clock in state.clocks for pair in clock.start(mask)]
            assign_all(self._reset(masks, trained) + clocks + kept)

        if masks and options.writes:
            tf.cond(number > 0, reset, lambda: assign_all(kept))
        else:
            assign_all(kept)
        if self.on_report is not None:
            read = [tf.convert_to_tensor(tf_variable(self._iterations)), *(tf.convert_to_tensor(v) for v, _ in pairs)]
            on_host(self._report, read, [], what="on_report")

    def _reset(self, masks: Mapping[str, Any], trained: na.Layout) -> list[tuple[Any, Any]]:
        """Compute what a reset of the masked neurons writes, in eager code the rows alone; nothing is written yet."""
        state, outgoing = self._state, self.options.outgoing
        assert state.fresh is not None
        event, names = tf_variable(self._counts)[1] + 1, sorted(written_params(masks, trained, outgoing=outgoing))
        if tf.executing_eagerly() and not state.constraints.keys() & set(names):
            parts = patches(masks, trained, state.variables, state.fresh.drawer(event, names), outgoing)
            written = [(state.variables[name], values) for name, values in parts.items()]
            return written + moment_patches(state.members, state.variables, parts)
        params = {name: tf.convert_to_tensor(state.variables[name]) for name in written_params(masks, trained)}
        fresh = state.fresh.draw(event, names)
        new = na.reset(params, fresh, masks, trained, outgoing=outgoing)
        new = constrain(state.constraints, {name: new[name] for name in names}, params)
        pairs = [(state.variables[name], value) for name, value in new.items()]
        return pairs + cleared_moments(state.members, state.variables, new, masks, trained, outgoing=outgoing)

    def _report(self, *kept: Any) -> list[Any]:
        self.options.on_report(self.last_report)  # type: ignore[misc]
        return []
