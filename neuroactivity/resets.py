"""Write a reset: fresh incoming parameters, zero outgoing ones, and the optimizer's moments to match.

Everything is built and checked before it is returned, and no argument is changed.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

from neuroactivity.arrays import (
    Array,
    Arrays,
    accumulation_dtype,
    asarray_like,
    check_array,
    check_like,
    dtype_name,
    namespace,
    no_autograph,
    shape_of,
)
from neuroactivity.errors import LayoutError, check_choice
from neuroactivity.layout import BoundPattern, Layout, NeuronGroup, ParamView, Role, lookup
from neuroactivity.layout.patterns import broadcastable, expand_mask, neuron_sums

Outgoing: TypeAlias = Literal["zero", "small", "fresh", "keep"]
"""What a reset makes of outgoing parameters."""

SMALL = 0.02
"""The size of small outgoing entries, in sizes of those of the neurons that live."""


@no_autograph
def reset(
    params: Arrays, fresh: Arrays, masks: Arrays, /, layout: Layout, *, outgoing: Outgoing = "zero"
) -> dict[str, Array]:
    """Reset the masked neurons: incoming and unscored parameters from ``fresh``, outgoing ones to zero.

    Outgoing entries are written last, so they win where a parameter is outgoing of one neuron and incoming of another.
    All other entries keep their bits.

    Args:
        params: Parameters by name.
        fresh: Freshly initialised parameters by name, of the same shapes and dtypes; only those of masked groups are
            read, and of their outgoing parameters only with ``"small"`` and ``"fresh"``.
        masks: Masks by group name, boolean, shape ``(neurons,)`` or ``(stack, neurons)``, True = reset. A group that is
            absent is left alone, and so is one with ``resettable=False``.
        layout: The neuron groups.
        outgoing: What outgoing parameters become. ``"zero"``: zero; the network computes what it would without the
            neuron, and what flows into the neuron is zero until its outgoing parameters have moved. ``"small"``:
            ``fresh``, scaled to a root mean square of 0.02 times that of the neurons that are not reset; the function
            changes little, and gradients reach the neuron at once. ``"fresh"``: ``fresh`` as it is; the function
            changes. ``"keep"``: what they were, as in the paper's code; the function changes by as much as the neuron's
            output does.

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
    for group, role, view, bound, mask in _entries(params, masks, layout, outgoing):
        old, value = written[view.param], None
        if role != "outgoing" or outgoing != "zero":
            value = _fresh(fresh, view, group, old)
        if role == "outgoing" and outgoing == "small":
            value = small_outgoing(value, params[view.param], mask, view, bound)
        written[view.param] = _select(mask, view, bound, old, value)
    return written


@no_autograph
def reset_moments(
    moments: Arrays, masks: Arrays, /, layout: Layout, fresh: Arrays | None = None, *, outgoing: Outgoing = "zero"
) -> dict[str, Array]:
    """Clear one kind of optimizer moment at every entry that :func:`reset` writes.

    Args:
        moments: One moment by parameter name, of the parameters' shapes: Adam's first moments, or its second, and so
            on. ``None`` for a parameter that has none.
        masks: Masks by group name, as given to :func:`reset`.
        layout: The neuron groups.
        fresh: What the optimizer's initialisation gives for the new parameters, by name: zero when not given, the
            parameter itself for averaged copies. Step counts stay as they are: at the entries that were reset Adam's
            first steps are then several times too long, and the wrappers of the adapters correct them (``clock``).
        outgoing: As given to :func:`reset`; what it keeps has kept its moments.

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
    for group, _, view, bound, mask in _entries(moments, masks, layout, outgoing):
        value = None if fresh is None else _fresh(fresh, view, group, written[view.param])
        written[view.param] = _select(mask, view, bound, written[view.param], value)
    return written


def check_masks(arrays: Arrays, masks: Arrays, layout: Layout) -> None:
    """Raise what :func:`reset` raises if masks are not boolean, or not of these arrays and this layout."""
    for _ in _entries(arrays, masks, layout, "zero"):
        pass


def _entries(
    arrays: Arrays, masks: Arrays, layout: Layout, outgoing: Outgoing
) -> Iterator[tuple[NeuronGroup, Role, ParamView, BoundPattern, Array]]:
    """Yield group, role, view, its axes and the mask, for all that a reset writes, in the order of writing."""
    check_choice("outgoing", outgoing, get_args(Outgoing))
    unknown = [name for name in masks if name not in layout]
    if unknown:
        there = ", ".join(list(layout)[:8])
        raise LayoutError(f"group {unknown[0]!r} of the masks is not in the layout; there are {there}")
    groups = [(layout[name], mask) for name, mask in masks.items() if layout[name].resettable]
    spread = [(group, *entry) for group, mask in groups for entry in _spread(arrays, mask, group)]
    yield from (entry for entry in spread if entry[1] != "outgoing")
    yield from (entry for entry in spread if entry[1] == "outgoing" and outgoing != "keep")


def _spread(arrays: Arrays, mask: Array, group: NeuronGroup) -> Iterator[tuple[Role, ParamView, BoundPattern, Array]]:
    """Pair one group's mask with the parameters that it writes."""
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
        yield role, view, bound, mask


def _fresh(fresh: Arrays, view: ParamView, group: NeuronGroup, old: Array) -> Array:
    """Return the fresh value of a parameter, checked against the one it is to replace."""
    where = f"group {group.name!r}, parameter {view.param!r}"
    if fresh.get(view.param) is None:
        raise LayoutError(f"{where}: no fresh value given")
    check_like(fresh[view.param], old, f"{where}, fresh value")
    return fresh[view.param]


def small_outgoing(value: Array, old: Array, mask: Array, view: ParamView, bound: BoundPattern) -> Array:
    """Scale each neuron's fresh outgoing entries to a part of the size that those of living neurons have.

    Args:
        value: A fresh parameter.
        old: The parameter as it is before the reset.
        mask: The neurons that are reset.
        view: How the neurons lie in it.
        bound: The view fitted to its shape.
    """
    xp = namespace(old, mask)
    dtype, neurons = accumulation_dtype(xp, old.dtype), mask.shape[-1]
    value, old = xp.astype(value, dtype), xp.astype(old, dtype)
    (fresh, entries), (living, _) = [neuron_sums(x * x, bound, view.owners, neurons) for x in (value, old)]
    each = asarray_like((entries,) * neurons if isinstance(entries, int) else entries, like=fresh, dtype=dtype)
    zero = xp.zeros_like(living)
    number, total = [xp.sum(xp.where(mask, zero, x), axis=-1, keepdims=True) for x in (each + zero, living)]
    shrunk = total / xp.where(number > 0, number, 1.0) * each / xp.where(fresh > 0, fresh, 1.0)
    factor = SMALL * shrunk**0.5
    return xp.reshape(xp.reshape(value, bound.sizes) * broadcastable(factor, bound, view.owners), tuple(value.shape))


def _select(mask: Array, view: ParamView, bound: BoundPattern, old: Array, new: Array | None) -> Array:
    """Take the new value, or zero, at the entries of the neurons whose mask is True."""
    xp = namespace(old, mask)
    where = expand_mask(mask, tuple(old.shape), bound, view.owners)
    return xp.where(where, xp.zeros_like(old) if new is None else xp.astype(new, old.dtype, copy=False), old)
