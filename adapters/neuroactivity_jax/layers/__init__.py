"""Which layer has which neuron groups, told by the names and shapes of a tree's arrays.

:mod:`.attention` and :mod:`.cells` know the layers that are made of several, :mod:`.conventions` all others, with the
help of :mod:`.axis_orders` (how an array's axes can be ordered) and :mod:`.equinox` (what Equinox's classes add to
names and shapes). :mod:`.copies` compares the stacks of layers that belong together. What the groups feed is discovered
elsewhere.
"""

from collections.abc import Mapping, Sequence

from neuroactivity import NeuronGroup
from neuroactivity.discovery import MergedAxes, Rule, groups_by_rule
from neuroactivity.errors import check_choice
from neuroactivity_jax.layers.attention import AttentionNeurons, list_attention
from neuroactivity_jax.layers.axis_orders import Convention
from neuroactivity_jax.layers.bare import check_empty, warn_of_bare
from neuroactivity_jax.layers.cells import list_cells
from neuroactivity_jax.layers.conventions import Stacked, list_layers, read_stacked
from neuroactivity_jax.layers.copies import check_sizes
from neuroactivity_jax.layers.equinox import equinox_heads, equinox_hints
from neuroactivity_jax.layers.layer_arrays import LayerArrays, Listed, layers_of
from neuroactivity_jax.parameters import PyTree, parameters, shapes_of

__all__ = ["AttentionNeurons", "Convention", "Rule", "Stacked", "list_groups"]


def list_groups(
    tree: PyTree,
    *,
    attention: AttentionNeurons = "channels",
    rule: Rule | None = None,
    convention: Convention | None = None,
    stacked: Stacked = None,
) -> tuple[list[NeuronGroup], dict[str, MergedAxes]]:
    """List the neuron groups of a tree, in the order of the tree, without what they feed.

    A warning names the layers with weights that are in no group.

    Args:
        tree: The parameters.
        attention: Whether a neuron of an attention layer is a channel of a projection or a whole head.
        rule: Asked first about every parameter.
        convention: The order of axes, if names do not tell it.
        stacked: Which arrays have leading axes of independent copies, if shapes do not tell it.

    Returns:
        The groups, and the parameters that discovery is to see in another shape, in which the groups describe them.

    Raises:
        LayoutError: If the names and shapes of an array can be read in several ways, or a group has no neurons.
        ValueError: If an option has none of its values, or ``stacked`` has a path without parameters.
    """
    check_choice("attention", attention, ("channels", "heads"))
    check_choice("convention", convention, ("flax", "haiku", "equinox", None))
    params, layers = parameters(tree), layers_of(tree)
    copies = read_stacked(stacked, layers)
    listed = [Listed(group) for group in groups_by_rule(rule, params)]
    listed += list_attention(_unlisted(layers, listed), attention, equinox_heads(tree))
    listed += list_cells(_unlisted(layers, listed))
    mapped = len(layers) > 1 and len({value.shape[:1] for value in params.values()}) == 1
    listed += list_layers(_unlisted(layers, listed), equinox_hints(tree), convention, copies, mapped=mapped)
    paths = list(copies) if isinstance(copies, Mapping) else None if copies is None else []
    check_sizes(listed, shapes_of(params), paths)
    order = {name: position for position, name in enumerate(params)}
    listed.sort(key=lambda entry: order.get(entry.group.incoming[0].param, len(order)))
    merged = {param: axes for entry in listed for param, axes in entry.merged.items()}
    check_empty(listed, params)
    warn_of_bare(_unlisted(layers, listed), listed)
    return [entry.group for entry in listed], merged


def _unlisted(layers: Sequence[LayerArrays], listed: Sequence[Listed]) -> list[LayerArrays]:
    """Return the layers that no group is made of yet."""
    taken = {view.param for entry in listed for view in entry.group.incoming + entry.group.unscored}
    return [layer for layer in layers if not taken.intersection(layer.params(*layer.shapes))]
