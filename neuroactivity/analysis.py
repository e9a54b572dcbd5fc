"""The analyses of the GraMa paper, for anyone's own run: kinds of neurons, spells of inactivity, pruning, thresholds.

They start from scores and masks, by group name, that a run has kept. :func:`kinds` and :func:`prune` are pure functions
of arrays, as the metrics are; :func:`lifetimes` and :func:`inactive_fractions` copy to the host.
"""

import math
import numbers
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from neuroactivity.arrays import (
    Array,
    Arrays,
    check_array,
    dtype_name,
    namespace,
    shape_of,
    to_list,
    together,
    untransformed,
)
from neuroactivity.errors import LayoutError
from neuroactivity.layout import Layout
from neuroactivity.resets import reset_moments
from neuroactivity.tables import table

__all__ = ["Kinds", "Spell", "inactive_fractions", "kinds", "lifetime_table", "lifetimes", "prune"]

Series: TypeAlias = Mapping[str, Any]
"""By group name: a sequence of arrays over the measurements, or one array with a leading axis for them."""

End: TypeAlias = Literal["recovered", "reset", "open"]


class Kinds(NamedTuple):
    """Four boolean masks of one group's neurons: the level of the activation score first, of the gradient score second.

    Attributes:
        high_high: Neurons that are active and learn.
        high_low: Neurons that are active and do not learn.
        low_high: Neurons that are hardly active and learn.
        low_low: Neurons that are hardly active and do not learn.
    """

    high_high: Array
    high_low: Array
    low_high: Array
    low_low: Array


@untransformed
def kinds(activation_scores: Arrays, gradient_scores: Arrays, /, *, fraction: float = 0.25) -> dict[str, Kinds]:
    r"""Tell four kinds of neurons apart: high or low activation score, high or low gradient score.

    With :math:`k = \lfloor f n + 10^{-9} \rfloor` of the :math:`n` neurons of a group (and stack member), a score is
    high where fewer than :math:`k` scores are above it, and low where fewer than :math:`k` are below it:

    .. math:: \text{high}_i: |\{j: s_j > s_i\}| < k, \qquad \text{low}_i: |\{j: s_j < s_i\}| < k

    Neurons of equal scores are of one kind, so that there may be more than :math:`k` of it. A score that is both high
    and low, as when all are equal, is neither.

    Args:
        activation_scores: Scores by group name, shape ``(neurons,)`` or ``(stack, neurons)``, from
            :func:`neuroactivity.tau_dormant`.
        gradient_scores: Scores of the same groups and shapes, from :func:`neuroactivity.grama`.
        fraction: Share :math:`f` of a group's neurons at the top and at the bottom; in ``[0, 0.5]``.

    Returns:
        Four masks by group name, of the scores' shapes. A neuron is in one of them at most. All False in a group (or
        stack member) with a score that is not finite.

    Raises:
        LayoutError: If a group is in one mapping only, or has two shapes.
        ValueError: If ``fraction`` is out of range.

    Example:
        >>> import numpy as np
        >>> activation, gradient = np.array([0.1, 1.0, 1.0, 1.9]), np.array([2.5, 1.0, 0.5, 0.0])
        >>> found = kinds({"fc": activation}, {"fc": gradient})["fc"]
        >>> found.low_high, found.high_low
        (array([ True, False, False, False]), array([False, False, False,  True]))

    References:
        Liu, Wu, Obando-Ceron, Castro, Courville, Pan, "Measure gradients, not activations! Enhancing neuronal activity
        in deep reinforcement learning", NeurIPS 2025, arXiv:2505.24061, Fig. 3.

    Notes:
        Ties are never broken by index. If more than ``1 - fraction`` of a group share one score, as when most neurons
        are dead, that score is both high and low: a threshold (:func:`neuroactivity.reset_masks`) tells them apart.
    """
    if not isinstance(fraction, numbers.Real) or not 0 <= fraction <= 0.5:
        raise ValueError(f"fraction: expected a number in [0, 0.5], got {fraction!r}")
    _check_pairs(activation_scores, gradient_scores)

    def level(scores: Array) -> Array:
        return _level(scores, fraction)

    activation, gradient = together(level, activation_scores), together(level, gradient_scores)
    return {
        name: Kinds(*[(activation[name] == a) & (gradient[name] == g) for a in (1, -1) for g in (1, -1)])
        for name in activation_scores
    }


