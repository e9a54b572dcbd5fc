"""The direct measure of plasticity: how well a network fits new targets, starting from its present weights."""

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from neuroactivity.analysis.checks import floating
from neuroactivity.arrays import Array, Arrays, namespace, no_autograph
from neuroactivity.errors import LayoutError

_MOMENTUM, _SQUARES, _EPSILON = 0.9, 0.999, 1e-8


@no_autograph
def fitting_losses(
    params: Arrays,
    loss_and_grads: Callable[[Arrays], tuple[Array, Arrays]],
    /,
    *,
    steps: int = 100,
    learning_rate: float = 1e-3,
) -> Array:
    r"""Fit new targets from the present weights with a fresh Adam, and return the loss before each step and at the end.

    A network that has lost plasticity ends with a higher loss than a newly drawn one with the same targets and steps.
    Nothing of the run changes: the arrays that were passed are not written to, and its optimizer is not used.

    Args:
        params: The present weights by name, of a real floating dtype.
        loss_and_grads: Returns the loss of such weights, a scalar, and its gradients by the same names. Which inputs
            and targets it uses is yours, and should be the same at every call: Lyle et al. take observations of the
            run, and as targets :math:`\sin(10^5 f(x))`, :math:`f` a randomly drawn network.
        steps: Steps of Adam (betas 0.9 and 0.999, epsilon 1e-8), 1 or more.
        learning_rate: A positive number.

    Returns:
        Losses, shape ``(steps + 1,)``, in the dtype of the loss.

    Raises:
        LayoutError: If the gradients have other names or shapes than the weights.
        ValueError: If ``steps`` or ``learning_rate`` is out of range.

    Example:
        >>> import numpy as np
        >>> def loss_and_grads(params):
        ...     error = params["w"] - np.array([0.02, -0.01])
        ...     return np.sum(error**2), {"w": 2 * error}
        >>> losses = fitting_losses({"w": np.zeros(2)}, loss_and_grads, steps=50)
        >>> bool(losses[-1] < 0.01 * losses[0])
        True

    References:
        Lyle et al., "Understanding plasticity in neural networks", ICML 2023, arXiv:2303.01486, who call the loss that
        is reached, less a baseline, (the lack of) plasticity.
    """
    if not isinstance(steps, numbers.Integral) or steps < 1:
        raise ValueError(f"steps: expected a whole number of at least 1, got {steps!r}")
    if not isinstance(learning_rate, numbers.Real) or not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate: expected a positive number, got {learning_rate!r}")
    dtypes = {name: value.dtype for name, value in params.items()}
    params = {name: floating(value, name)[1] for name, value in params.items()}
    mean = {name: namespace(value).zeros_like(value) for name, value in params.items()}
    square, losses = dict(mean), []
    for step in range(1, steps + 1):
        loss, grads = loss_and_grads(_cast(params, dtypes))
        _check(params, grads)
        grads = {name: floating(grad, name)[1] for name, grad in grads.items()}
        losses.append(loss)
        rate = learning_rate * math.sqrt(1 - _SQUARES**step) / (1 - _MOMENTUM**step)
        epsilon = _EPSILON * math.sqrt(1 - _SQUARES**step)
        for name, grad in grads.items():
            mean[name] = _MOMENTUM * mean[name] + (1 - _MOMENTUM) * grad
            square[name] = _SQUARES * square[name] + (1 - _SQUARES) * grad * grad
            params[name] = params[name] - rate * mean[name] / (square[name] ** 0.5 + epsilon)
    losses.append(loss_and_grads(_cast(params, dtypes))[0])
    return namespace(losses[0]).stack(losses)


def _cast(params: Arrays, dtypes: Mapping[str, Any]) -> dict[str, Array]:
    """Return parameters in the dtypes that the loss takes."""
    return {name: namespace(value).astype(value, dtypes[name], copy=False) for name, value in params.items()}


def _check(params: Arrays, grads: Arrays) -> None:
    """Gradients have the names and shapes of the weights."""
    if missing := set(params) ^ set(grads):
        raise LayoutError(f"gradients: expected the names of the weights, {sorted(missing)[0]!r} is in one only")
    for name, grad in grads.items():
        if tuple(grad.shape) != tuple(params[name].shape):
            raise LayoutError(f"gradient {name!r}: expected shape {tuple(params[name].shape)}, got {tuple(grad.shape)}")
