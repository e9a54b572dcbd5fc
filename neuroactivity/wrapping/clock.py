"""A reset neuron's own clock: how long it runs, and how moments are handed over to the clock of the run."""

import math
from typing import Any

from neuroactivity.arrays import namespace

YOUNG = 200
"""For so many steps after a reset the entries that it wrote take the steps of an optimizer that was made with them.

The first steps are those that kill a neuron, and 20 to 50 of them are enough for most networks. But a reset neuron's
outgoing weights start at zero, so the gradients of its incoming ones start small and grow. An average of squares that
is handed over too early is too small for what follows, and the run's decay is slow to forget it: behind a LayerNorm,
fewer resets last with 50 steps than with 200. More than 200 bring little, and each of them costs a second update. In
SAC more resets last with 50 (docs/results.md); one number cannot be the best for all.
"""


def handing_over_factor(decay: Any, count: Any, age: Any) -> Any:
    r"""Return by what a moment is multiplied when its entries change from their own step count to that of the run.

    An exponential average that starts at zero has seen the part :math:`1 - b^t` of its weights after :math:`t` steps,
    and optimizers divide by it. A young average that the run's count divides is to come out as what its own count makes
    of it:

    .. math:: \frac{1 - b^{\mathrm{count}}}{1 - b^{\mathrm{age}}}

    Args:
        decay: The decay :math:`b` of the average, in ``[0, 1)``; an array of them in ``(0, 1)``.
        count: Steps of the run, a number or an array.
        age: Steps since the reset, 1 or more.

    Example:
        >>> handing_over_factor(0.5, 2, 1)
        1.5
    """
    if isinstance(decay, int | float):
        if decay == 0:
            return 1.0
        rate = math.log(decay)
    else:
        rate = namespace(decay).log(decay)
    return _expm1(rate * count) / _expm1(rate * age)


def _expm1(x: Any) -> Any:
    return math.expm1(x) if isinstance(x, float) else namespace(x).expm1(x)