def _level(scores: Array, fraction: float) -> Array:
    """Return 1 where a score is high, -1 where it is low, and 0 where it is neither, or both."""
    xp = namespace(scores)
    neurons = scores.shape[-1]
    count = math.floor(fraction * neurons + 1e-9)
    if count == 0:
        return xp.zeros_like(scores)
    finite = xp.all(xp.isfinite(scores), axis=-1, keepdims=True)
    scores = xp.where(finite, scores, xp.zeros_like(scores))  # all equal, and so neither
    rank = xp.argsort(xp.argsort(scores, axis=-1, stable=True), axis=-1, stable=True)

    def at(place: int) -> Array:
        """Return the score at one place in the order of scores."""
        return xp.max(xp.where(rank == place, scores, xp.full_like(scores, -xp.inf)), axis=-1, keepdims=True)

    high, low = scores >= at(neurons - count), scores <= at(count - 1)
    return xp.astype(high, scores.dtype) - xp.astype(low, scores.dtype)


@dataclass(frozen=True)
class Spell:
    """Consecutive measurements at which one neuron was inactive.

    Attributes:
        neuron: Number of the neuron in its group.
        member: Number of the stack member; ``None`` in a group that is no stack.
        start: First of the measurements, counted from 0. A spell that starts at 0 may have begun before.
        length: Number of measurements, 1 or more.
        end: ``"recovered"``: active at the next measurement without a reset. ``"reset"``: reset right after its last
            measurement. ``"open"``: inactive at the last measurement of all, and not reset after it.
    """

    neuron: int
    member: int | None
    start: int
    length: int
    end: End


def lifetimes(inactive: Series, /, *, reset: Series | None = None) -> dict[str, tuple[Spell, ...]]:
    """Find for how long neurons stay inactive, and whether they recover by themselves.

    Args:
        inactive: Masks by group name, boolean, True = inactive: a sequence over the measurements of masks of shape
            ``(neurons,)`` or ``(stack, neurons)``, or one array with a leading axis for the measurements.
        reset: The same for the neurons that were reset right after each measurement. Of a group that is absent, none
            was.

    Returns:
        Spells by group name, in the order of stack members, neurons and time. A neuron that is inactive again after a
        reset begins another spell.

    Raises:
        LayoutError: If ``reset`` has a group that ``inactive`` does not have, if the numbers of measurements or the
            shapes of masks differ, or if a mask is not boolean.

    Example:
        >>> import numpy as np
        >>> inactive = {"fc": np.array([[True, False], [True, True], [False, True]])}
        >>> for spell in lifetimes(inactive)["fc"]:
        ...     print(spell)
        Spell(neuron=0, member=None, start=0, length=2, end='recovered')
        Spell(neuron=1, member=None, start=1, length=2, end='open')

    References:
        Liu et al., "Measure gradients, not activations!", NeurIPS 2025, arXiv:2505.24061, Fig. 6.

    Notes:
        The paper follows one set of inactive neurons through training; this follows every neuron. A group that is not
        finite at a measurement counts as active there, if its mask is that of :func:`neuroactivity.reset_masks`.
    """
    resets = {} if reset is None else reset
    for name in resets:
        if name not in inactive:
            raise LayoutError(f"group {name!r} of reset is missing in inactive; there are {_names(inactive)}")
    return {name: tuple(_find_spells(series, resets.get(name), name)) for name, series in inactive.items()}


