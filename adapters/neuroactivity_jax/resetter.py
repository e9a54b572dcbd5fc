"""The engine of regrama and redo: it measures a model's neurons, and resets them in the updates of its optimizer."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import neuroactivity as na
from neuroactivity.layout import lookup
from neuroactivity.report import build_report
from neuroactivity.wrapping import ResetOptions, check_searched, drawn_views, is_due, trained_groups
from neuroactivity_jax.frozen import frozen_params
from neuroactivity_jax.initializers import FreshValues
from neuroactivity_jax.optimizers import reinit_state, state_owners, written_mask
from neuroactivity_jax.parameters import PyTree, gradients, parameters, replace, shapes_of
from neuroactivity_jax.state import NOT_MEASURED, ActivityState, check_form

Activations: TypeAlias = Mapping[str, Array | None] | Callable[[], Mapping[str, Array | None]]
"""Neuron outputs by group name, or a function that computes them, called only when a measurement is due."""


@jax.custom_batching.custom_vmap
def _any_due(due: Array) -> Array:
    """Whether any of the runs that are mapped over is due: one truth for all, so that a condition stays a condition."""
    return due


@_any_due.def_vmap
def _any_due_of_many(size: int, batched: list[bool], due: Array) -> tuple[Array, bool]:
    return _any_due(jnp.any(due)), False


@jax.custom_batching.custom_vmap
def _number_of_run(due: Array, scores: dict[str, Array]) -> Array:
    """Number of the run among those that are mapped over; -1 for one that is alone."""
    return jnp.full((), -1, jnp.int32)


@_number_of_run.def_vmap
def _numbers_of_runs(size: int, batched: list[Any], due: Array, scores: dict[str, Array]) -> tuple[Array, bool]:
    outside = _number_of_run(*jax.tree.map(lambda x, mapped: x[0] if mapped else x, (due, scores), tuple(batched)))
    return jnp.maximum(outside, 0) * size + jnp.arange(size, dtype=jnp.int32), True


class _CondCarry(NamedTuple):
    """What a measurement may change, and nothing else, since a condition copies what passes through it."""

    updates: PyTree
    inner_state: PyTree
    measurements: Array
    resets: Array
    neurons_reset: Array
    scores: dict[str, Array]
    masks: dict[str, Array]


def _if_any_due(due: Array, measure: Callable[[], _CondCarry], before: _CondCarry) -> _CondCarry:
    """Measure if that is due in any of the runs that are mapped over."""
    if isinstance(due, jax.core.Tracer):
        carry: _CondCarry = jax.lax.cond(_any_due(due), measure, lambda: before)
        return carry
    return measure() if due else before  # outside of jit, where a condition would be compiled anew at every update


@dataclass(frozen=True)
class Resetter:
    """Measures and resets a model's neurons at every ``every``-th update of its optimizer.

    Args:
        inner: The optimizer.
        layout: The neuron groups.
        options: When to measure, and what to reset.
        fresh: Where fresh values come from.
        by_activations: Whether neurons are scored by their activations instead of their gradients.
    """

    inner: optax.GradientTransformationExtraArgs
    layout: na.Layout
    options: ResetOptions
    fresh: FreshValues
    by_activations: bool
    _frozen: dict[Any, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.layout, na.Layout):
            raise TypeError(f"layout: expected a neuroactivity.Layout, got {self.layout!r}")
        check_searched(self.layout, writes=self.options.writes)

    def init(self, params: PyTree) -> ActivityState:
        """Start, and check what can be checked before the first update."""
        if type(params).__module__.startswith("optax."):  # what stands in for parameters in tree_map_params
            return self._placeholder_state(params)
        layout, arrays = self._trained_groups(params), parameters(params)
        inner_state, shapes = self.inner.init(params), shapes_of(arrays)
        snapshot: dict[str, Array] = {}
        if self.options.writes:
            snapshot = self.fresh.snapshot(arrays, drawn_views(layout, shapes))
            state_owners(inner_state, params)
        scored = {name: group.bind(shapes).shape for name, group in layout.items()}
        dtypes = {name: _score_dtype(group, arrays) for name, group in layout.items()}
        counts = ("steps", "measurements", "resets", "neurons_reset")
        return ActivityState(
            inner_state=inner_state,
            **{name: jnp.zeros((), jnp.int32) for name in counts},  # one array each, so that the state can be donated
            tau=jnp.asarray(self.options.tau, jnp.float32),
            scores={name: jnp.full(shape, NOT_MEASURED, dtypes[name]) for name, shape in scored.items()},
            masks={name: jnp.zeros(shape, bool) for name, shape in scored.items()},
            key=self.fresh.key_data(),
            snapshot=snapshot,
        )

    def _placeholder_state(self, params: PyTree) -> ActivityState:
        """Return a state of the right structure, without values."""
        groups = [group for group in self.layout.values() if group.resettable and self.options.writes]
        drawn = {view.param for group in groups for view in group.incoming + group.unscored}
        fields: dict[str, Any] = dict.fromkeys(ActivityState._fields, jnp.zeros(()))
        fields |= {name: dict.fromkeys(self.layout, jnp.zeros(())) for name in ("scores", "masks")}
        fields["snapshot"] = dict.fromkeys(() if callable(self.fresh.initializer) else drawn, jnp.zeros(()))
        return ActivityState(**fields | {"inner_state": self.inner.init(params)})

    def update(
        self,
        updates: PyTree,
        state: ActivityState,
        params: PyTree | None = None,
        *,
        activations: Activations | None = None,
        **extra: Any,
    ) -> tuple[PyTree, ActivityState]:
        """Update with the wrapped optimizer; measure and reset when that is due."""
        if params is None and self.options.writes:
            raise ValueError("params: a reset needs the parameters; call update(grads, state, params)")
        if self.by_activations and activations is None:
            raise ValueError("activations: redo needs them; call update(grads, state, params, activations=...)")
        known = updates if params is None else params  # where nothing is reset, gradients tell all shapes
        layout = self._trained_groups(known)
        check_form(state, layout, shapes_of(parameters(known)))
        signal = activations if self.by_activations else self._arrays(updates)
        extra |= {} if activations is None else {"activations": activations}  # redo may be further inside
        updates, inner_state = self.inner.update(updates, state.inner_state, params, **extra)
        state = state._replace(inner_state=inner_state, steps=state.steps + 1)
        due = is_due(state.steps, every=self.options.every)
        records = {name: getattr(state, name) for name in _CondCarry._fields[2:]}
        passed = (_widened(updates, params), inner_state) if self.options.writes else ((), ())
        before = _CondCarry(*passed, **records)
        after = _if_any_due(due, lambda: self._measure(due, signal, before, state, params, layout), before)
        if self.options.writes:
            updates, state = after.updates, state._replace(inner_state=after.inner_state)
        tau = jnp.asarray(self.options.tau, jnp.float32)  # of this wrapper, which may not have made the state
        return updates, state._replace(tau=tau, **{name: getattr(after, name) for name in records})

    def _measure(
        self, due: Array, signal: Any, before: _CondCarry, state: ActivityState, params: PyTree, layout: na.Layout
    ) -> _CondCarry:
        """Score the neurons, and reset those that are inactive, of each run that is due."""
        score = na.tau_dormant if self.by_activations else na.grama
        scores = score(_as_jax(signal() if callable(signal) else signal), layout)
        masks = {name: mask & due & layout[name].resettable for name, mask in self.options.masks(scores).items()}
        if self.options.on_report is not None:
            jax.debug.callback(self._report, due, _number_of_run(due, scores), scores, masks)
        counts = [jnp.sum(mask, dtype=jnp.int32) for mask in masks.values()]
        marked = sum(counts, jnp.int32(0))
        if self.options.writes:
            before = self._reset(masks, before, state, params, layout)

        def latest(new: Mapping[str, Array], old: Mapping[str, Array]) -> dict[str, Array]:
            return {name: jnp.where(due, new.get(name, was), was).astype(was.dtype) for name, was in old.items()}

        return before._replace(
            measurements=before.measurements + due,
            resets=before.resets + (marked > 0),
            neurons_reset=before.neurons_reset + marked,
            scores=latest(scores, before.scores),
            masks=latest(masks, before.masks),
        )

    def _reset(
        self, masks: Mapping[str, Array], before: _CondCarry, state: ActivityState, params: PyTree, layout: na.Layout
    ) -> _CondCarry:
        """Make the updates lead to fresh values and zeros, and the optimizer's state match them."""
        old, moves = _as_jax(parameters(params)), parameters(before.updates)
        written = written_mask(old, masks, layout)
        if missing := [name for name in written if name not in moves]:
            raise ValueError(
                f"updates: expected one for parameter {missing[0]!r}, which a reset may write, got None; train it, or "
                "mark its groups resettable=False"
            )
        moved = {name: (old[name] + moves[name]).astype(old[name].dtype) for name in written}
        fresh = self.fresh.draw(state.key, state.resets + 1, state.snapshot, drawn_views(layout, shapes_of(old)))
        new = na.reset(moved, fresh, masks, layout)
        leaps = {name: new[name].astype(moves[name].dtype) - old[name] for name in written}
        updates = {name: jnp.where(where, leaps[name], moves[name]) for name, where in written.items()}
        inner_state = reinit_state(self.inner, before.inner_state, replace(params, new), written)
        return before._replace(updates=replace(before.updates, updates), inner_state=inner_state)

    def _report(self, due: Any, run: Any, scores: Mapping[str, Any], masks: Mapping[str, Any]) -> None:
        """Call the user's function on the host, for a run that is due."""
        if due and self.options.on_report is not None:
            scores, masks = jax.tree.map(np.asarray, (scores, masks))
            report = build_report(scores, self.layout, self.options.tau, masks=masks)
            self.options.on_report(report if run < 0 else dataclasses.replace(report, run=int(run)))

    def _arrays(self, tree: PyTree) -> dict[str, Array | None]:
        """Return a tree's arrays by name, with ``None`` for parameters of which a whole branch is ``None``."""
        arrays = _as_jax(gradients(tree))
        for _, view in [pair for group in self.layout.values() for pair in group.views]:
            parts = view.param.split("/")
            branches = ["/".join(parts[:end]) for end in range(len(parts))]
            if view.param not in arrays and any(arrays.get(branch, view) is None for branch in branches):
                arrays[view.param] = None
        return arrays

    def _trained_groups(self, params: PyTree) -> na.Layout:
        """Return the groups that the optimizer trains, checked against the parameters."""
        arrays = self._arrays(params)
        for name, view in [(group.name, view) for group in self.layout.values() for _, view in group.views]:
            lookup(arrays, view.param, name)
        shapes = shapes_of({name: array for name, array in arrays.items() if array is not None})
        writes = self.options.writes
        trained = shapes.keys() - self._frozen_params(params) if writes else shapes
        layout = trained_groups(self.layout, trained, writes=writes)
        for group in layout.values():
            group.bind(shapes)
        return layout

    def _frozen_params(self, params: PyTree) -> frozenset[str]:
        """Name the parameters that the optimizer never moves; found once for parameters of the same shapes."""
        form = tuple([(name, value.shape, str(value.dtype)) for name, value in parameters(params).items()])
        if form not in self._frozen:
            self._frozen[form] = frozen_params(self.inner, params)
        return self._frozen[form]


def _as_jax(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Turn NumPy arrays, as a restored checkpoint has them, into JAX's."""
    return {name: None if array is None else jnp.asarray(array) for name, array in arrays.items()}


def _widened(updates: PyTree, params: PyTree) -> PyTree:
    """Make the updates of parameters of low precision float32, so that a reset is rounded once."""
    old, moves = parameters(params), parameters(updates)
    wide = {name: jnp.result_type(jnp.float32, old[name].dtype, move.dtype) for name, move in moves.items()}
    return replace(updates, {name: jnp.asarray(move, wide[name]) for name, move in moves.items()})


def _score_dtype(group: na.NeuronGroup, arrays: Mapping[str, Array]) -> Any:
    return jnp.result_type(jnp.float32, *[arrays[view.param].dtype for view in group.incoming if view.param in arrays])
