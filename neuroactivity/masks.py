"""Which neurons to reset."""

import math
import numbers

from neuroactivity.arrays import Array, Arrays, accumulation_dtype, lowest_entries, map_batched, namespace, no_autograph


@no_autograph
def reset_masks(
    scores: Arrays,
    /,
    tau: float = 0.01,
    *,
    max_fraction: float | None = None,
    reset_silent: bool = False,
    lowest: float | None = None,
    protected: Arrays | None = None,
) -> dict[str, Array]:
    """Choose the neurons to reset: those with a score of at most ``tau``.

    Args:
        scores: Scores by group name, shape ``(neurons,)`` or ``(stack, neurons)``, from :func:`neuroactivity.grama` or
            :func:`neuroactivity.tau_dormant`.
        tau: Threshold, zero or more. With 0 exactly the neurons of zero magnitude.
        max_fraction: At most ``floor(max_fraction * neurons + 1e-9)`` neurons of a group (and stack member), those of
            the lowest scores, ties to the lower index; in ``[0, 1]``. ``None`` for no limit.
        reset_silent: Whether a group whose scores are all zero is reset as a whole. By default it is left alone: the
            cause is usually a dead layer further on.
        lowest: Choose ``floor(lowest * neurons + 1e-9)`` neurons of every group (and stack member), those of the lowest
            scores, whatever ``tau`` is; in ``[0, 1]``.
        protected: Masks by group name of neurons that are not chosen, and that others are chosen instead of where their
            number is limited; a group may be absent.

    Returns:
        Masks by group name, boolean, of the scores' shapes, True = reset. All False in a group (or stack member) with a
        score that is not finite (or so large that their sum is not).

    Raises:
        ValueError: If ``tau``, ``max_fraction`` or ``lowest`` is out of range.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> na.reset_masks({"fc": np.array([0.0, 2.0, 0.005, 1.9])}, tau=0.01, max_fraction=0.25)
        {'fc': array([ True, False, False, False])}

    References:
        Liu et al., "Measure gradients, not activations!", NeurIPS 2025, arXiv:2505.24061, Algorithm 1 (``tau``) and
        Appendix A.3 (at most 5 % of a layer on Humanoid).

    Notes:
        Published codes reset every neuron of a group without gradient, output heads included, and select too many
        neurons where scores tie.
    """
    if not isinstance(tau, numbers.Real) or not 0 <= tau < math.inf:
        raise ValueError(f"tau: expected a finite number of 0 or more, got {tau!r}")
    for name, fraction in (("max_fraction", max_fraction), ("lowest", lowest)):
        if fraction is not None and not (isinstance(fraction, numbers.Real) and 0 <= fraction <= 1):
            raise ValueError(f"{name}: expected a number in [0, 1] or None, got {fraction!r}")
    limit = min([fraction for fraction in (max_fraction, lowest) if fraction is not None], default=None)

    def choose(scores: Array, held: Array | None = None) -> Array:
        xp = namespace(scores)
        total = xp.sum(xp.abs(scores), axis=-1, keepdims=True, dtype=accumulation_dtype(xp, scores.dtype))
        judged = (total < math.inf) & (total > (-1 if reset_silent else 0))  # not where one is NaN or Inf
        mask = (scores <= float(tau if lowest is None else math.inf)) & judged
        mask = mask if held is None else mask & ~held
        if limit is None:
            return mask
        keys = xp.where(mask, scores, xp.full_like(scores, xp.inf))
        return mask & lowest_entries(keys, math.floor(limit * scores.shape[-1] + 1e-9))

    held = {name: mask for name, mask in (protected or {}).items() if name in scores}
    masks = map_batched(choose, {name: score for name, score in scores.items() if name not in held})
    masks |= {name: choose(scores[name], mask) for name, mask in held.items()}
    return {name: masks[name] for name in scores}
