r"""Ranks of features: how many directions the outputs of a layer span, by four definitions of the field.

Each starts from the singular values :math:`\sigma_1 \ge \sigma_2 \ge \dots` of the matrix of features, samples by
neurons. A network that loses plasticity often has a low rank long before its return falls.
"""

import math
import numbers
from collections.abc import Callable
from typing import Any

from neuroactivity.analysis.checks import floating
from neuroactivity.arrays import Array, Arrays, no_autograph
from neuroactivity.errors import LayoutError


@no_autograph
def stable_rank(features: Arrays, /) -> dict[str, Array]:
    r"""Compute the stable rank of each layer's features: their squared size over that of their largest direction.

    .. math:: \sum_i \sigma_i^2 \, / \, \sigma_1^2

    Args:
        features: Outputs of layers by name, shape ``(samples, neurons)``, or ``(stack, samples, neurons)`` of a stack
            of networks; of a real floating dtype. Flatten the positions of an image or a sequence into the samples.

    Returns:
        Ranks by name, of shape ``()`` or ``(stack,)``, between 1 and the smaller size of the matrix; 0 for features
        that are all zero, NaN where one is not finite. Computed in float64 for float64, in float32 otherwise.

    Raises:
        LayoutError: If features have another shape, no entries, or are not of a real floating dtype.

    Example:
        >>> import numpy as np
        >>> stable_rank({"fc": np.diag([2.0, 1.0, 1.0])})
        {'fc': array(1.5)}

    References:
        Rudelson and Vershynin, "Sampling from large matrices", Journal of the ACM 54(4), 2007.
    """

    def rank(xp: Any, sigma: Array, _: int) -> Array:
        return xp.sum(_relative(xp, sigma) ** 2, axis=-1)

    return _ranks(features, rank)


@no_autograph
def effective_rank(features: Arrays, /) -> dict[str, Array]:
    r"""Compute the effective rank of each layer's features: the exponential of the entropy of their singular values.

    .. math:: \exp\Bigl(-\sum_i p_i \ln p_i\Bigr), \qquad p_i = \sigma_i \Big/ \sum_j \sigma_j

    Args:
        features: As for :func:`stable_rank`.

    Returns:
        As :func:`stable_rank`.

    Raises:
        LayoutError: As :func:`stable_rank`.

    Example:
        >>> import numpy as np
        >>> float(effective_rank({"fc": np.diag([1.0, 1.0, 1.0, 0.0])})["fc"].round(6))
        3.0

    References:
        Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
    """

    def rank(xp: Any, sigma: Array, _: int) -> Array:
        total = xp.sum(sigma, axis=-1, keepdims=True)
        p = _ratio(xp, sigma, total)
        terms = p * xp.log(xp.where(p > 0, p, xp.full_like(p, 1.0)))
        return xp.where(total[..., 0] > 0, xp.exp(-xp.sum(terms, axis=-1)), xp.zeros_like(total[..., 0]))

    return _ranks(features, rank)


