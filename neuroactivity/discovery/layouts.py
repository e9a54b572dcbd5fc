"""From the neuron groups that an adapter lists to a whole layout: sample parameters, discover, apply the policy."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from neuroactivity.arrays import Array, Arrays
from neuroactivity.discovery.draws import Normal, make_draws
from neuroactivity.discovery.gradients import GradientFunction, GradientStream, OutputFunction, Take
from neuroactivity.discovery.merging import MergedAxes, reshape, split_views
from neuroactivity.discovery.progress import Progress
from neuroactivity.discovery.search import discover_outgoing
from neuroactivity.discovery.unproved import NO_GRADIENT
from neuroactivity.errors import ActivityWarning, check_choice
from neuroactivity.layout import Layout, NeuronGroup

SharedNeurons: TypeAlias = Literal["incoming", "skip"]
"""What a reset does to neurons that are read only together with other groups."""

Rule: TypeAlias = Callable[[str, Any], NeuronGroup | None]
"""From the name and the value of a parameter to its group, or ``None`` to leave it to what is known of layers."""

_EVALUATIONS = 250  # that a search takes, more or less


def groups_by_rule(rule: Rule | None, params: Mapping[str, Any]) -> list[NeuronGroup]:
    """List the groups that a user's rule makes; it is asked for every parameter that is in none of them yet."""
    groups: list[NeuronGroup] = []
    taken: set[str] = set()
    for name, value in params.items() if rule else ():
        group = rule(name, value) if rule and name not in taken else None
        if group is not None:
            groups.append(group)
            taken |= {view.param for view in group.incoming + group.unscored}
    return groups


def discover_layout(
    groups: Sequence[NeuronGroup],
    grad_fn: GradientFunction,
    params: Arrays,
    *,
    normal: Normal,
    output_fn: OutputFunction | None = None,
    merged: Mapping[str, MergedAxes] | None = None,
    shared: SharedNeurons = "incoming",
    seed: int = 0,
) -> Layout:
    """Find what the listed groups feed; the part of ``layout_of`` that no framework matters to.

    Args:
        groups: The groups with their incoming and unscored parameters.
        grad_fn: As for :func:`neuroactivity.discover_outgoing`.
        params: The model's parameters by name.
        normal: The library's normal random numbers.
        output_fn: As for :func:`neuroactivity.discover_outgoing`.
        merged: The parameters that discovery is to see in another shape, in which the groups describe them.
        shared: Whether neurons that are read only together with others are reset, incoming parameters only, or skipped.
        seed: Seed of the draws and the probes.

    Raises:
        LayoutError: If a group does not fit the parameters.
        ValueError: If ``shared`` is neither of the two.
    """
    check_choice("shared", shared, ("incoming", "skip"))
    listed, merged, stream = Layout(groups), merged or {}, GradientStream.of(grad_fn)
    shapes = {name: tuple(value.shape) for name, value in params.items() if name in merged}
    merged_shapes = {name: axes.shape for name, axes in merged.items()}

    def each_merged(values: dict[str, Array], names: Iterable[str], take: Take) -> None:
        stream.each(reshape(values, shapes), names, lambda name, g: take(name, reshape({name: g}, merged_shapes)[name]))

    def merged_outputs(values: dict[str, Array]) -> Sequence[Array]:
        return output_fn(reshape(values, shapes)) if output_fn else ()

    seen = reshape(params, merged_shapes)
    draws = make_draws(seen, listed, normal, seed=seed)
    progress = Progress(_EVALUATIONS)
    gradients, outputs = GradientStream(progress.counted(each_merged)), output_fn and progress.counted(merged_outputs)
    try:
        layout = discover_outgoing(listed, gradients, draws, output_fn=outputs, seed=seed)
    finally:
        progress.end()
    unreached = ", ".join([name for name, group in layout.items() if group.reason == NO_GRADIENT])
    if unreached:
        unknown = "from what the model returns; if another method uses them, what they read is unknown, and the layout"
        warnings.warn(f"no gradient reaches {unreached} {unknown} may be wrong", ActivityWarning, stacklevel=3)
    if shared == "skip":
        layout = Layout([replace(g, resettable=g.resettable and g.status != "shared") for g in layout.values()])
    return split_views(layout, groups, merged) if merged else layout
