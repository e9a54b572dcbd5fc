"""Which neuron groups an optimizer trains, and which parameters a reset of them writes."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from neuroactivity.errors import LayoutError
from neuroactivity.layout import Layout
from neuroactivity.resets import Outgoing


def trained_groups(
    layout: Layout, trained: Collection[str], *, writes: bool, by: str = "optimizer", strict: bool = True
) -> Layout:
    """Return the groups that an optimizer trains: only for those are the right gradients known where it steps.

    Args:
        layout: The neuron groups.
        trained: Names of the parameters that it trains.
        writes: Whether the groups may be reset, and not only measured.
        by: Who trains them, for the error.
        strict: Whether to raise; if not, a group is not resettable where a reset would write what is not trained.

    Raises:
        ValueError: If a reset of a group would write a parameter that is not trained.
    """
    groups = [g for g in layout.values() if any(view.param in trained for view in g.incoming)]
    for place, group in enumerate(groups) if writes else ():
        foreign = [view.param for _, view in group.views if view.param not in trained]
        if foreign and group.resettable and not strict:
            groups[place] = replace(group, resettable=False)
        elif foreign and group.resettable:
            raise ValueError(
                f"group {group.name!r}: a reset would write parameter {foreign[0]!r}, which this {by} does not train; "
                "mark the group resettable=False, or train both with one optimizer"
            )
    if by == "optimizer" and strict and not groups:
        raise ValueError("the optimizer trains none of the model's neuron groups; is it the model's own optimizer?")
    kept = {group.name for group in groups}
    return Layout([replace(g, partners=tuple([name for name in g.partners if name in kept])) for g in groups])


def written_params(masks: Iterable[str], layout: Layout, *, outgoing: Outgoing = "zero") -> list[str]:
    """Name the parameters that a reset of these groups writes."""
    views = [pair for name in masks if layout[name].resettable for pair in layout[name].views]
    return list(dict.fromkeys(view.param for role, view in views if role != "outgoing" or outgoing != "keep"))


def check_searched(layout: Layout, *, writes: bool) -> None:
    """Raise if a wrapper is to reset neurons of a layout that was listed only.

    Raises:
        LayoutError: If nothing could ever be reset, because nobody has searched what the neurons feed.
        TypeError: If it is no layout.
    """
    if not isinstance(layout, Layout):
        what = f"expected a neuroactivity.Layout, got {type(layout).__name__}"
        raise TypeError(f"layout: {what}; neuroactivity.Layout.from_dict makes one of what to_dict returned")
    if writes and layout and all(group.status == "listed" for group in layout.values()):
        raise LayoutError(
            "layout: its groups are listed and not searched, so nothing could be reset; give layout_of example inputs "
            "(in JAX, the model's function), or max_fraction=0 to measure only"
        )


_OUTSIDE = "parameters outside it: give readers= if they read it"


def note_outside(layout: Layout, number: int, model: str, *, holder: str = "the optimizer also trains") -> Layout:
    """Say in the reason of proved groups that the optimizer trains parameters which the proof has not seen.

    Args:
        layout: The neuron groups.
        number: How many parameters the optimizer trains that are not the model's.
        model: What the model is called.
        holder: Who has the other parameters, and what it does with them.

    Example:
        >>> from neuroactivity.layout import NeuronGroup
        >>> group = NeuronGroup("h", [("w", "neuron in")], status="exclusive", reason="proved: feeds nothing else")
        >>> note_outside(Layout([group]), 4, "Critic")["h"].reason.partition("; ")[0]
        'proved: feeds nothing else in Critic'
    """
    if not number:
        return layout
    remark = f" in {model}; {holder} {number} {_OUTSIDE}"
    return Layout(
        [
            replace(group, reason=(group.reason or "proved") + remark)
            if group.status == "exclusive" and _OUTSIDE not in group.reason
            else group
            for group in layout.values()
        ]
    )
