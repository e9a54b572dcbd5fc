"""Four kinds of neurons: active or not, learning or not."""

import math
import numbers
from typing import NamedTuple

from neuroactivity.analysis.checks import check_shape, names_of
from neuroactivity.arrays import Array, Arrays, map_batched, namespace, no_autograph
from neuroactivity.errors import LayoutError


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


@no_autograph
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

    activation, gradient = map_batched(level, activation_scores), map_batched(level, gradient_scores)
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


def _check_pairs(activation_scores: Arrays, gradient_scores: Arrays) -> None:
    """The two mappings have scores of the same groups, of the same shapes."""
    for name in (*activation_scores, *gradient_scores):
        for which, scores in (("activation_scores", activation_scores), ("gradient_scores", gradient_scores)):
            if name not in scores:
                raise LayoutError(f"group {name!r} is missing in {which}; there are {names_of(scores)}")
        expected = check_shape(activation_scores[name], name, "activation_scores")
        shape = check_shape(gradient_scores[name], name, "gradient_scores")
        if shape != expected:
            wanted = f"expected shape {expected} as of activation_scores"
            raise LayoutError(f"group {name!r}, gradient_scores: {wanted}, got {shape}")
