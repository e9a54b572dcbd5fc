"""What regrama and redo do: measure a model's neurons, and reset them in the updates of its optimizer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import neuroactivity as na
from neuroactivity.layout import lookup
from neuroactivity.report import build_report
from neuroactivity.wrapping import check_every
from neuroactivity_jax.initializers import (
    Initializer,
    check_initializer,
    drawn_views,
    event_key,
    fresh_values,
    key_data,
)
from neuroactivity_jax.optimizers import check_state, cleared, written_entries
from neuroactivity_jax.state import NOT_MEASURED, ActivityState
from neuroactivity_jax.trees import PyTree, gradients, parameters, replace, shapes_of

__all__ = ["Activations", "Resetter"]

Activations: TypeAlias = Mapping[str, Array | None] | Callable[[], Mapping[str, Array | None]]
"""Neuron outputs by group name, or a function that computes them, called only when a measurement is due."""


@jax.custom_batching.custom_vmap
def _any_due(due: Array) -> Array:
    """Whether any of the runs that are mapped over is due: one truth for all, so that a condition stays a condition."""
    return due


@_any_due.def_vmap
def _any_due_of_many(size: int, batched: list[bool], due: Array) -> tuple[Array, bool]:
    return _any_due(jnp.any(due)), False


class _Changing(NamedTuple):
    """What a measurement may change, and nothing else, since a condition copies what passes through it."""

    updates: PyTree
    inner_state: PyTree
    measurements: Array
    resets: Array
    neurons_reset: Array
    scores: dict[str, Array]
    masks: dict[str, Array]


@dataclass(frozen=True)
class Resetter:
    """Measures and resets a model's neurons at every ``every``-th update; the options are those of ``regrama``."""

    inner: optax.GradientTransformationExtraArgs
    layout: na.Layout
    by_activations: bool
    initializer: Initializer
    tau: float
    every: int
    max_fraction: float | None
    reset_silent: bool
    seed: int | Array
    on_report: Callable[[na.ActivityReport], None] | None

    def __post_init__(self) -> None:
        if not isinstance(self.layout, na.Layout):
            raise TypeError(f"layout: expected a neuroactivity.Layout, got {self.layout!r}")
        object.__setattr__(self, "every", check_every(self.every))
        na.reset_masks({}, self.tau, max_fraction=self.max_fraction)
        key_data(self.seed)

    @property
    def writes(self) -> bool:
        """Whether anything is ever reset; otherwise any optimizer will do."""
        return self.max_fraction != 0

    def init(self, params: PyTree) -> ActivityState:
        """Start, and check what can be checked before the first update."""
        if type(params).__module__.startswith("optax."):  # what stands in for parameters in tree_map_params
            return self._form(params)
        layout, arrays = self._owned(params), parameters(params)
        inner_state, key = self.inner.init(params), key_data(self.seed)
        snapshot: dict[str, Array] = {}
        if self.writes:
            views = drawn_views(layout, arrays)
            check_initializer(self.initializer, event_key(key, 0, like=self.seed), arrays, views)
            check_state(inner_state, params)
            snapshot = {name: jnp.array(arrays[name]) for name in views} if self.initializer == "snapshot" else {}
        shapes = {name: group.bind(shapes_of(arrays)).shape for name, group in layout.items()}
        dtypes = {name: _score_dtype(group, arrays) for name, group in layout.items()}
        counts = ("step", "measurements", "resets", "neurons_reset")
        return ActivityState(
            inner_state=inner_state,
            **{name: jnp.zeros((), jnp.int32) for name in counts},  # one array each, so that the state can be donated
            tau=jnp.asarray(self.tau, jnp.float32),
            scores={name: jnp.full(shape, NOT_MEASURED, dtypes[name]) for name, shape in shapes.items()},
            masks={name: jnp.zeros(shape, bool) for name, shape in shapes.items()},
            key=key,
            snapshot=snapshot,
        )

    def _form(self, params: PyTree) -> ActivityState:
        """Return a state of the right form and of no values."""
        groups = [group for group in self.layout.values() if group.resettable and self.writes]
        drawn = {view.param for group in groups for role, view in group.views if role != "outgoing"}
        zero = jnp.zeros(())
        form: dict[str, Any] = dict.fromkeys(ActivityState._fields, zero)
        form |= {
            "inner_state": self.inner.init(params),
            "scores": dict.fromkeys(self.layout, zero),
            "masks": dict.fromkeys(self.layout, zero),
            "snapshot": dict.fromkeys(drawn if self.initializer == "snapshot" else (), zero),
        }
        return ActivityState(**form)

    def update(
        self,
        updates: PyTree,
        state: ActivityState,
        params: PyTree | None = None,
        *,
        activations: Activations | None = None,
        **extra: Any,
    ) -> tuple[PyTree, ActivityState]:
        """Update with the wrapped optimizer; measure and reset when it is due."""
        if params is None:
            raise ValueError("params: a reset needs the parameters; call update(grads, state, params)")
        if self.by_activations and activations is None:
            raise ValueError("activations: redo needs them; call update(grads, state, params, activations=...)")
        signal = activations if self.by_activations else self._present(updates)
        extra |= {} if activations is None else {"activations": activations}  # redo may be further inside
        updates, inner_state = self.inner.update(updates, state.inner_state, params, **extra)
        state = state._replace(inner_state=inner_state, step=state.step + 1)
        due = state.step % self.every == 0
        own = {name: getattr(state, name) for name in _Changing._fields[2:]}
        before = _Changing(_widened(updates, params), inner_state, **own) if self.writes else _Changing((), (), **own)

        def measure() -> _Changing:
            return self._measure(due, signal, before, state, params)

        if isinstance(due, jax.core.Tracer):
            after = jax.lax.cond(_any_due(due), measure, lambda: before)
        else:  # outside of jit, where a condition would be compiled anew at every update
            after = measure() if due else before
        if self.writes:
            updates, state = after.updates, state._replace(inner_state=after.inner_state)
        tau = jnp.asarray(self.tau, jnp.float32)  # that of this wrapper, which may not be the one that made the state
        return updates, state._replace(tau=tau, **{name: getattr(after, name) for name in own})

    def _measure(self, due: Array, signal: Any, before: _Changing, state: ActivityState, params: PyTree) -> _Changing:
        """Score the neurons, and reset those that are inactive, of each run that is due."""
        layout = self._owned(params)
        scores = self._score(signal, layout)
        masks = na.reset_masks(scores, self.tau, max_fraction=self.max_fraction, reset_silent=self.reset_silent)
        masks = {name: mask & due for name, mask in masks.items()}
        if self.on_report is not None:
            jax.debug.callback(self._tell, due, scores, masks)
        counts = [jnp.sum(mask, dtype=jnp.int32) for name, mask in masks.items() if layout[name].resettable]
        marked = sum(counts, jnp.int32(0))
        updates, inner_state = before.updates, before.inner_state
        if self.writes:
            updates, inner_state = self._reset(masks, before, state, params, layout)

        def latest(new: Mapping[str, Array], old: Mapping[str, Array]) -> dict[str, Array]:
            return {name: jnp.where(due, new.get(name, was), was).astype(was.dtype) for name, was in old.items()}

        return _Changing(
            updates=updates,
            inner_state=inner_state,
            measurements=before.measurements + due,
            resets=before.resets + (marked > 0),
            neurons_reset=before.neurons_reset + marked,
            scores=latest(scores, before.scores),
            masks=latest(masks, before.masks),
        )

    def _score(self, signal: Any, layout: na.Layout) -> dict[str, Array]:
        if not self.by_activations:
            return na.grama(signal, layout)
        return na.tau_dormant(_as_jax(signal() if callable(signal) else signal), layout)

    def _reset(
        self, masks: Mapping[str, Array], before: _Changing, state: ActivityState, params: PyTree, layout: na.Layout
    ) -> tuple[PyTree, PyTree]:
        """Lead the updates to fresh values and zeros, and clear the optimizer's state to match."""
        old, moves = _as_jax(parameters(params)), parameters(before.updates)
        written = written_entries(old, masks, layout)
        if missing := [name for name in written if name not in moves]:
            raise ValueError(
                f"updates: expected one for parameter {missing[0]!r}, which a reset may write, got None; train it, or "
                "mark its groups resettable=False"
            )
        moved = {name: (old[name] + moves[name]).astype(old[name].dtype) for name in written}
        key = event_key(state.key, state.resets + 1, like=self.seed)
        fresh = fresh_values(self.initializer, key, state.snapshot, drawn_views(layout, old))
        new = na.reset(moved, fresh, masks, layout)
        leaps = {name: new[name].astype(moves[name].dtype) - old[name] for name in written}
        updates = {name: jnp.where(where, leaps[name], moves[name]) for name, where in written.items()}
        inner_state = cleared(self.inner, before.inner_state, replace(params, new), written)
        return replace(before.updates, updates), inner_state

    def _tell(self, due: Any, scores: Mapping[str, Any], masks: Mapping[str, Any]) -> None:
        """Call the user's function on the host, for a run that is due."""
        if due and self.on_report is not None:
            measured = {name: np.asarray(score) for name, score in scores.items()}
            marked = {name: np.asarray(mask) for name, mask in masks.items()}
            self.on_report(build_report(measured, self.layout, self.tau, masks=marked))

    def _present(self, tree: PyTree) -> dict[str, Array | None]:
        """Return a tree's arrays by name, with ``None`` for parameters of which a whole branch is ``None``."""
        arrays = _as_jax(gradients(tree))
        for _, view in [pair for group in self.layout.values() for pair in group.views]:
            parts = view.param.split("/")
            branches = ["/".join(parts[:end]) for end in range(len(parts))]
            if view.param not in arrays and any(arrays.get(branch, view) is None for branch in branches):
                arrays[view.param] = None
        return arrays

    def _owned(self, params: PyTree) -> na.Layout:
        """Return the groups that the optimizer trains, checked against the parameters."""
        arrays = self._present(params)
        groups = []
        for group in self.layout.values():
            given = {view.param: lookup(arrays, view.param, group.name) for _, view in group.views}
            if all(given[view.param] is None for view in group.incoming):
                continue
            foreign = [param for param, array in given.items() if array is None]
            if foreign and group.resettable and self.writes:
                raise ValueError(
                    f"group {group.name!r}: a reset would write parameter {foreign[0]!r}, which this optimizer does "
                    "not train; mark the group resettable=False, or train both with one optimizer"
                )
            group.bind({param: tuple(array.shape) for param, array in given.items() if array is not None})
            groups.append(group)
        if not groups:
            raise ValueError(
                "the optimizer trains none of the layout's neuron groups; is it the model's own optimizer?"
            )
        kept = {group.name for group in groups}
        return na.Layout([_without_partners(group, kept) for group in groups])


def _as_jax(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Turn NumPy arrays, as a restored checkpoint has them, into JAX's."""
    return {name: None if array is None else jnp.asarray(array) for name, array in arrays.items()}


def _widened(updates: PyTree, params: PyTree) -> PyTree:
    """Make the updates of parameters of low precision float32, so that a reset is rounded once."""
    old, moves = parameters(params), parameters(updates)
    wide = {
        name: jnp.promote_types(jnp.promote_types(old[name].dtype, jnp.float32), moves[name].dtype) for name in moves
    }
    return replace(updates, {name: jnp.asarray(move, wide[name]) for name, move in moves.items()})


def _score_dtype(group: na.NeuronGroup, arrays: Mapping[str, Array]) -> Any:
    return jnp.result_type(jnp.float32, *[arrays[view.param].dtype for view in group.incoming if view.param in arrays])


def _without_partners(group: na.NeuronGroup, kept: set[str]) -> na.NeuronGroup:
    """Drop the partners that are not kept."""
    partners = [partner for partner in group.partners if partner in kept]
    return group if len(partners) == len(group.partners) else na.NeuronGroup(**{**vars(group), "partners": partners})
