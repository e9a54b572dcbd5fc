"""The arrays of any pytree by name, and back."""

import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from neuroactivity import Layout, LayoutError
from neuroactivity.arrays import check_like

PyTree: TypeAlias = Any
"""Any nesting of dictionaries, lists, modules and so on, with arrays as leaves."""

Path: TypeAlias = tuple[str, ...]
"""The names on the way from the root of a tree to a leaf."""

_WRAPPERS = (("flax.nnx", "Variable"), ("flax.core.meta", "AxisMetadata"))


def parameters(tree: PyTree) -> dict[str, Array]:
    """Return the floating-point arrays of a tree by name: their path, joined by ``/``.

    A path has the keys of dictionaries, the names of attributes, and the positions in lists. Flax's wrappers around an
    array (the variables of NNX, the boxes of ``with_partitioning``) have no name. Leaves that are not floating-point
    arrays are left out.

    Args:
        tree: A parameter dictionary of Flax or Haiku, a state or module of Flax NNX, a module of Equinox, or any other
            pytree.

    Raises:
        LayoutError: If two arrays have one name.

    Example:
        >>> tree = {"params": {"Dense_0": {"kernel": jnp.zeros((3, 2))}, "heads": [jnp.zeros(2)]}, "steps": 7}
        >>> {name: value.shape for name, value in parameters(tree).items()}
        {'params/Dense_0/kernel': (3, 2), 'params/heads/0': (2,)}
    """
    return {name: value for name, value in gradients(tree).items() if value is not None}


def gradients(tree: PyTree) -> dict[str, Array | None]:
    """Return a tree of gradients by name, as :func:`parameters` does; ``None`` where the tree has ``None``.

    What optax has masked out is ``None`` too.

    Example:
        >>> gradients({"w": jnp.ones(2), "frozen": None})
        {'frozen': None, 'w': Array([1., 1.], dtype=float32)}
    """
    named: dict[str, Array | None] = {}
    for name, leaf in [("/".join(path), leaf) for path, leaf in path_leaves(tree) if leaf is None or is_float(leaf)]:
        if name in named:
            raise LayoutError(f"two arrays of the tree are called {name!r}")
        named[name] = leaf
    return named


def write(tree: PyTree, params: Mapping[str, Array]) -> PyTree:
    """Return a tree in which some arrays are replaced.

    Args:
        tree: The tree; it is not changed.
        params: Values by name, of the shapes and dtypes of those they replace.

    Raises:
        LayoutError: If a name is unknown, or a value differs in shape or dtype from what it replaces.

    Example:
        >>> write({"w": jnp.zeros(2), "b": jnp.zeros(1)}, {"b": jnp.ones(1)})
        {'b': Array([1.], dtype=float32), 'w': Array([0., 0.], dtype=float32)}
    """
    present = parameters(tree)
    for name, value in params.items():
        if name not in present:
            raise LayoutError(f"parameter {name!r} is not in the tree; there are {', '.join(list(present)[:8])}")
        check_like(value, present[name], f"parameter {name!r}")
    return replace(tree, params)


def replace(tree: PyTree, values: Mapping[str, Any]) -> PyTree:
    """Replace the leaves of these names, unchecked."""
    leaves, structure = jax.tree.flatten(tree)
    names = ["/".join(path) for path, leaf in path_leaves(tree) if leaf is not None]
    new = [values.get(name, leaf) if is_float(leaf) else leaf for name, leaf in zip(names, leaves, strict=True)]
    return jax.tree.unflatten(structure, new)


def path_leaves(tree: PyTree) -> Iterator[tuple[Path, Any]]:
    """Yield every leaf with its path, in the order of ``jax.tree.leaves`` but for ``None``, which is a leaf here."""
    for keys, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_ends):
        path = tuple(_name(key) for key in keys)
        if node is None or isinstance(node, optax.MaskedNode):
            yield path, None
        elif _is_wrapper(node):
            inner = jax.tree_util.tree_leaves_with_path(node)
            for inner_keys, leaf in inner:
                yield (path if len(inner) == 1 else (*path, *map(_name, inner_keys))), leaf
        else:
            yield path, node


