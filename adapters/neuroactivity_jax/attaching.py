"""What a wrapper is around: an optimizer, of which is found out what it trains and what its counts are for."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import optax

import neuroactivity as na
from neuroactivity.layout import lookup
from neuroactivity.wrapping import DrawnViews, ResetOptions, check_searched, drawn_views, trained_groups, written_params
from neuroactivity_jax.bias import BiasCorrection, bias_correction
from neuroactivity_jax.clock import judged
from neuroactivity_jax.frozen import frozen_params
from neuroactivity_jax.initializers import FreshValues
from neuroactivity_jax.manual import check_undivided
from neuroactivity_jax.parameters import PyTree, arrays_of, form_of, parameters, shapes_of, widened
from neuroactivity_jax.state import ActivityState, states_in


@dataclass(frozen=True)
class Attached:
    """An optimizer with the options of a wrapper; looks up what is trained.

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
    _frozen: dict[Any, frozenset[str]] = field(default_factory=dict, compare=False)
    _corrections: dict[Any, BiasCorrection] = field(default_factory=dict, compare=False)
    _warned: set[str] = field(default_factory=set, compare=False)
    _drawn: set[Any] = field(default_factory=set, compare=False)
    _started: list[na.Layout] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        check_searched(self.layout, writes=self.options.writes)

    def written(self) -> list[str]:
        """Name the parameters that resets may write."""
        return written_params(self.layout, self.layout) if self.options.writes else []

    def _update_inner(
        self, grads: PyTree, state: PyTree, params: PyTree | None, extra: Mapping[str, Any]
    ) -> tuple[PyTree, PyTree]:
        """Update with the wrapped optimizer once more, without what wrappers inside of it do."""
        nested = {"only_inner": True} if states_in(state) else {}  # another wrapper inside of this one
        updates, state = self.inner.update(grads, state, params, **{**extra, **nested})
        return widened(updates, params) if self.options.writes else updates, state

    def _check_writes(self, updates: PyTree, state: ActivityState, params: PyTree, layout: na.Layout) -> None:
        """Raise at any update, due or not, if a reset could not write what it is to write."""
        names = written_params(layout, layout, outgoing=self.options.outgoing)
        if missing := sorted(set(names) - parameters(updates).keys()):
            raise ValueError(
                f"updates: expected one for parameter {missing[0]!r}, which a reset may write, got None; train it, or "
                "mark its groups resettable=False"
            )
        form = form_of(params), *sorted(state.snapshot)
        if form not in self._drawn:
            self.fresh.check(state.snapshot, parameters(params), self._drawn_views(params, layout))
            self._drawn.add(form)

    def _drawn_views(self, params: PyTree, layout: na.Layout) -> DrawnViews:
        return drawn_views(layout, shapes_of(parameters(params)), outgoing=self.options.outgoing)

    def _trained_groups(self, params: PyTree) -> na.Layout:
        """Return the groups that the optimizer trains, checked against the parameters."""
        arrays = arrays_of(params, self.layout)
        for name, view in [(group.name, view) for group in self.layout.values() for _, view in group.views]:
            lookup(arrays, view.param, name)
        shapes = shapes_of({name: array for name, array in arrays.items() if array is not None})
        writes = self.options.writes
        trained = shapes.keys() - self._frozen_params(params) if writes else shapes
        layout = trained_groups(self.layout, trained, writes=writes)
        check_undivided(self.layout, layout, shapes)
        return layout

    def _frozen_params(self, params: PyTree, extra: Mapping[str, Any] | None = None) -> frozenset[str]:
        """Name the parameters that the optimizer never moves; found once for parameters of the same shapes."""
        form = form_of(params), tuple(sorted(extra or ()))
        if form not in self._frozen:
            self._frozen[form] = frozen_params(self.inner, params, extra)
        return self._frozen[form]

    def _check_frozen(self, params: PyTree, layout: na.Layout, extra: Mapping[str, Any]) -> None:
        """Raise if it shows only now, with what an update is given beside gradients, that a parameter is frozen."""
        frozen = self._frozen_params(params, extra) if extra else frozenset()
        if late := sorted(frozen.intersection(written_params(layout, layout, outgoing=self.options.outgoing))):
            raise ValueError(
                f"parameter {late[0]!r}: a reset may write it, and the optimizer never moves it; mark its groups "
                "resettable=False"
            )

    def _bias_correction(self, params: PyTree, extra: Mapping[str, Any]) -> BiasCorrection:
        """Find the counts that correct the bias of moments, once for parameters of the same shapes."""
        form = form_of(params), tuple(sorted(extra))
        if form not in self._corrections:
            found = bias_correction(self.inner, params, extra)
            found = self._corrections[form] = judged(
                found, partial(self._update_inner, extra={**extra}), self.inner, params
            )
            if found.unclear and found.unclear not in self._warned:
                self._warned.add(found.unclear)
                text = f'{found.unclear}: reset neurons go by the clock of the run, as with clock="run"'
                warnings.warn(text, na.ActivityWarning, stacklevel=3)
        return self._corrections[form]
