"""The arrays in an optimizer's state: which parameter each belongs to, and how a reset starts their entries anew.

An array of the state belongs to the parameter that has its shape and whose path its path ends in. Where a reset writes,
it becomes what the optimizer's ``init`` gives for the new parameters. An array that fits no parameter is refused.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array

import neuroactivity as na
from neuroactivity.resets import Outgoing
from neuroactivity.wrapping import written_params
from neuroactivity_jax.parameters import Path, PyTree, is_float, parameters, path_leaves
from neuroactivity_jax.sharding import automatic
from neuroactivity_jax.state import COUNTS, ActivityState

_Shapes: TypeAlias = Mapping[Path, tuple[int, ...]]

_TABLES = {"ns_coeffs"}  # muon's polynomial


def clear_moments(
    inner: optax.GradientTransformation,
    state: PyTree,
    params: PyTree,
    masks: Mapping[str, Array],
    layout: na.Layout,
    *,
    outgoing: Outgoing = "zero",
) -> PyTree:
    """Clear an optimizer's moments at every entry that :func:`neuroactivity.reset` writes.

    For custom training loops; :func:`regrama` and :func:`redo` do it themselves. Each moment becomes what the optimizer
    starts with for the new parameter; step counts stay, since healthy neurons share them, so that Adam's first steps
    there are several times too long. The wrappers correct them (``clock``); this function cannot.

    Args:
        inner: The optimizer.
        state: Its state.
        params: The new parameters.
        masks: Masks by group name.
        layout: The neuron groups.
        outgoing: As given to :func:`neuroactivity.reset`.

    Returns:
        The new state.

    Raises:
        ValueError: If the state holds arrays that belong to no parameter.

    Example:
        >>> layout = na.Layout([na.dense("fc", weight=("w", "in neuron"))])
        >>> params, adam = {"w": jnp.ones((1, 3))}, optax.adam(0.1)
        >>> _, state = adam.update({"w": jnp.ones((1, 3))}, adam.init(params), params)
        >>> masks = {"fc": jnp.array([False, True, False])}
        >>> [round(float(x), 3) for x in clear_moments(adam, state, params, masks, layout)[0].mu["w"][0]]
        [0.1, 0.0, 0.1]
    """
    state_owners(state, params)

    def cleared(state: PyTree, params: PyTree, masks: Mapping[str, Array]) -> PyTree:
        written = written_mask(parameters(params), masks, layout, outgoing=outgoing)
        return reinit_state(inner, state, params, written)

    return automatic(cleared, state, state, params, dict(masks))


def written_mask(
    params: Mapping[str, Array], masks: Mapping[str, Array], layout: na.Layout, *, outgoing: Outgoing = "zero"
) -> dict[str, Array]:
    """Return for each parameter that a reset writes a mask of the entries that it writes."""
    groups = [name for name in masks if name in layout]
    names = sorted(written_params(groups, layout))
    nowhere = {name: jnp.zeros(params[name].shape, bool) for name in names}
    everywhere = {name: jnp.ones(params[name].shape, bool) for name in names}
    masks = {name: jnp.asarray(mask) for name, mask in masks.items()}
    written = na.reset_moments(nowhere, masks, layout, everywhere, outgoing=outgoing)
    return {name: written[name] for name in sorted(written_params(groups, layout, outgoing=outgoing))}


def reinit_state(
    inner: optax.GradientTransformation, state: PyTree, params: PyTree, written: Mapping[str, Array]
) -> PyTree:
    """Take the optimizer's initial state for the new parameters where a reset has written."""
    initial, expected = jax.tree.flatten(inner.init(params))
    leaves, structure = jax.tree.flatten(state)
    if expected != structure:  # type: ignore[operator]
        raise ValueError(f"the optimizer's state is not of the form that its init gives: {structure}")
    new = [
        leaf if name is None or name not in written else jnp.where(written[name], jnp.asarray(start, leaf.dtype), leaf)
        for name, leaf, start in zip(state_owners(state, params), leaves, initial, strict=True)
    ]
    return jax.tree.unflatten(structure, new)


def state_owners(state: PyTree, params: PyTree) -> list[str | None]:
    """Name the parameter that each leaf of a state belongs to; ``None`` for counts, rates and keys.

    Raises:
        ValueError: If an array of the state belongs to no parameter.
    """
    arrays = {path: leaf.shape for path, leaf in path_leaves(params) if is_float(leaf)}
    leaves = [(path, leaf) for path, leaf in path_leaves(_without_records(state)) if leaf is not None]
    shapes = {path: tuple(getattr(leaf, "shape", ())) for path, leaf in leaves}
    owners: list[str | None] = []
    for path, leaf in leaves:
        near = [ending for ending in (path[start:] for start in range(len(path) + 1)) if ending in arrays]
        fitting = [ending for ending in near if arrays[ending] == shapes[path]]
        if len(fitting) > 1:
            fitting = _most_complete(path, fitting, arrays, shapes)
        if len(fitting) != 1 and not _is_shared(path, leaf):
            candidates = [f"{'/'.join(ending)!r} of shape {arrays[ending]}" for ending in fitting or near]
            expected = f"to belong to parameter {' or '.join(candidates)}" if candidates else "to belong to a parameter"
            raise ValueError(
                f"state {'/'.join(path)!r} of the optimizer: expected it {expected}, got shape {shapes[path]}; what it "
                "remembers of a neuron is not known, so it cannot be reset (with max_fraction=0 nothing is)"
            )
        owners.append("/".join(fitting[0]) if len(fitting) == 1 else None)
    return owners


def _without_records(state: PyTree) -> PyTree:
    """Replace by numbers the arrays that a nested wrapper keeps for itself, which belong to no parameter."""

    def bare(node: Any) -> Any:
        if not isinstance(node, ActivityState):
            return node
        records = {name: getattr(node, name) for name in node._fields if name not in ("inner_state", *COUNTS)}
        inner_state = _without_records(node.inner_state)
        return node._replace(inner_state=inner_state, **jax.tree.map(lambda _: 0, records))

    return jax.tree.map(bare, state, is_leaf=lambda node: isinstance(node, ActivityState))


def _most_complete(path: Path, fitting: Sequence[Path], arrays: _Shapes, shapes: _Shapes) -> list[Path]:
    """Of several endings of a path keep those before which the state holds the most parameters."""

    def count(ending: Path) -> int:
        before = path[: len(path) - len(ending)]
        return sum(shapes.get((*before, *param)) == shape for param, shape in arrays.items())

    return [ending for ending in fitting if count(ending) == max(map(count, fitting))]


def _is_shared(path: Path, leaf: Any) -> bool:
    """Whether a leaf is one number for all neurons, a random key, or a table that is known to hold for all."""
    if math.prod(getattr(leaf, "shape", ())) <= 1 or path[-1] in _TABLES:
        return True
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return True
    return bool(leaf.dtype == jnp.uint32) and leaf.shape[-1] in (2, 4)  # the numbers of a key
