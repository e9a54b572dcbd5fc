"""Sizes of features, weights and gradients, and how many units and entries do nothing."""

import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any

from neuroactivity.analysis.checks import floating
from neuroactivity.arrays import Array, Arrays, no_autograph, to_dense
from neuroactivity.errors import LayoutError


@no_autograph
def active_fraction(outputs: Arrays, /) -> dict[str, Array]:
    r"""Compute the fraction of a layer's outputs that are not zero: after ReLU, the units that fire.

    .. math:: \frac{1}{N} \bigl|\{(x, i): h_i(x) \ne 0\}\bigr|

    Args:
        outputs: Outputs of layers by name, of any shape, of a real floating dtype: :math:`h_i(x)` of neuron :math:`i`
            for sample :math:`x`, :math:`N` in all.

    Returns:
        Fractions by name, scalars in ``[0, 1]``; NaN where an output is not finite. Float64 for float64, float32
        otherwise.

    Raises:
        LayoutError: If outputs have no entries, or are not of a real floating dtype.

    Example:
        >>> import numpy as np
        >>> active_fraction({"fc": np.array([[0.0, 2.0], [0.0, 3.0]])})
        {'fc': array(0.5)}

    References:
        Abbas et al., "Loss of plasticity in continual deep reinforcement learning", CoLLAs 2023, arXiv:2303.07507.
    """
    return _fractions(outputs, lambda h: h != 0)


@no_autograph
def saturated_fraction(
    outputs: Arrays, /, *, bounds: tuple[float, float] = (-1.0, 1.0), within: float = 0.05
) -> dict[str, Array]:
    r"""Compute the fraction of the outputs of a bounded activation function that are close to one of its bounds.

    With bounds :math:`a < b`:

    .. math:: \frac{1}{N} \bigl|\{(x, i): \min(h_i(x) - a, b - h_i(x)) \le w (b - a)\}\bigr|

    Args:
        outputs: As for :func:`active_fraction`, from an activation function between ``bounds``.
        bounds: Of the activation function: ``(-1, 1)`` for tanh, ``(0, 1)`` for the sigmoid.
        within: How close, :math:`w`, as a part of the range; in ``[0, 0.5]``.

    Returns:
        As :func:`active_fraction`.

    Raises:
        LayoutError: As :func:`active_fraction`.
        ValueError: If ``bounds`` or ``within`` is out of range.

    Example:
        >>> import numpy as np
        >>> saturated_fraction({"fc": np.tanh(np.array([[-4.0, 0.1, 0.5, 6.0]]))})
        {'fc': array(0.5)}

    Notes:
        A threshold of this kind is common, but no paper's definition is the reference; Rakitianskaia and Engelbrecht
        ("Measuring saturation in neural networks", IEEE SSCI 2015) measure the same by the histogram of the outputs.
    """
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"bounds: expected two finite numbers, the lower first, got {bounds!r}")
    if not isinstance(within, numbers.Real) or not 0 <= within <= 0.5:
        raise ValueError(f"within: expected a number in [0, 0.5], got {within!r}")
    margin = float(within) * (high - low)
    return _fractions(outputs, lambda h: (h <= low + margin) | (h >= high - margin))


@no_autograph
def zero_gradient_fraction(grads: Arrays, /) -> dict[str, Array]:
    r"""Compute the fraction of each gradient's entries that are exactly zero.

    .. math:: \frac{1}{N} \bigl|\{k: g_k = 0\}\bigr|

    Args:
        grads: Gradients by parameter name, of any shape, dense or sparse, of a real floating dtype.

    Returns:
        As :func:`active_fraction`.

    Raises:
        LayoutError: As :func:`active_fraction`.

    Example:
        >>> import numpy as np
        >>> zero_gradient_fraction({"fc.weight": np.array([[0.0, 0.0], [0.1, -0.2]])})
        {'fc.weight': array(0.5)}

    References:
        The zero-gradient ratio of the plasticity literature, by parameter. A neuron with no gradient at all has a GraMa
        score of 0 (:func:`neuroactivity.grama`); this counts single entries.
    """
    return _fractions({name: to_dense(grad) for name, grad in grads.items()}, lambda g: g == 0)


