"""Fresh parameter values: from the user's function, or a snapshot of the start. Every draw has its own key."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import neuroactivity as na
from neuroactivity.layout.groups import ParamView
from neuroactivity.layout.patterns import NEURON, BoundPattern
from neuroactivity.wrapping import derive_key
from neuroactivity_jax.trees import PyTree, check_like, parameters, shapes_of

__all__ = ["Initializer", "Views", "check_initializer", "drawn_views", "event_key", "fresh_values", "key_data"]

Initializer: TypeAlias = Literal["snapshot"] | Callable[[Array], PyTree]
"""``"snapshot"``, or a function from a key to freshly initialised parameters."""

Views: TypeAlias = Mapping[str, Sequence[tuple[ParamView, BoundPattern]]]
"""For each parameter that a reset takes over how its neurons lie in it."""


def key_data(seed: Any) -> Array:
    """Return the numbers of a key, that of a seed or the key itself, as an array of their own, which may be donated.

    Args:
        seed: A whole number, traced or not, a key, or the numbers of a key.

    Raises:
        TypeError: If it is none of these.
    """
    dtype = getattr(seed, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and seed.ndim == 0:
        return jnp.array(jax.random.key_data(seed), copy=True)
    if dtype == jnp.uint32 and seed.ndim == 1:
        return jnp.array(seed, copy=True)
    if isinstance(seed, int) or (dtype is not None and jnp.issubdtype(dtype, jnp.integer) and seed.ndim == 0):
        return jax.random.key_data(jax.random.key(seed))
    raise TypeError(f"seed: expected a whole number or one key of jax.random, got {seed!r}")


def event_key(data: Array, event: Array | int, *, like: Any) -> Array:
    """Return the key of one reset.

    Args:
        data: Numbers of the key from which every draw derives.
        event: Number of the reset, counted from 1.
        like: The seed that the user gave, to tell the kind of key.
    """
    typed = hasattr(like, "dtype") and jnp.issubdtype(like.dtype, jax.dtypes.prng_key)
    return jax.random.fold_in(jax.random.wrap_key_data(data, impl=jax.random.key_impl(like) if typed else None), event)


def drawn_views(layout: na.Layout, params: Mapping[str, Array]) -> Views:
    """List the parameters that a reset takes from fresh values."""
    views: dict[str, list[tuple[ParamView, BoundPattern]]] = {}
    for group in layout.values():
        for role, view, bound in group.bind(shapes_of(params)).views if group.resettable else ():
            if role != "outgoing":
                views.setdefault(view.param, []).append((view, bound))
    return views


def check_initializer(initializer: Initializer, key: Array, params: Mapping[str, Array], views: Views) -> None:
    """Raise unless an initialiser gives a fresh value for every parameter that a reset takes over.

    Raises:
        ValueError: If it is neither of the two kinds, or a value is missing or has another shape or dtype.
    """
    if initializer == "snapshot":
        return
    if not callable(initializer):
        raise ValueError(f"initializer: expected 'snapshot' or a function from a key, got {initializer!r}")
    fresh = jax.eval_shape(lambda key: parameters(initializer(key)), key)
    for name in views:
        if name not in fresh:
            given = ", ".join(list(fresh)[:8]) or "nothing"
            raise ValueError(f"initializer: expected a fresh value for parameter {name!r}, got {given}")
        check_like(fresh[name], params[name], f"initializer, parameter {name!r}")


def fresh_values(initializer: Initializer, key: Array, snapshot: Mapping[str, Array], views: Views) -> dict[str, Array]:
    """Draw fresh values for the parameters that a reset takes over.

    Args:
        initializer: Where they come from.
        key: Key of this reset.
        snapshot: The values at the start, if rows of them are to be drawn.
        views: How the neurons lie in each parameter.
    """
    if callable(initializer):
        fresh = parameters(initializer(key))
        return {name: fresh[name] for name in views}
    if unknown := [name for name in views if name not in snapshot]:
        raise ValueError(
            f"initializer: the state holds no snapshot of {unknown[0]!r}; give update the initializer and max_fraction "
            "that init was given"
        )
    keys = {name: jax.random.fold_in(key, derive_key(0, 0, name) >> 32) for name in views}
    return {name: _resample(snapshot[name], keys[name], views[name]) for name in views}


def _resample(values: Array, key: Array, views: Sequence[tuple[ParamView, BoundPattern]]) -> Array:
    """Give each neuron the entries of a neuron drawn at random."""
    for number, (view, bound) in enumerate(views):
        axis = bound.names.index(NEURON)
        source = _sources(view, bound.sizes[axis], jax.random.fold_in(key, number))
        values = jnp.take(values.reshape(bound.sizes), source, axis=axis).reshape(values.shape)
    return values


def _sources(view: ParamView, size: int, key: Array) -> Array:
    """For each position along the axis of neurons: the position of which it is given the entries."""
    positions = [(place,) for place in range(size)] if view.owners is None else view.owners.positions
    width = max(map(len, positions))
    table = np.array([[owned[rank % len(owned)] for rank in range(width)] for owned in positions])
    drawn = jax.random.randint(key, (len(positions),), 0, len(positions))
    source = jnp.arange(size)
    for rank in range(width):
        having = np.array([neuron for neuron, owned in enumerate(positions) if rank < len(owned)])
        source = source.at[table[having, rank]].set(jnp.asarray(table)[drawn[having], rank])
    return source
