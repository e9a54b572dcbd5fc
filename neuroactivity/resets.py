"""Write a reset: fresh incoming parameters, zero outgoing ones, and the optimizer's moments to match.

Everything is built and checked before it is returned, and no argument is changed.
"""

from collections.abc import Iterator

from neuroactivity.arrays import Array, Arrays, check_array, check_like, dtype_name, namespace, no_autograph, shape_of
from neuroactivity.errors import LayoutError
from neuroactivity.layout import Layout, NeuronGroup, ParamView, Role, lookup
from neuroactivity.layout.patterns import expand_mask


@no_autograph
def reset(params: Arrays, fresh: Arrays, masks: Arrays, /, layout: Layout) -> dict[str, Array]:
    """Reset the masked neurons: incoming and unscored parameters from ``fresh``, outgoing ones to zero.

    Outgoing entries are written last, so zero wins where a parameter is outgoing of one neuron and incoming of another.
    All other entries keep their bits.

    Args:
        params: Parameters by name.
        fresh: Freshly initialised parameters by name, of the same shapes and dtypes; only those of masked groups are
            read.
        masks: Masks by group name, boolean, shape ``(neurons,)`` or ``(stack, neurons)``, True = reset. A group that is
            absent is left alone, and so is one with ``resettable=False``.
        layout: The neuron groups.

    Returns:
        All parameters by name: new arrays where something was written, the given ones elsewhere.

    Raises:
        LayoutError: If a parameter, a fresh value or a group is missing, or has another shape or dtype than expected.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> layout = na.Layout([na.dense("a", weight=("a.w", "neuron in"), outgoing=[("b.w", "out neuron")])])
        >>> params = {"a.w": np.array([[1.0], [2.0]]), "b.w": np.array([[3.0, 4.0]])}
        >>> na.reset(params, {"a.w": np.array([[7.0], [8.0]])}, {"a": np.array([False, True])}, layout)
        {'a.w': array([[1.],
               [8.]]), 'b.w': array([[3., 0.]])}

    References:
        Liu et al., "Measure gradients, not activations!", NeurIPS 2025, arXiv:2505.24061, Algorithm 1.

    Notes:
        The paper's text sets outgoing weights to zero and its code leaves them; this follows the text. Where a neuron
        feeds a normalisation, the network's function changes even so, since the neuron takes part in the statistics.
    """
    written = dict(params)
    for group, role, view, mask in _entries(params, masks, layout):
        value = None if role == "outgoing" else _fresh(fresh, view, group, written[view.param])
        written[view.param] = _select(mask, written[view.param], value)
    return written


@no_autograph
def reset_moments(moments: Arrays, masks: Arrays, /, layout: Layout, fresh: Arrays | None = None) -> dict[str, Array]:
    """Clear one kind of optimizer moment at every entry that :func:`reset` writes.

    Args:
        moments: One moment by parameter name, of the parameters' shapes: Adam's first moments, or its second, and so
            on. ``None`` for a parameter that has none.
        masks: Masks by group name, as given to :func:`reset`.
        layout: The neuron groups.
        fresh: What the optimizer's initialisation gives for the new parameters, by name: zero when not given, the
            parameter itself for averaged copies. Step counts stay as they are.

    Returns:
        All moments by parameter name.

    Raises:
        LayoutError: If a moment, a fresh value or a group is missing, or has another shape or dtype than expected.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> layout = na.Layout([na.dense("a", weight=("a.w", "neuron in"))])
        >>> na.reset_moments({"a.w": np.array([[0.5], [0.25]])}, {"a": np.array([False, True])}, layout)
        {'a.w': array([[0.5],
               [0. ]])}
    """
    written = dict(moments)
    for group, _, view, mask in _entries(moments, masks, layout):
        value = None if fresh is None else _fresh(fresh, view, group, written[view.param])
        written[view.param] = _select(mask, written[view.param], value)
    return written


def _entries(arrays: Arrays, masks: Arrays, layout: Layout) -> Iterator[tuple[NeuronGroup, Role, ParamView, Array]]:
    """Yield group, role, view and mask of its entries, for all that a reset writes, in the order of writing."""
    unknown = [name for name in masks if name not in layout]
    if unknown:
        there = ", ".join(list(layout)[:8])
        raise LayoutError(f"group {unknown[0]!r} of the masks is not in the layout; there are {there}")
    groups = [(layout[name], mask) for name, mask in masks.items() if layout[name].resettable]
    spread = [(group, *entry) for group, mask in groups for entry in _spread(arrays, mask, group)]
    yield from (entry for entry in spread if entry[1] != "outgoing")
    yield from (entry for entry in spread if entry[1] == "outgoing")


def _spread(arrays: Arrays, mask: Array, group: NeuronGroup) -> Iterator[tuple[Role, ParamView, Array]]:
    """Spread one group's mask over the parameters that it writes."""
    try:
        check_array(mask)
    except TypeError as error:
        raise TypeError(f"group {group.name!r}, mask: {error}") from None
    where = f"group {group.name!r}"
    present = {view.param: lookup(arrays, view.param, group.name) for _, view in group.views}
    shapes = {p: shape_of(array, f"{where}, parameter {p!r}: ") for p, array in present.items() if array is not None}
    if not shapes:
        return
    shape = shape_of(mask, f"{where}, mask: ")
    fit = group.bind(shapes, default=shape[-1] if shape else None)
    if shape != fit.shape or not namespace(mask).isdtype(mask.dtype, "bool"):
        came = f"{dtype_name(mask.dtype)} of shape {shape}"
        raise LayoutError(f"{where}: expected a boolean mask of shape {fit.shape}, got {came}")
    for role, view, bound in fit.views:
        try:
            namespace(present[view.param], mask)
        except TypeError as error:
            raise TypeError(f"{where}, parameter {view.param!r} and mask: {error}") from None
        yield role, view, expand_mask(mask, shapes[view.param], bound, view.owners)


def _fresh(fresh: Arrays, view: ParamView, group: NeuronGroup, old: Array) -> Array:
    """Return the fresh value of a parameter, checked against the one it is to replace."""
    where = f"group {group.name!r}, parameter {view.param!r}"
    if fresh.get(view.param) is None:
        raise LayoutError(f"{where}: no fresh value given")
    check_like(fresh[view.param], old, f"{where}, fresh value")
    return fresh[view.param]


def _select(mask: Array, old: Array, new: Array | None) -> Array:
    """Take the new value, or zero, where the mask is True."""
    xp = namespace(old, mask)
    return xp.where(mask, xp.zeros_like(old) if new is None else new, old)