@no_autograph
def feature_norm(features: Arrays, /) -> dict[str, Array]:
    r"""Compute the mean Euclidean norm of each layer's features.

    .. math:: \frac{1}{n} \sum_x \sqrt{\sum_i h_i(x)^2}

    Args:
        features: Outputs of layers by name, shape ``(..., neurons)``: the norm is over the last axis, the mean over
            the others, :math:`n` samples in all.

    Returns:
        Norms by name, scalars of 0 or more. Float64 for float64, float32 otherwise.

    Raises:
        LayoutError: If features have no entries or no axis, or are not of a real floating dtype.

    Example:
        >>> import numpy as np
        >>> float(feature_norm({"fc": np.array([[3.0, 4.0], [0.0, 1.0]])})["fc"])
        3.0

    References:
        Lyle et al., "Disentangling the causes of plasticity loss in neural networks", CoLLAs 2024, arXiv:2402.18762.
    """
    norms = {}
    for name, array in features.items():
        xp, values = floating(array, name)
        if values.ndim == 0:
            raise LayoutError(f"{name!r}: expected shape (..., neurons), got ()")
        lengths = xp.sum(values * values, axis=-1) ** 0.5
        norms[name] = xp.sum(lengths) / math.prod(lengths.shape)
    return norms


@no_autograph
def norm(arrays: Arrays, /) -> Array:
    r"""Compute the Euclidean norm of several arrays together: of all weights, or of all gradients.

    .. math:: \sqrt{\sum_k w_k^2}

    Args:
        arrays: Parameters or gradients by name, dense or sparse, of real floating dtypes and one library.

    Returns:
        A scalar, 0 or more; float64 if an array is, float32 otherwise.

    Raises:
        LayoutError: If there is no array, or one has no entries or is not of a real floating dtype.

    Example:
        >>> import numpy as np
        >>> float(norm({"w": np.array([[3.0, 0.0]]), "b": np.array([4.0])}))
        5.0

    References:
        Lyle et al. 2024, arXiv:2402.18762, for growing weights as a cause of lost plasticity.
    """
    return _norm(floating(to_dense(array), name) for name, array in arrays.items())


@no_autograph
def distance(params: Arrays, initial: Arrays, /) -> Array:
    r"""Compute the Euclidean distance of parameters from those at the start.

    .. math:: \sqrt{\sum_k (w_k - w^0_k)^2}

    Args:
        params: Parameters by name.
        initial: The same parameters at the start of training, copied then.

    Returns:
        As :func:`norm`.

    Raises:
        LayoutError: As :func:`norm`, or if names or shapes differ.

    Example:
        >>> import numpy as np
        >>> float(distance({"w": np.array([3.0, 5.0])}, {"w": np.array([0.0, 1.0])}))
        5.0

    References:
        Kumar, Marklund and Van Roy, "Maintaining plasticity in continual learning via regenerative regularization",
        2023, arXiv:2308.11958.
    """
    if missing := set(params) ^ set(initial):
        raise LayoutError(f"params and initial: expected the same names, {sorted(missing)[0]!r} is in one only")
    differences = []
    for name, now in params.items():
        if tuple(now.shape) != tuple(initial[name].shape):
            raise LayoutError(
                f"{name!r}: expected shape {tuple(initial[name].shape)} as in initial, got {tuple(now.shape)}"
            )
        (xp, values), (_, start) = floating(now, name), floating(initial[name], name)
        differences.append((xp, values - start))
    return _norm(differences)


def _norm(found: Iterable[tuple[Any, Array]]) -> Array:
    """Return the norm of all entries."""
    sums = [(xp, xp.sum(values * values)) for xp, values in found]
    if not sums:
        raise LayoutError("expected at least one array, got none")
    xp, _ = sums[0]
    wide = xp.result_type(*[square.dtype for _, square in sums])
    total = xp.sum(xp.stack([xp.astype(square, wide) for _, square in sums]))
    return total**0.5


def _fractions(arrays: Arrays, which: Callable[[Array], Array]) -> dict[str, Array]:
    """Return the fraction of each array's entries for which ``which`` is True."""
    fractions = {}
    for name, array in arrays.items():
        xp, values = floating(array, name)
        share = xp.sum(xp.astype(which(values), values.dtype)) / math.prod(values.shape)
        fractions[name] = xp.where(xp.all(xp.isfinite(values)), share, xp.full_like(share, math.nan))
    return fractions