def _find_spells(series: Any, resets: Any, name: str) -> Iterator[Spell]:
    """Yield the spells of one group."""
    states, shape = _read_masks(series, name, "inactive")
    cleared = [[False] * len(state) for state in states]
    if resets is not None:
        cleared, other = _read_masks(resets, name, "reset")
        if (len(cleared), other) != (len(states), shape):
            expected, came = f"{len(states)} masks of shape {shape}", f"{len(cleared)} of shape {other}"
            raise LayoutError(f"group {name!r}, reset: expected {expected} as of inactive, got {came}")
    for place, history in enumerate(zip(zip(*states, strict=True), zip(*cleared, strict=True), strict=True)):
        member, neuron = divmod(place, shape[-1])
        for start, length, end in _find_runs(*history):
            yield Spell(neuron, member if len(shape) == 2 else None, start, length, end)


def _read_masks(series: Any, name: str, which: str) -> tuple[list[list[bool]], tuple[int, ...]]:
    """Copy the masks of one group to lists, stack members one after the other, and return the shape of a mask."""
    masks = [series[time, ...] for time in range(series.shape[0])] if hasattr(series, "shape") else list(series)
    states = []
    for time, mask in enumerate(masks):
        where = f"{which}, measurement {time}"
        shape = _check_shape(mask, name, where)
        if not namespace(mask).isdtype(mask.dtype, "bool"):
            raise LayoutError(f"group {name!r}, {where}: expected a boolean mask, got {dtype_name(mask.dtype)}")
        if shape != tuple(masks[0].shape):
            raise LayoutError(f"group {name!r}, {where}: expected shape {tuple(masks[0].shape)}, got {shape}")
        states.append([value for member in _members(mask) for value in member])
    return states, tuple(masks[0].shape) if masks else ()


def _find_runs(inactive: Sequence[bool], reset: Sequence[bool]) -> Iterator[tuple[int, int, End]]:
    """Yield start, length and end of the spells of one neuron."""
    start: int | None = None
    for time, (low, cleared) in enumerate(zip(inactive, reset, strict=True)):
        if low and start is None:
            start = time
        if not low and start is not None:
            yield start, time - start, "recovered"
            start = None
        if cleared and start is not None:
            yield start, time + 1 - start, "reset"
            start = None
    if start is not None:
        yield start, len(inactive) - start, "open"


def lifetime_table(spells: Mapping[str, Iterable[Spell]], /) -> str:
    """Summarize spells in a table for a person: how many ended how, the share that recovered, and their lengths.

    Args:
        spells: Spells by group name, from :func:`lifetimes`.

    Returns:
        The table. The share is that of all spells; one that is open had no time to recover if it began late.

    Example:
        >>> import numpy as np
        >>> inactive = {"fc": np.array([[True, False], [True, True], [False, True]])}
        >>> print(lifetime_table(lifetimes(inactive)))
        group  spells  reset  open  recovered         median length  longest
        --------------------------------------------------------------------
        fc          2      0     1          1  50.0%              2        2
    """
    header = ("group", "spells", "reset", "open", "recovered", "", "median length", "longest")
    rows = []
    for name, group in spells.items():
        lengths = [spell.length for spell in group]
        ends = [spell.end for spell in group]
        counts = (len(ends), *[ends.count(end) for end in ("reset", "open", "recovered")])
        share = f"{100 * counts[-1] / len(ends):.1f}%" if ends else "n/a"
        extent = (f"{statistics.median(lengths):g}", str(max(lengths))) if lengths else ("", "")
        rows.append((name, *map(str, counts), share, *extent))
    return "\n".join(table(header, rows, words=("group",)))


