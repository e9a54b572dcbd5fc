"""Which neuron groups an optimizer trains, and which parameters a reset of them writes."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from neuroactivity.layout import Layout


def trained_groups(layout: Layout, trained: Collection[str], *, writes: bool, by: str = "optimizer") -> Layout:
    """Return the groups that an optimizer trains: only for those are the right gradients known where it steps.

    Args:
        layout: The neuron groups.
        trained: Names of the parameters that it trains.
        writes: Whether the groups may be reset, and not only measured.
        by: Who trains them, for the error.

    Raises:
        ValueError: If a reset of a group would write a parameter that is not trained.
    """
    groups = [g for g in layout.values() if any(view.param in trained for view in g.incoming)]
    for group in groups if writes else ():
        foreign = [view.param for _, view in group.views if view.param not in trained]
        if foreign and group.resettable:
            raise ValueError(
                f"group {group.name!r}: a reset would write parameter {foreign[0]!r}, which this {by} does not train; "
                "mark the group resettable=False, or train both with one optimizer"
            )
    if by == "optimizer" and not groups:
        raise ValueError("the optimizer trains none of the model's neuron groups; is it the model's own optimizer?")
    kept = {group.name for group in groups}
    return Layout([replace(g, partners=tuple([name for name in g.partners if name in kept])) for g in groups])


def written_params(masks: Iterable[str], layout: Layout) -> list[str]:
    """Name the parameters that a reset of these groups writes."""
    groups = [layout[name] for name in masks if layout[name].resettable]
    return list(dict.fromkeys(view.param for group in groups for _, view in group.views))
