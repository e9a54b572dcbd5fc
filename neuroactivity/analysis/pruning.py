"""Networks without some of their neurons."""

from neuroactivity.arrays import Array, Arrays, no_autograph
from neuroactivity.layout import Layout
from neuroactivity.resets import reset_moments


@no_autograph
def prune(params: Arrays, /, masks: Arrays, layout: Layout) -> dict[str, Array]:
    """Remove the masked neurons: their incoming, unscored and outgoing entries become zero.

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
