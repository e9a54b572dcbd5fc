"""The neuron groups of a tree of parameters: which arrays, which axis. What they feed is found elsewhere."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from neuroactivity import NeuronGroup
from neuroactivity_jax.attention import AttentionNeurons, list_attention
from neuroactivity_jax.cells import list_cells
from neuroactivity_jax.conventions import Convention, Stacked, list_layers
from neuroactivity_jax.equinox_layers import equinox_heads, equinox_hints
from neuroactivity_jax.listing import Listed, Module
from neuroactivity_jax.trees import PyTree, parameters, path_leaves

__all__ = ["Rule", "list_groups"]

Rule: TypeAlias = Callable[[str, Any], NeuronGroup | None]
"""From the name and the value of a parameter to its group, or ``None`` to leave it to what is known."""


def list_groups(
    tree: PyTree,
    *,
    attention: AttentionNeurons = "channels",
    rule: Rule | None = None,
    convention: Convention | None = None,
    stacked: Stacked = None,
) -> list[Listed]:
    """List the neuron groups of a tree by the names and shapes of its arrays, in the order of the tree.

    Args:
        tree: The parameters.
        attention: Whether a neuron of an attention layer is a channel of a projection or a whole head.
        rule: Asked first for every parameter.
        convention: The order of axes, if names do not tell it.
        stacked: Which arrays have leading axes of independent copies, if shapes do not tell it.

    Raises:
        LayoutError: If names and shapes of an array can be read in several ways.
    """
    params = parameters(tree)
    listed = _by_rule(rule, params)
    taken = {view.param for entry in listed for view in entry.group.incoming + entry.group.unscored}
    present = _modules(tree)
    modules = {module.name: module for module in present if not taken & {*map(module.param, module.shapes)}}
    apart = list_attention(modules, attention, equinox_heads(tree)) | list_cells(list(modules.values()))
    listed += [entry for entries in apart.values() for entry in entries]
    rest = [module for name, module in modules.items() if name not in apart]
    mapped = len(present) > 1 and len({value.shape[:1] for value in params.values()}) == 1
    listed += list_layers(rest, equinox_hints(tree), convention, stacked, mapped=mapped)
    order = {name: place for place, name in enumerate(params)}
    return sorted(listed, key=lambda entry: order.get(entry.group.incoming[0].param, len(order)))


def _by_rule(rule: Rule | None, params: Mapping[str, Any]) -> list[Listed]:
    """List the groups that the user's rule makes."""
    if rule is None:
        return []
    groups: list[NeuronGroup] = []
    for name, value in params.items():
        if not any(view.param == name for group in groups for view in group.incoming + group.unscored):
            group = rule(name, value)
            groups += [] if group is None else [group]
    return [Listed(group) for group in groups]


def _modules(tree: PyTree) -> list[Module]:
    """Gather the arrays whose paths differ in the last name only."""
    params = parameters(tree)
    gathered: dict[str, dict[str, tuple[int, ...]]] = {}
    for path, leaf in path_leaves(tree):
        if path and "/".join(path) in params and leaf is not None:
            gathered.setdefault("/".join(path[:-1]), {})[path[-1]] = tuple(leaf.shape)
    return [Module(name, shapes) for name, shapes in gathered.items()]
