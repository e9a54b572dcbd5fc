"""What an optimizer's state remembers of each parameter entry, and how to make it forget reset ones.

An array of the state belongs to the parameter whose path its own path ends in and whose shape it has. What it starts
with is what the optimizer's ``init`` gives for the new parameters. An array that fits no parameter is refused, not
guessed.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

import neuroactivity as na
from neuroactivity_jax.listing import Shape
from neuroactivity_jax.state import ActivityState
from neuroactivity_jax.trees import Path, PyTree, is_float, parameters, path_leaves, shapes_of

__all__ = ["check_state", "clear_moments", "cleared", "written_entries"]

_TABLES = {"ns_coeffs"}  # muon's polynomial


def clear_moments(
    inner: optax.GradientTransformation,
    state: PyTree,
    params: PyTree,
    masks: Mapping[str, Array],
    layout: na.Layout,
) -> PyTree:
    """Clear an optimizer's moments at every entry that :func:`neuroactivity.reset` writes.

    For a loop of one's own; :func:`regrama` and :func:`redo` do it themselves. Each moment becomes what the optimizer
    starts with for the new parameter; step counts stay, since healthy neurons share them.

    Args:
        inner: The optimizer.
        state: Its state.
        params: The new parameters.
        masks: Masks by group name.
        layout: The neuron groups.

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
    check_state(state, params)
    return cleared(inner, state, params, written_entries(parameters(params), masks, layout))


def written_entries(params: Mapping[str, Array], masks: Mapping[str, Array], layout: na.Layout) -> dict[str, Array]:
    """Say of each parameter that a reset writes to which of its entries it writes."""
    shapes = shapes_of(params)
    groups = [layout[name] for name in masks if name in layout and layout[name].resettable]
    names = {view.param for group in groups for _, view in group.views}
    nowhere = {name: jnp.zeros(shapes[name], bool) for name in sorted(names)}
    everywhere = {name: jnp.ones(shapes[name], bool) for name in nowhere}
    return na.reset_moments(nowhere, {name: jnp.asarray(mask) for name, mask in masks.items()}, layout, everywhere)


def cleared(inner: optax.GradientTransformation, state: PyTree, params: PyTree, written: Mapping[str, Array]) -> PyTree:
    """Take the optimizer's initial state for the new parameters where a reset has written."""
    initial, expected = jax.tree.flatten(inner.init(params))
    leaves, structure = jax.tree.flatten(state)
    if expected != structure:  # type: ignore[operator]
        raise ValueError(f"the optimizer's state is not of the form that its init gives: {structure}")
    new = [
        leaf if name is None or name not in written else jnp.where(written[name], jnp.asarray(start, leaf.dtype), leaf)
        for name, leaf, start in zip(_owners(state, params), leaves, initial, strict=True)
    ]
    return jax.tree.unflatten(structure, new)


def check_state(state: PyTree, params: PyTree) -> None:
    """Raise a ``ValueError`` if a state holds arrays that belong to no parameter."""
    _owners(state, params)


def _owners(state: PyTree, params: PyTree) -> list[str | None]:
    """Name the parameter to which each leaf of a state belongs; ``None`` for counts, rates and keys."""
    arrays = {path: leaf.shape for path, leaf in path_leaves(params) if leaf is not None and is_float(leaf)}
    leaves = [(path, leaf) for path, leaf in path_leaves(_without_records(state)) if leaf is not None]
    shapes = {path: jnp.shape(leaf) for path, leaf in leaves}
    owners: list[str | None] = []
    for path, leaf in leaves:
        near = [own for own in _endings(path) if own in arrays]
        fitting = [own for own in near if arrays[own] == shapes[path]]
        if len(fitting) > 1:
            fitting = _most_complete(path, fitting, arrays, shapes)
        if len(fitting) != 1 and not _is_shared(path, leaf):
            candidates = [f"{'/'.join(own)!r} of shape {arrays[own]}" for own in fitting or near]
            expected = f"to belong to parameter {' or '.join(candidates)}" if candidates else "to belong to a parameter"
            raise ValueError(
                f"state {'/'.join(path)!r} of the optimizer: expected it {expected}, got shape {shapes[path]}; what it "
                "remembers of a neuron is not known, so it cannot be reset (with max_fraction=0 nothing is)"
            )
        owners.append("/".join(fitting[0]) if len(fitting) == 1 else None)
    return owners


def _without_records(state: PyTree) -> PyTree:
    """Put a number for each array that a wrapper further inside keeps for itself, which belongs to no parameter."""

    def is_wrapper(node: Any) -> bool:
        return isinstance(node, ActivityState)

    def bare(node: Any) -> Any:
        if not is_wrapper(node):
            return node
        own = {name: jax.tree.map(lambda _: 0, getattr(node, name)) for name in ("scores", "masks", "key", "snapshot")}
        return node._replace(inner_state=_without_records(node.inner_state), **own)

    return jax.tree.map(bare, state, is_leaf=is_wrapper)


def _endings(path: Path) -> list[Path]:
    return [path[start:] for start in range(len(path) + 1)]


def _most_complete(
    path: Path, fitting: list[Path], arrays: Mapping[Path, Shape], shapes: Mapping[Path, Shape]
) -> list[Path]:
    """Of several endings keep that before which the state holds most of the parameters."""

    def found(own: Path) -> int:
        before = path[: len(path) - len(own)]
        return sum(shapes.get((*before, *other)) == shape for other, shape in arrays.items())

    counts = [found(own) for own in fitting]
    return [own for own, count in zip(fitting, counts, strict=True) if count == max(counts)]


def _is_shared(path: Path, leaf: Any) -> bool:
    """Whether a leaf is one number for all neurons, a random key, or a table that is known to hold for all."""
    if jnp.size(leaf) <= 1 or path[-1] in _TABLES or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return True
    return bool(leaf.dtype == jnp.uint32) and leaf.shape[-1] in (2, 4)  # the numbers of a key
