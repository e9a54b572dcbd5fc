"""What the classes of Equinox's layers tell of their arrays beyond names and shapes."""

from typing import Any, Literal, NamedTuple, TypeAlias

import jax

from neuroactivity_jax.parameters import PyTree, name_of

Kind: TypeAlias = Literal["weight", "embedding", "scale"]
"""What a layer's first array is."""

_WEIGHTED = ("Linear", "Embedding", "Conv", "ConvTranspose")
_NORMS = ("LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm")


class Hint(NamedTuple):
    """What a layer is.

    Attributes:
        kind: What its ``weight`` is.
        axes: How many axes its ``weight`` has in one copy of the layer.
    """

    kind: Kind
    axes: int


def equinox_hints(tree: PyTree) -> dict[str, Hint]:
    """Return what the Equinox layers in a tree are, by path."""
    found = {}
    for name, node in _nodes(tree, (*_WEIGHTED, *_NORMS)):
        kinds = _kinds(node)
        if "Embedding" in kinds:
            found[name] = Hint("embedding", 2)
        elif kinds.intersection(_NORMS):
            found[name] = Hint("scale", len(getattr(node, "shape", (1,))))
        else:
            found[name] = Hint("weight", 2 + getattr(node, "num_spatial_dims", 0))
    return found


def equinox_heads(tree: PyTree) -> dict[str, int]:
    """Return the number of heads of each Equinox attention layer in a tree, by path."""
    return {name: node.num_heads for name, node in _nodes(tree, ("MultiheadAttention",))}


def _nodes(tree: PyTree, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    """List the modules of these classes of Equinox with their paths."""
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: bool(_kinds(node).intersection(names)))
    return [(name_of(path), node) for path, node in found if _kinds(node).intersection(names)]


def _kinds(node: Any) -> set[str]:
    """Return the names of a module's classes that are Equinox's own."""
    return {kind.__name__ for kind in type(node).__mro__ if kind.__module__.startswith("equinox.nn")}
