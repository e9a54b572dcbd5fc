"""What ``shard_map`` gives to one device: whether it is enough to score neurons, and to reset the same ones on all."""

from collections.abc import Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import jax

import neuroactivity as na
from neuroactivity.layout.patterns import STACK
from neuroactivity.wrapping import written_params
from neuroactivity_jax.parameters import PyTree, parameters

T = TypeVar("T")

_SEEN: WeakKeyDictionary[na.Layout, dict[str, set[Any]]] = WeakKeyDictionary()


def check_undivided(layout: na.Layout, trained: na.Layout, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise if the axes of a parameter, other than those of copies, are shorter inside ``shard_map`` than outside.

    A mean over a group would be one over a part of it. What the axes are outside is remembered for each layout,
    whenever this is called there.

    Args:
        layout: The neuron groups.
        trained: Those that are looked at.
        shapes: The shapes of the parameters, those of one device inside ``shard_map``.

    Raises:
        LayoutError: If they are.
    """
    seen, mesh = _SEEN.setdefault(layout, {}), getattr(jax.sharding, "get_abstract_mesh", lambda: None)()
    inside = bool(getattr(mesh, "manual_axes", ()))
    for group in trained.values():
        for _, view, bound in group.bind(shapes).views:
            axes = zip(bound.names, bound.sizes, strict=True)
            sizes = tuple([size for name, size in axes if name != STACK])
            known = seen.setdefault(view.param, set())
            if not inside:
                known.add(sizes)
            elif known and sizes not in known:
                whole = " or ".join(map(str, sorted(known)))
                raise na.LayoutError(
                    f"group {group.name!r}, parameter {view.param!r}: expected its axes {whole} inside shard_map too, "
                    f"got {sizes}, a part of them, of which no mean over the group can be taken; call update outside "
                    "of shard_map, under jit with sharded arrays, or gather the parameters first"
                )


def check_same(params: PyTree, signal: Mapping[str, Any], layout: na.Layout, *, by_activations: bool) -> None:
    """Raise if neurons are scored by what differs between devices, and a parameter that a reset writes does not.

    ``shard_map`` tells it with ``check_vma=True``; the devices would part.

    Args:
        params: The parameters.
        signal: Gradients, or activations.
        layout: The neuron groups that are reset.
        by_activations: Which of the two.

    Raises:
        ValueError: If they are.
    """
    arrays = parameters(params)
    for group in [group for group in layout.values() if group.resettable]:
        sources = [group.name] if by_activations else [view.param for view in group.incoming]
        differs = frozenset().union(*[varying_axes(signal.get(name)) for name in sources])
        for name in written_params([group.name], layout):
            if axes := sorted(differs - varying_axes(arrays[name])):
                what = "activations" if by_activations else "gradients"
                averaged = "their absolute values" if by_activations else "gradients"
                raise ValueError(
                    f"group {group.name!r}: its {what} differ between the devices of mesh axis {axes[0]!r}, and "
                    f"parameter {name!r} does not; average {averaged} over them (lax.pmean) before update"
                )


def varying_as(tree: T, like: PyTree) -> T:
    """Mark arrays as those of independent runs where ``shard_map`` gives each device its own parameters."""
    axes = frozenset().union(*map(varying_axes, jax.tree.leaves(like)))

    def mark(leaf: Any) -> Any:
        missing = tuple(sorted(axes - varying_axes(leaf)))
        if not missing or not hasattr(leaf, "shape"):
            return leaf
        lax: Any = jax.lax  # where JAX 0.7.1 has `pvary`, and later releases `pcast`
        return lax.pcast(leaf, missing, to="varying") if hasattr(lax, "pcast") else lax.pvary(leaf, missing)

    marked: T = jax.tree.map(mark, tree) if axes else tree
    return marked


def varying_axes(leaf: Any) -> frozenset[str]:
    """Return the mesh axes along which an array inside ``shard_map`` is known to differ."""
    aval = getattr(leaf, "aval", None)
    kind = getattr(aval, "manual_axis_type", None) or aval
    return frozenset(getattr(kind, "varying", getattr(kind, "vma", ())))
