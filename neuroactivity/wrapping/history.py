"""What a wrapper remembers of its resets: for each neuron how many measurements ago it was reset.

One array of counts for each group, ``int32``, of the shape of its scores; :data:`NEVER` for a neuron that was not reset
yet. Pure functions of such arrays, on every backend and in compiled code.
"""

import math
import warnings

from neuroactivity.arrays import Array, Arrays, namespace, no_autograph
from neuroactivity.errors import ActivityWarning
from neuroactivity.report import GroupActivity

NEVER = 2**30
"""Measurements since the reset of a neuron that was never reset."""

_AGAIN, _FEW = {"reset again"}, 4


@no_autograph
def advance(since: Arrays, masks: Arrays) -> dict[str, Array]:
    """Count one more measurement, at which the neurons of ``masks`` are reset.

    Args:
        since: Measurements since each neuron's last reset, by group name.
        masks: Masks by group name; a group may be absent.

    Example:
        >>> import numpy as np
        >>> advance({"fc": np.array([0, 3, NEVER])}, {"fc": np.array([False, True, False])})["fc"].tolist()
        [1, 0, 1073741824]
    """
    counted = {}
    for name, ages in since.items():
        xp = namespace(ages)
        older = ages + xp.astype(ages < NEVER, ages.dtype)
        counted[name] = xp.where(masks[name], xp.zeros_like(ages), older) if name in masks else older
    return counted


@no_autograph
def reset_before(since: Arrays) -> dict[str, Array]:
    """Return masks of the neurons that the last reset reset, whichever measurement that was.

    Args:
        since: Measurements since each neuron's last reset, by group name.

    Example:
        >>> import numpy as np
        >>> since = {"a": np.array([2, 5, NEVER]), "b": np.array([2, NEVER])}
        >>> [mask.tolist() for mask in reset_before(since).values()]
        [[True, False, False], [True, False]]
    """
    ages = [ages for ages in since.values() if math.prod(ages.shape)]
    if not ages:
        return {name: ages < 0 for name, ages in since.items()}
    xp = namespace(*ages)
    latest = xp.min(xp.stack([xp.min(each) for each in ages]))
    return {name: (each == latest) & (each < NEVER) for name, each in since.items()}


def warn_of_resets(total: GroupActivity, warned: set[str], *, stacklevel: int) -> None:
    """Warn, once, if most of what the previous reset reset is to be reset again."""
    reset, again = total.reset or 0, total.reset_again or 0
    if _FEW <= reset < 2 * again and not _AGAIN & warned:
        warned |= _AGAIN
        warnings.warn(
            f"{again} of the neurons that were reset last are inactive again, of {reset} that are reset now: resets do "
            "not last; measure more rarely (every=), over several batches (batches=), or with a lower tau",
            ActivityWarning,
            stacklevel=stacklevel + 1,
        )
