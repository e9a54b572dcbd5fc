"""Statistics of the study, over seeds."""

from collections.abc import Hashable, Mapping
from typing import Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reference_agents.compare.statistics import Estimate, interquartile_mean, stratified_bootstrap

__all__ = ["at_the_end", "holm", "interquartile", "middle", "rank_correlation", "sign_flip"]

Name = TypeVar("Name", bound=Hashable)

LAST: Final = 4
"""The end is the last ``1 / LAST`` of the phases."""
MOST: Final = 20
"""Seeds up to which all signs are tried."""


def at_the_end(values: ArrayLike, /) -> NDArray[np.float64]:
    """Average over the last quarter of the phases, by seed."""
    array = np.asarray(values, dtype=float)
    return np.asarray(array[:, -max(1, array.shape[1] // LAST) :].mean(axis=1))


def interquartile(values: ArrayLike, /) -> Estimate:
    """Return the interquartile mean over seeds, and its 95 % interval."""
    scores = np.asarray(values, dtype=float)[:, None]
    return stratified_bootstrap(scores, statistic=interquartile_mean, rng=np.random.default_rng(0))


def middle(values: ArrayLike, /) -> float:
    """Return the interquartile mean over seeds."""
    return float(interquartile_mean(np.asarray(values, dtype=float)[:, None]))


def sign_flip(first: ArrayLike, second: ArrayLike, /) -> float:
    """Test whether two methods differ on the same seeds: an exact two-sided permutation test of paired differences.

    Args:
        first: Values of one method, by seed; at most 20.
        second: Values of the other, of the same seeds.

    Returns:
        The share of all choices of signs whose sum of differences is as far from zero as that found, or farther.

    Example:
        >>> sign_flip([3.0, 4.0, 5.0], [1.0, 1.0, 1.0])
        0.25
    """
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    if differences.ndim != 1 or not 0 < differences.size <= MOST:
        raise ValueError(f"seeds: expected 1 to {MOST}, got {differences.shape}")
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    found = abs(differences.sum())
    return float(np.mean(np.abs(sums) >= found - 1e-9 * max(1.0, found)))


def holm(p_values: Mapping[Name, float], /) -> dict[Name, float]:
    """Correct p-values for how many there are (Holm 1979).

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    corrected: dict[Name, float] = {}
    least = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, (len(p_values) - rank) * p))
        corrected[name] = least
    return corrected


def rank_correlation(x: ArrayLike, y: ArrayLike, /) -> float:
    """Return Spearman's correlation of ranks; NaN where one of the two does not vary.

    Example:
        >>> round(rank_correlation([1.0, 2.0, 3.0], [2.0, 9.0, 4.0]), 3)
        0.5
    """
    first, second = (_ranks(np.asarray(values, dtype=float)) for values in (x, y))
    spread = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 0 else float("nan")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 0 on; equal values share the mean of theirs."""
    order = np.sort(values)
    return (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right") - 1) / 2
