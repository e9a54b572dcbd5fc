"""The engine of regrama and redo: it measures a model's neurons, and resets them in the updates of its optimizer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import Array

import neuroactivity as na
from neuroactivity.wrapping import (
    NEVER,
    is_due,
    written_params,
)
from neuroactivity_jax.attaching import Attached
from neuroactivity_jax.bias import BiasCorrection
from neuroactivity_jax.clock import NOBODY, Ages, OwnClock, any_young, start_ages
from neuroactivity_jax.conditions import if_any
from neuroactivity_jax.drawing import needed_params
from neuroactivity_jax.manual import check_same, varying_as
from neuroactivity_jax.measuring import NOT_ADDED, Measuring, Records, score_dtype
from neuroactivity_jax.nesting import around
from neuroactivity_jax.optimizers import reinit_state, state_owners, written_mask
from neuroactivity_jax.parameters import PyTree, arrays_of, as_jax, form_of, parameters, replace, shapes_of, widened
from neuroactivity_jax.sharding import automatic
from neuroactivity_jax.state import (
    COUNTS,
    NOT_MEASURED,
    ActivityState,
    check_form,
    has_clock,
    placeholder,
    scored_by,
)

Activations: TypeAlias = Mapping[str, Array | None] | Callable[[], Mapping[str, Array | None]]
"""Neuron outputs by group name, or a function that computes them, called only when a measurement is due."""


class _CondCarry(NamedTuple):
    """What a measurement may change, and nothing else, since a condition copies what passes through it."""

    updates: PyTree
    inner_state: PyTree
    ages: Ages
    records: Records


class Resetter(Attached):
    """Measures and resets a model's neurons at every ``every``-th update of its optimizer."""

    def init(self, params: PyTree) -> ActivityState:
        """Start, and check what can be checked before the first update."""
        if type(params).__module__.startswith("optax."):  # what stands in for parameters in tree_map_params
            layout = self._started[-1] if self._started else self.layout
            return placeholder(self.inner.init(params), layout, self.options, callable(self.fresh.initializer))
        layout, arrays = self._trained_groups(params), parameters(params)
        self._started[:] = [layout]
        with around(written_params(layout, layout) if self.options.writes else ()):
            inner_state = self.inner.init(params)
        snapshot, shapes = dict[str, Array](), shapes_of(arrays)
        if self.options.writes:
            snapshot = self.fresh.snapshot(arrays, self._drawn_views(params, layout))
            self._drawn.add((form_of(params), *sorted(snapshot)))
            state_owners(inner_state, params)
        groups = {name: group.bind(shapes).shape for name, group in layout.items()}
        dtypes = {name: score_dtype(group, arrays) for name, group in layout.items()}
        ages = Ages(jnp.full((1, 1), NOBODY, jnp.int32), {})
        if has_clock(self.options):
            ages = start_ages(self._bias_correction(params, {}), int(self.options.every), groups)
        collected = groups if self.options.batches != 1 else {}
        Measuring(layout, self.options, self.by_activations, params).try_score(arrays_of(params, self.layout), groups)
        state = ActivityState(
            inner_state=inner_state,
            **{name: jnp.zeros((), jnp.int32) for name in COUNTS},  # one array each, so that the state can be donated
            **ages._asdict(),
            tau=jnp.asarray(self.options.tau, jnp.float32),
            scores={name: jnp.full(shape, NOT_MEASURED, dtypes[name]) for name, shape in groups.items()},
            magnitudes={name: jnp.full(shape, NOT_ADDED, dtypes[name]) for name, shape in collected.items()},
            masks={name: jnp.zeros(shape, bool) for name, shape in groups.items()},
            reset_before={name: jnp.zeros(shape, bool) for name, shape in groups.items()},
            score=scored_by(self.options),
            since={name: jnp.full(shape, NEVER, jnp.int32) for name, shape in groups.items()},
            key=self.fresh.key_data(),
            snapshot=snapshot,
        )
        return varying_as(state, params)

    def update(
        self,
        updates: PyTree,
        state: ActivityState,
        params: PyTree | None = None,
        *,
        activations: Activations | None = None,
        only_inner: bool = False,
        **extra: Any,
    ) -> tuple[PyTree, ActivityState]:
        """Update with the wrapped optimizer; measure and reset when that is due.

        With ``only_inner``, which a wrapper around this one asks for, only the wrapped optimizer updates.
        """
        extra |= {} if activations is None else {"activations": activations}  # redo may be further inside
        if params is None and self.options.writes:
            raise ValueError("params: a reset needs the parameters; call update(grads, state, params)")
        if only_inner:
            updates, inner_state = self._update_inner(updates, state.inner_state, params, extra)
            return updates, state._replace(inner_state=inner_state)
        if self.by_activations and activations is None:
            raise ValueError("activations: redo needs them; call update(grads, state, params, activations=...)")
        known = updates if params is None else params  # where nothing is reset, gradients tell all shapes
        layout, grads = self._trained_groups(known), updates
        correction = self._bias_correction(known, extra) if has_clock(self.options) else None
        clocks = 0 if correction is None else len(correction.counts)
        check_form(state, layout, parameters(known), self.options, clocks)
        before = state.inner_state
        updates, inner_state = self.inner.update(grads, before, params, **extra)
        if self.options.writes:
            updates = widened(updates, params)
            self._check_writes(updates, state, params, layout)
            self._check_frozen(params, layout, extra)
        state = state._replace(inner_state=inner_state, steps=state.steps + 1)
        clock: Any = None if correction is None or not correction.effective else correction
        records = Records(**{name: getattr(state, name) for name in Records._fields})
        carry = _CondCarry((), (), Ages(state.born, state.young), records)
        carry = carry._replace(updates=updates, inner_state=inner_state) if self.options.writes else carry
        due = is_due(state.steps, every=self.options.every)
        collects = due if self.options.batches == 1 else self.options.collects_at(state.steps)
        signal: Any = activations if self.by_activations else arrays_of(grads, self.layout)

        def grow(carry: _CondCarry) -> _CondCarry:
            grown = partial(self._grown, partial(self._clock, clock, layout))
            return automatic(grown, carry, carry, extra, grads, before, params, due)

        def measure(carry: _CondCarry) -> _CondCarry:
            arrays = signal() if callable(signal) else signal
            if self.options.writes:
                check_same(params, arrays, layout, by_activations=self.by_activations)
            return automatic(partial(self._measured, layout, clock), carry, carry, arrays, due, state, params)

        def work() -> _CondCarry:
            moved = if_any(young, lambda: grow(carry), carry) if clock else carry
            return if_any(collects, lambda: measure(moved), moved) if clock else measure(moved)

        young = any_young(state.born) if clock else jnp.asarray(False)
        after = if_any(collects | young, work, carry)
        if self.options.writes:
            updates, state = after.updates, state._replace(inner_state=after.inner_state, **after.ages._asdict())
        tau = jnp.asarray(self.options.tau, jnp.float32)  # of this wrapper, which may not have made the state
        return updates, state._replace(tau=varying_as(tau, state.tau), **after.records._asdict())

    def _measured(
        self,
        layout: na.Layout,
        clock: BiasCorrection | None,
        carry: _CondCarry,
        signal: Mapping[str, Any],
        due: Array,
        state: ActivityState,
        params: PyTree,
    ) -> _CondCarry:
        """Measure, and reset what is to be reset."""
        measuring = Measuring(layout, self.options, self.by_activations, params)
        measured = measuring.measure(carry.records, signal, due, state.steps)
        if self.options.writes:
            marked = sum([jnp.any(mask) for mask in measured.masks.values()], jnp.asarray(False))
            reset = partial(self._reset, measured.masks, carry, state, params, layout, clock)
            carry, masks = if_any(marked, reset, (carry, measured.masks))
            measured = measured._replace(masks=masks)
        return carry._replace(records=measuring.remember(carry.records, measured, due))

    def _grown(self, clock_of: Callable[[Any], OwnClock], carry: _CondCarry, extra: Any, *step: Any) -> _CondCarry:
        """Give young neurons the step of their own age."""
        updates, inner_state, ages = clock_of(extra).correct(carry.ages, (carry.updates, carry.inner_state), *step)
        return carry._replace(updates=updates, inner_state=inner_state, ages=ages)

    def _clock(self, correction: BiasCorrection, layout: na.Layout, extra: dict[str, Any]) -> OwnClock:
        """Return the clock of the neurons that are reset."""

        def step(grads: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
            return self._update_inner(grads, state, params, extra)

        return OwnClock(correction, step, layout, self.options.outgoing)

    def _reset(
        self,
        masks: dict[str, Array],
        before: _CondCarry,
        state: ActivityState,
        params: PyTree,
        layout: na.Layout,
        clock: BiasCorrection | None,
    ) -> tuple[_CondCarry, dict[str, Array]]:
        """Make the updates lead to fresh values and zeros, and the optimizer's state match; return what was reset."""
        old, moves, outgoing = as_jax(parameters(params)), parameters(before.updates), self.options.outgoing
        needed = needed_params(masks, layout, outgoing)
        views = {name: of for name, of in self._drawn_views(params, layout).items() if name in needed}
        fresh = self.fresh.draw(state.key, state.resets + 1, state.snapshot, views, needed)
        finite = jnp.asarray([jnp.isfinite(value).all() for value in fresh.values()]).all()  # jit cannot refuse others
        masks = {name: mask & finite for name, mask in masks.items()}
        written = written_mask(old, masks, layout, outgoing=outgoing)
        moved = {name: (old[name] + moves[name]).astype(old[name].dtype) for name in written}
        new = na.reset(old | moved, fresh, masks, layout, outgoing=outgoing)
        leaps = {name: new[name].astype(moves[name].dtype) - old[name] for name in written}
        updates = {name: jnp.where(where, leaps[name], moves[name]) for name, where in written.items()}
        after = replace(params, {name: new[name] for name in written})
        inner_state = reinit_state(self.inner, before.inner_state, after, written)
        ages = before.ages if clock is None else self._clock(clock, layout, {}).reset(before.ages, inner_state, masks)
        return before._replace(updates=replace(before.updates, updates), inner_state=inner_state, ages=ages), masks
