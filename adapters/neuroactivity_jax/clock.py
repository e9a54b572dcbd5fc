"""A reset neuron's own clock: where a reset has written, the optimizer goes on as one that was made at that moment.

No optimizer's formula is written here. While a reset is young, the optimizer updates a second time, with the counts
that correct the bias of its moments replaced by the age of the reset, and the entries that the reset wrote take the
result. Then their moments are handed over to the run's counts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array

import neuroactivity as na
from neuroactivity.resets import Outgoing
from neuroactivity.wrapping import YOUNG, handing_over_factor
from neuroactivity_jax.bias import BiasCorrection
from neuroactivity_jax.conditions import greatest, if_any
from neuroactivity_jax.optimizers import written_mask
from neuroactivity_jax.parameters import PyTree, as_jax, is_float, parameters, replace

Step: TypeAlias = Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]
"""The optimizer's update, from gradients, state and parameters to updates and state."""

NOBODY = -1


class Ages(NamedTuple):
    """Which neurons are young.

    Attributes:
        born: What the optimizer's counts were at a reset, (count, reset); -1 where no reset is young.
        young: Which of these resets a neuron is young of, by group name; -1 where it is not.
    """

    born: Array
    young: dict[str, Array]


def start_ages(correction: BiasCorrection, every: int, shapes: Mapping[str, tuple[int, ...]]) -> Ages:
    """Return the ages before the first reset, with room for as many resets as may be young at once."""
    resets = YOUNG if correction.skips else -(-YOUNG // every)
    young = {name: jnp.full(shape, NOBODY, jnp.int32) for name, shape in shapes.items()}
    return Ages(jnp.full((max(len(correction.counts), 1), resets), NOBODY, jnp.int32), young)


def judged(
    correction: BiasCorrection, step: Step, inner: optax.GradientTransformation, params: PyTree
) -> BiasCorrection:
    """Return a correction, without its counts if the decays of its moments cannot be measured.

    They are measured on arrays of one entry, which a function that the optimizer is given may not take.
    """
    if not correction.moments:
        return correction
    clock = OwnClock(correction, step, na.Layout([]), "zero")
    try:
        jax.eval_shape(lambda params: clock._decays(params, inner.init(params), params), params)
    except Exception:  # of whatever the function is of
        what = "optimizer calls functions of the parameters, which cannot be told how old a neuron is"
        return replace_fields(correction, effective=(), moments=(), unclear=what)
    return correction


def any_young(born: Array) -> Array:
    """Whether any reset is young."""
    return jnp.any(born >= 0)


@dataclass(frozen=True)
class OwnClock:
    """Gives the neurons that a reset wrote a clock of their own.

    Args:
        correction: The counts that correct the bias of moments.
        step: The optimizer's update.
        layout: The neuron groups.
        outgoing: What a reset makes of outgoing parameters.
    """

    correction: BiasCorrection
    step: Step
    layout: na.Layout
    outgoing: Outgoing

    def reset(self, ages: Ages, state: PyTree, masks: Mapping[str, Array]) -> Ages:
        """Note a reset, beside those of the same age, or in the place of one that is young no more."""
        now, born = self._counts(state), ages.born
        same = jnp.all(born == now, axis=0)
        place = jnp.where(jnp.any(same), jnp.argmax(same), jnp.argmax(jnp.all(born < 0, axis=0)))
        young = {name: jnp.where(masks[name], place, of) if name in masks else of for name, of in ages.young.items()}
        marked = sum([jnp.any(mask) for mask in masks.values()], jnp.asarray(False))
        resets = jnp.arange(born.shape[1])[None]
        born = jnp.where((resets == place) & marked, now, born)
        owned = sum([jnp.any(of.reshape(-1, 1) == resets, axis=0, keepdims=True) for of in young.values()], resets < 0)
        return Ages(jnp.where(owned, born, NOBODY), {name: of.astype(jnp.int32) for name, of in young.items()})

    def correct(
        self, ages: Ages, moved: tuple[PyTree, PyTree], grads: PyTree, before: PyTree, params: PyTree, due: Array
    ) -> tuple[PyTree, PyTree, Ages]:
        """Give the entries of young resets the step that the optimizer takes at their age.

        Args:
            ages: Which neurons are young.
            moved: Updates and state that the optimizer has returned.
            grads: Gradients.
            before: The state from before the update.
            params: Parameters.
            due: Whether there may be another reset at this step.

        Returns:
            Updates, state and ages.
        """
        leaves, structure = jax.tree.flatten(moved[1])
        born = ages.born
        effective = jnp.asarray([at in self.correction.effective for at in self.correction.counts])
        is_young, age = jnp.all(born >= 0, axis=0), self._counts(moved[1]) - born
        youngest = jnp.where(is_young, jnp.min(jnp.where(effective[:, None], age, age.max()), axis=0), NOBODY)
        order = jnp.argsort(-youngest)  # the entries of several resets belong to the last
        crowded = due & jnp.all(is_young) & (jnp.arange(len(order)) == order[0])
        ends = is_young & ((youngest >= YOUNG) | crowded)
        decays = jnp.zeros(len(self.correction.moments), _wide(*leaves))
        if self.correction.moments:
            decays = if_any(jnp.any(ends), lambda: self._decays(grads, before, params), decays)
        old, arrays = jax.tree.leaves(before), as_jax(parameters(params))

        def take_own(place: Any, passed: tuple[dict[str, Array], list[Any]]) -> tuple[dict[str, Array], list[Any]]:
            moves, now = passed
            reset = order[place]
            masks = {name: of == reset for name, of in ages.young.items()}
            written = written_mask(arrays, masks, self.layout, outgoing=self.outgoing)
            aged = list(old)
            for number, at in enumerate(self.correction.counts):
                since = jnp.maximum(born[number, reset], 0) if at in self.correction.effective else 0
                count = jnp.asarray(old[at])
                aged[at] = (count - since).astype(count.dtype)
            own_moves, own = self.step(grads, jax.tree.unflatten(structure, aged), params)
            own_leaves = self._handed_over(jax.tree.leaves(own), decays, leaves, age[:, reset], ends[reset])
            named = parameters(own_moves)
            moves = {n: jnp.where(written[n], named[n], m) if n in written else m for n, m in moves.items()}
            now = [
                jnp.where(written[owner], mine, leaf).astype(leaf.dtype) if owner in written else leaf
                for owner, mine, leaf in zip(self.correction.owners, own_leaves, now, strict=True)
            ]
            return moves, now

        passed = (parameters(moved[0]), leaves)
        if not isinstance(is_young, jax.core.Tracer):
            for place in range(int(is_young.sum())):
                passed = take_own(place, passed)
        elif len(order) == 1:
            passed = take_own(0, passed)
        else:
            passed = jax.lax.fori_loop(0, greatest(jnp.sum(is_young, dtype=jnp.int32)), take_own, passed)
        moves, leaves = passed
        young = {name: jnp.where((of >= 0) & ends[of], NOBODY, of) for name, of in ages.young.items()}
        ages = Ages(jnp.where(ends[None], NOBODY, born), young)
        return replace(moved[0], moves), jax.tree.unflatten(structure, leaves), ages

    def _counts(self, state: PyTree) -> Array:
        """Return the counts in a state, in a column."""
        leaves = jax.tree.leaves(state)
        return jnp.stack([jnp.asarray(leaves[at], jnp.int32) for at in self.correction.counts])[:, None]

    def _handed_over(self, own: list[Any], decays: Array, leaves: list[Any], age: Array, ends: Array) -> list[Any]:
        """Bring those moments that are averages to what they are under the run's counts, if their youth ends."""
        for number, moment in enumerate(self.correction.moments):
            years = age[self.correction.counts.index(moment.count)]
            decay = decays[number]
            is_average = ends & (decay > 0) & (decay < 1) & (years > 0)
            decay = jnp.where(is_average, decay, 0.5)
            factor = handing_over_factor(decay, leaves[moment.count].astype(decay.dtype), jnp.maximum(years, 1))
            for at in moment.leaves:
                scaled = own[at] * jnp.where(is_average, factor, 1)
                own = [*own[:at], scaled.astype(own[at].dtype), *own[at + 1 :]]
        return own

    def _decays(self, grads: PyTree, before: PyTree, params: PyTree) -> Array:
        """Measure the decays of moments with the optimizer itself, on arrays of one entry; 0 if it is no average.

        A moment that is an average falls from 1 by its decay without a gradient, and by as much with one.
        """
        leaves, structure = jax.tree.flatten(before)
        moments = self.correction.moments
        number = {at: count for count, moment in enumerate(moments) for at in moment.leaves}

        def small(leaf: Any, value: Any) -> Any:
            return jnp.full((1,) * leaf.ndim, value, _wide(leaf)) if is_float(leaf) else leaf

        def moments_after(case: tuple[Array, Array]) -> Array:
            ones, gradient = case
            start = [
                leaf if owner is None else small(leaf, ones == number.get(at, NOBODY))
                for at, (leaf, owner) in enumerate(zip(leaves, self.correction.owners, strict=True))
            ]
            slopes = jax.tree.map(lambda leaf: small(leaf, gradient), grads)
            zeros = jax.tree.map(lambda leaf: small(leaf, 0.0), params)
            after = jax.tree.leaves(self.step(slopes, jax.tree.unflatten(structure, start), zeros)[1])
            return jnp.stack([jnp.mean(after[moment.leaves[0]], dtype=_wide(*leaves)) for moment in moments])

        which = [*range(len(moments)), len(moments)]
        cases = jnp.repeat(jnp.asarray(which), 2), jnp.tile(jnp.asarray([0.0, 1.0]), len(which))
        if isinstance(jnp.asarray(self._counts(before)), jax.core.Tracer):
            after = jax.lax.map(moments_after, cases)
        else:
            after = jnp.stack([moments_after(case) for case in zip(*cases, strict=True)])
        after = after.reshape(len(which), 2, len(moments))
        fall = jnp.diagonal(after[:-1] - after[-1:], axis1=0, axis2=2)  # (gradient, moment)
        return jnp.where(jnp.isclose(fall[0], fall[1], rtol=1e-3, atol=1e-6), fall[0], 0)


def _wide(*leaves: Any) -> Any:
    """Return float32, or float64 where one of the arrays is."""
    return jnp.result_type(jnp.float32, *[leaf.dtype for leaf in leaves if is_float(leaf)])