@no_autograph
def approximate_rank(features: Arrays, /, *, delta: float = 0.01, power: int = 1) -> dict[str, Array]:
    r"""Compute how many singular values it takes to make up all but a small part of their sum.

    .. math:: \min\Bigl\{k: \sum_{i \le k} \sigma_i^p \ge (1 - \delta) \sum_i \sigma_i^p\Bigr\}

    Args:
        features: As for :func:`stable_rank`.
        delta: Part :math:`\delta` of the sum that may be missing; above 0 and below 1.
        power: :math:`p`: 1 for Kumar et al.'s srank, 2 for the share of variance.

    Returns:
        As :func:`stable_rank`; whole numbers.

    Raises:
        LayoutError: As :func:`stable_rank`.
        ValueError: If ``delta`` or ``power`` is out of range.

    Example:
        >>> import numpy as np
        >>> approximate_rank({"fc": np.diag([10.0, 5.0, 0.1])})
        {'fc': array(2.)}

    References:
        Kumar et al., "Implicit under-parameterization inhibits data-efficient deep reinforcement learning", ICLR 2021,
        arXiv:2010.14498 (``power=1``); Yang et al., "Harnessing structures for value-based planning and reinforcement
        learning", ICLR 2020, arXiv:1909.12255 (``power=2``).
    """
    if not isinstance(delta, numbers.Real) or not 0 < delta < 1:
        raise ValueError(f"delta: expected a number above 0 and below 1, got {delta!r}")
    if power not in (1, 2):
        raise ValueError(f"power: expected 1 or 2, got {power!r}")

    def rank(xp: Any, sigma: Array, _: int) -> Array:
        powers = _relative(xp, sigma) ** power
        wanted = (1 - float(delta)) * xp.sum(powers, axis=-1, keepdims=True)
        larger = xp.cumulative_sum(powers, axis=-1) - powers  # the sum of those before
        return _count(xp, larger < wanted, sigma)

    return _ranks(features, rank)


@no_autograph
def feature_rank(features: Arrays, /, *, epsilon: float = 0.01) -> dict[str, Array]:
    r"""Count the singular values above a threshold, for features scaled by the root of the number of samples.

    .. math:: \bigl|\{i: \sigma_i / \sqrt{n} > \varepsilon\}\bigr|

    Args:
        features: As for :func:`stable_rank`; :math:`n` samples.
        epsilon: Threshold :math:`\varepsilon`, 0 or more.

    Returns:
        As :func:`stable_rank`; whole numbers.

    Raises:
        LayoutError: As :func:`stable_rank`.
        ValueError: If ``epsilon`` is out of range.

    Example:
        >>> import numpy as np
        >>> feature_rank({"fc": np.array([[1.0, 0.0], [1.0, 0.0]])})
        {'fc': array(1.)}

    References:
        Lyle, Rowland and Dabney, "Understanding and preventing capacity loss in reinforcement learning", ICLR 2022,
        arXiv:2204.09560.
    """
    if not isinstance(epsilon, numbers.Real) or not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon: expected a finite number of 0 or more, got {epsilon!r}")

    def rank(xp: Any, sigma: Array, samples: int) -> Array:
        return _count(xp, sigma > float(epsilon) * math.sqrt(samples), sigma)

    return _ranks(features, rank)


def _count(xp: Any, chosen: Array, like: Array) -> Array:
    """Count what is True along the last axis, in the dtype of the singular values."""
    return xp.sum(xp.astype(chosen, like.dtype), axis=-1)


def _relative(xp: Any, sigma: Array) -> Array:
    """Divide singular values by the largest, so that no power of them is too large or too small for their dtype."""
    return _ratio(xp, sigma, xp.max(sigma, axis=-1, keepdims=True))


def _ratio(xp: Any, part: Array, whole: Array) -> Array:
    """Divide, and return 0 where the whole is 0."""
    some = xp.where(whole > 0, whole, xp.full_like(whole, 1.0))
    return part / some


def _ranks(features: Arrays, rank: Callable[[Any, Array, int], Array]) -> dict[str, Array]:
    """Apply a function of singular values and the number of samples to each layer's features."""
    found = {}
    for name, array in features.items():
        xp, matrix = floating(array, name)
        if matrix.ndim not in (2, 3):
            shape = tuple(matrix.shape)
            raise LayoutError(f"{name!r}: expected shape (samples, neurons) or (stack, samples, neurons), got {shape}")
        finite = xp.all(xp.isfinite(matrix), axis=(-2, -1))
        matrix = xp.where(finite[..., None, None], matrix, xp.zeros_like(matrix))
        value = rank(xp, xp.linalg.svdvals(matrix), matrix.shape[-2])
        found[name] = xp.where(finite, value, xp.full_like(value, math.nan))
    return found