def as_jax(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Turn NumPy arrays, as a restored checkpoint has them, into JAX's.

    Raises:
        ValueError: If they are shapes and dtypes alone.
    """
    if any(isinstance(array, jax.ShapeDtypeStruct) for array in arrays.values()):
        raise ValueError("params: expected arrays, got shapes alone; use jax.eval_shape(tx.init, params)")
    return {name: None if array is None else jnp.asarray(array) for name, array in arrays.items()}


def shapes_of(arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of arrays by name."""
    return {name: tuple(array.shape) for name, array in arrays.items()}


def concrete(tree: PyTree) -> PyTree:
    """Give values to those leaves of a tree that are shapes and dtypes alone, or traced.

    Weights are drawn, and vectors, such as scales and variances, are ones; what is not floating point is zero.
    """
    number = itertools.count()

    def value(leaf: Any) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct | jax.core.Tracer):
            return leaf
        shape, dtype = leaf.shape, leaf.dtype
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0), shape) if shape else jax.random.key(0)
        if not is_float(leaf) or len(shape) < 2:
            return np.full(shape, float(is_float(leaf)), dtype)
        drawn = np.random.default_rng(next(number)).standard_normal(shape) / math.sqrt(max(1, shape[-2]))
        return drawn.astype(dtype)

    with jax.ensure_compile_time_eval():
        return jax.tree.map(value, tree)


def arrays_of(tree: PyTree, layout: Layout) -> dict[str, Array | None]:
    """Return a tree's arrays by name, with ``None`` for the layout's where a whole branch is ``None``."""
    arrays = as_jax(gradients(tree))
    for view in [view for group in layout.values() for _, view in group.views]:
        parts = view.param.split("/")
        branches = ["/".join(parts[:end]) for end in range(len(parts))]
        if view.param not in arrays and any(arrays.get(branch, view) is None for branch in branches):
            arrays[view.param] = None
    return arrays


def widened(updates: PyTree, params: PyTree) -> PyTree:
    """Make the updates of parameters of low precision float32, so that a reset is rounded once."""
    old, moves = parameters(params), parameters(updates)
    wide = {
        name: jnp.result_type(jnp.float32, old[name].dtype, move.dtype) for name, move in moves.items() if name in old
    }
    return replace(updates, {name: jnp.asarray(moves[name], dtype) for name, dtype in wide.items()})


def is_float(leaf: Any) -> bool:
    """Whether a leaf is an array, or the shape and dtype of one, of real floating-point numbers."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def unwrapped(tree: PyTree) -> PyTree:
    """Take the arrays out of Flax's wrappers."""

    def unwrap(node: Any) -> Any:
        leaves = jax.tree.leaves(node) if _is_wrapper(node) else [node]
        return leaves[0] if len(leaves) == 1 else node

    return jax.tree.map(unwrap, tree, is_leaf=_is_wrapper)


def _ends(node: Any) -> bool:
    return node is None or isinstance(node, optax.MaskedNode) or _is_wrapper(node)


def _is_wrapper(node: Any) -> bool:
    """Whether a node is one of Flax's wrappers around an array; Flax is not imported for it."""
    kinds = [getattr(sys.modules.get(module), name, None) for module, name in _WRAPPERS]
    return isinstance(node, tuple(kind for kind in kinds if kind is not None))


def name_of(keys: Iterable[Any]) -> str:
    """Join a path of JAX's keys by ``/``."""
    return "/".join(_name(key) for key in keys)


def _name(key: Any) -> str:
    match key:
        case DictKey(key=name) | FlattenedIndexKey(key=name) | GetAttrKey(name=name) | SequenceKey(idx=name):
            return str(name)
        case _:
            return str(key)


def form_of(params: PyTree) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    """Return names, shapes and dtypes of parameters."""
    return tuple([(name, value.shape, str(value.dtype)) for name, value in parameters(params).items()])