@untransformed
def prune(params: Arrays, /, masks: Arrays, layout: Layout) -> dict[str, Array]:
    """Remove the masked neurons: their incoming, restored and outgoing entries become zero.

    All other entries keep their bits. Where a group's outgoing entries are known, the network then computes what it
    would compute with the neurons cut out. It does not in two cases: a neuron in front of a normalisation still takes
    part in the statistics, as a constant zero (prune the normalisation's own neurons to cut without that); and a neuron
    whose outgoing entries are not known still sends ``activation(0)``, which is nothing for ReLU and 0.5 for a sigmoid.

    Args:
        params: Parameters by name.
        masks: Masks by group name, boolean, shape ``(neurons,)`` or ``(stack, neurons)``, True = remove. A group that
            is absent is left alone, and so is one with ``resettable=False``.
        layout: The neuron groups.

    Returns:
        All parameters by name: new arrays where something was written, the given ones elsewhere.

    Raises:
        LayoutError: If a parameter or a group is missing, or has another shape or dtype than expected.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> layout = na.Layout([na.dense("a", weight=("a.w", "neuron in"), outgoing=[("b.w", "out neuron")])])
        >>> params = {"a.w": np.array([[1.0], [2.0]]), "b.w": np.array([[3.0, 4.0]])}
        >>> prune(params, {"a": np.array([False, True])}, layout)
        {'a.w': array([[1.],
               [0.]]), 'b.w': array([[3., 0.]])}

    References:
        Liu et al., "Measure gradients, not activations!", NeurIPS 2025, arXiv:2505.24061, Fig. 7.
    """
    return reset_moments(params, masks, layout)  # which is a reset to zeros, since no fresh values are given


def inactive_fractions(scores: Arrays, /, taus: Sequence[float]) -> dict[str, tuple[float, ...]]:
    """Compute the fraction of inactive neurons at each of several thresholds.

    Args:
        scores: Scores by group name, shape ``(neurons,)`` or ``(stack, neurons)``.
        taus: Thresholds, finite and zero or more. A neuron is inactive at ``score <= tau``, compared in the scores'
            dtype.

    Returns:
        A fraction for each threshold, by group name; in ``[0, 1]``, over the neurons of the stack members whose scores
        are finite, and NaN where there are none.

    Raises:
        ValueError: If a threshold is out of range.

    Example:
        >>> import numpy as np
        >>> inactive_fractions({"fc": np.array([0.0, 0.02, 1.98, 2.0])}, taus=[0, 0.01, 0.1])
        {'fc': (0.25, 0.25, 0.5)}

    References:
        Liu et al., "Measure gradients, not activations!", NeurIPS 2025, arXiv:2505.24061, Fig. 13.
    """
    for tau in taus:
        if not isinstance(tau, numbers.Real) or not 0 <= tau < math.inf:
            raise ValueError(f"taus: expected finite numbers of 0 or more, got {tau!r}")
    fractions = {}
    for name, group in scores.items():
        _check_shape(group, name, "scores")
        sound = [all(map(math.isfinite, member)) for member in _members(group)]
        judged = sum(sound) * group.shape[-1]
        counts = []
        for tau in taus:
            low = _members(group <= float(tau))
            counts.append(sum(sum(member) for member, whole in zip(low, sound, strict=True) if whole))
        fractions[name] = tuple([count / judged if judged else math.nan for count in counts])
    return fractions


def _members(array: Array) -> list[list[Any]]:
    """Return one list a stack member."""
    values = to_list(array)
    return values if array.ndim == 2 else [values]


def _check_pairs(activation_scores: Arrays, gradient_scores: Arrays) -> None:
    """The two mappings have scores of the same groups, of the same shapes."""
    for name in (*activation_scores, *gradient_scores):
        for which, scores in (("activation_scores", activation_scores), ("gradient_scores", gradient_scores)):
            if name not in scores:
                raise LayoutError(f"group {name!r} is missing in {which}; there are {_names(scores)}")
        expected = _check_shape(activation_scores[name], name, "activation_scores")
        shape = _check_shape(gradient_scores[name], name, "gradient_scores")
        if shape != expected:
            wanted = f"expected shape {expected} as of activation_scores"
            raise LayoutError(f"group {name!r}, gradient_scores: {wanted}, got {shape}")


def _check_shape(array: Array, name: str, which: str) -> tuple[int, ...]:
    """Return the shape of a group's scores or mask, checked."""
    try:
        check_array(array)
    except TypeError as error:
        raise TypeError(f"group {name!r}, {which}: {error}") from None
    shape = shape_of(array, "group {!r}, {}: ", name, which)
    if len(shape) not in (1, 2):
        raise LayoutError(f"group {name!r}, {which}: expected shape (neurons,) or (stack, neurons), got {shape}")
    return shape


def _names(groups: Mapping[str, Any]) -> str:
    return ", ".join(list(groups)[:8]) or "no groups"
