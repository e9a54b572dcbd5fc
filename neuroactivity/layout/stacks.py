"""From the layout of one network to that of several copies of it, whose parameters are stacked."""

from collections.abc import Callable
from dataclasses import replace

from neuroactivity.errors import LayoutError
from neuroactivity.layout.groups import NeuronGroup
from neuroactivity.layout.layout import Layout
from neuroactivity.layout.patterns import STACK
from neuroactivity.layout.views import ParamView


def stacked(layout: Layout, *, rename: Callable[[str], str] | None = None) -> Layout:
    """Turn the layout of one network into that of an ensemble whose members are stacked along a new first axis.

    Vectorised critics keep the weights of all members in one array and are called under ``vmap``: TorchRL's losses,
    ``torch.func.stack_module_state``, ``jax.vmap`` of an ``init``. Discover the layout of one member, which can be
    called by itself, and stack it. Neurons are then scored among the neurons of their own member.

    Args:
        layout: The layout of one member.
        rename: From the name of a parameter or group of the member to the name it has in the ensemble, if they differ:
            ``lambda name: f"critics.{name}"``.

    Returns:
        The layout with an axis called ``stack`` in front of each pattern. What is proved for one member holds for all,
        since the members are independent.

    Raises:
        LayoutError: If ``layout`` is no :class:`Layout`, or ``rename`` gives two groups one name or returns no string.

    Example:
        >>> import neuroactivity as na
        >>> feeds = [("fc2.weight", "out neuron")]
        >>> member = na.Layout([na.dense("fc1", weight=("fc1.weight", "neuron in"), outgoing=feeds)])
        >>> twins = na.stacked(member, rename=lambda name: f"twins.{name}")["twins.fc1"]
        >>> twins.incoming, twins.outgoing
        ((ParamView('twins.fc1.weight', 'stack neuron in'),), (ParamView('twins.fc2.weight', 'stack out neuron'),))
    """
    if not isinstance(layout, Layout):
        raise LayoutError(f"expected the Layout of one member, got {layout!r}")
    return Layout([_stacked_group(group, rename or str) for group in layout.values()])


def _stacked_group(group: NeuronGroup, rename: Callable[[str], str]) -> NeuronGroup:
    def view(member: ParamView) -> ParamView:
        return ParamView(rename(member.param), f"{STACK} {member.pattern}", member.sizes, member.index)

    return replace(
        group,
        name=rename(group.name),
        incoming=tuple(map(view, group.incoming)),
        unscored=tuple(map(view, group.unscored)),
        outgoing=tuple(map(view, group.outgoing)),
        partners=tuple(map(rename, group.partners)),
        activation=f"{STACK} {group.activation}",
    )
