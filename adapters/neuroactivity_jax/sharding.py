"""Explicitly sharded arrays: the wrappers leave it to the compiler how what they compute lies on the devices."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

T = TypeVar("T")

_SHARDING: Any = jax.sharding  # parts of it have no types


def automatic(function: Callable[..., T], like: T, *args: Any) -> T:
    """Call a function whose operations do not say how their results are sharded.

    Under explicit sharding (``AxisType.Explicit``) most of them would have to. Nothing else is changed.

    Args:
        function: A function of the arguments that uses no other arrays.
        like: What it returns lies on the devices as these arrays do.
        args: Its arguments, trees of arrays and other values.
    """
    leaves, structure = jax.tree.flatten((args, like))
    mesh = next((mesh for mesh in map(_mesh, leaves) if getattr(mesh, "explicit_axes", ())), None)
    if mesh is None:
        return function(*args)
    everywhere = _SHARDING.NamedSharding(mesh, _SHARDING.PartitionSpec())
    on_mesh = [_SHARDING.reshard(x, everywhere) if _is_off(x) else x for x in leaves]
    args, like = jax.tree.unflatten(structure, on_mesh)
    leaves, form = jax.tree.flatten(args)
    places = [at for at, leaf in enumerate(leaves) if hasattr(leaf, "shape")]

    def call(*arrays: Any) -> T:
        given = dict(zip(places, arrays, strict=True))
        return function(*jax.tree.unflatten(form, [given.get(at, leaf) for at, leaf in enumerate(leaves)]))

    shardings = jax.tree.map(lambda leaf: jax.typeof(leaf).sharding if hasattr(leaf, "shape") else everywhere, like)
    inside = _SHARDING.auto_axes(call, axes=mesh.explicit_axes, out_sharding=shardings)
    result: T = inside(*[leaves[at] for at in places])
    return result


def _mesh(leaf: Any) -> Any:
    """Return the mesh of devices that an array lies on, ``None`` where there is none."""
    typed = leaf.aval if isinstance(leaf, jax.core.Tracer) else leaf
    return getattr(getattr(typed, "sharding", None), "mesh", None)


def _is_off(leaf: Any) -> bool:
    """Whether something is an array that lies on no mesh."""
    return hasattr(leaf, "shape") and not getattr(_mesh(leaf), "axis_names", ())
