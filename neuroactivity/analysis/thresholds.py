"""How many neurons are inactive, as the threshold is moved."""

import math
import numbers
from collections.abc import Sequence

from neuroactivity.analysis.checks import check_shape, members
from neuroactivity.arrays import Arrays


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
        check_shape(group, name, "scores")
        sound = [all(map(math.isfinite, member)) for member in members(group)]
        judged = sum(sound) * group.shape[-1]
        counts = []
        for tau in taus:
            low = members(group <= float(tau))
            counts.append(sum(sum(member) for member, whole in zip(low, sound, strict=True) if whole))
        fractions[name] = tuple([count / judged if judged else math.nan for count in counts])
    return fractions
