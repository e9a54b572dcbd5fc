"""Let discovery see several axes of a parameter as one: the heads of attention and their channels, axes of size one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from neuroactivity.arrays import Array, Arrays, namespace
from neuroactivity.discovery.decoding import write_axis
from neuroactivity.errors import LayoutError
from neuroactivity.layout import Layout, NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON


class MergedAxes(NamedTuple):
    """How discovery sees a parameter: several of its axes as one.

    Attributes:
        shape: The shape that discovery sees.
        axis: The axis of that shape which stands for several.
        names: For each name that this axis can have, the names of the parameter's own axes.

    Example:
        >>> heads = MergedAxes.of((16, 4, 8), slice(1, 3), neuron="neuron neuron", out="out dim")
        >>> heads.shape, heads.split(ParamView("query", "in neuron"))
        ((16, 32), ParamView('query', 'in neuron neuron'))
    """

    shape: tuple[int, ...]
    axis: int
    names: Mapping[str, str]

    @classmethod
    def of(cls, shape: Sequence[int], axes: slice, **names: str) -> "MergedAxes":
        """Merge the axes of a slice into one."""
        start, stop, _ = axes.indices(len(shape))
        return cls((*shape[:start], math.prod(shape[start:stop]), *shape[stop:]), start, names)

    def split(self, view: ParamView) -> ParamView:
        """Translate a view of what discovery sees back to the parameter's own axes.

        Raises:
            LayoutError: If that cannot be said.
        """
        axes = [write_axis(names) for names in view.parsed.axes]
        merged = " ".join(view.parsed.axes[self.axis])
        if merged not in self.names:
            raise LayoutError(f"parameter {view.param!r}: {view.pattern!r} cannot be said of its own axes")
        axes[self.axis] = self.names[merged]
        return ParamView(view.param, " ".join(axes), view.sizes, view.index)


def reshape(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Bring those arrays whose new shapes are named into them; ``None`` stays ``None``."""
    changed = [name for name in arrays if name in shapes and arrays[name] is not None]
    return {**arrays, **{name: namespace(arrays[name]).reshape(arrays[name], shapes[name]) for name in changed}}


def split_views(discovered: Layout, listed: Sequence[NeuronGroup], merged: Mapping[str, MergedAxes]) -> Layout:
    """Translate discovered views back to the parameters' own axes; a group for which that fails is unproved.

    Args:
        discovered: The groups as discovery describes them.
        listed: The groups as they were listed for it.
        merged: The parameters that discovery saw in another shape.
    """
    groups = []
    for group in listed:
        try:
            groups.append(_split(discovered[group.name], merged))
        except LayoutError:
            reason = "what it feeds was found, but cannot be written down"
            groups.append(replace(_split(group, merged), resettable=False, status="unproved", reason=reason))
    return Layout(groups)


def _split(group: NeuronGroup, merged: Mapping[str, MergedAxes]) -> NeuronGroup:
    def split_all(views: Iterable[ParamView]) -> tuple[ParamView, ...]:
        return tuple([merged[view.param].split(view) if view.param in merged else view for view in views])

    incoming, unscored, outgoing = map(split_all, (group.incoming, group.unscored, group.outgoing))
    split = replace(group, incoming=incoming, unscored=unscored, outgoing=outgoing)
    several = split.incoming[0].parsed.neurons
    return replace(split, activation=f"...{several * f' {NEURON}'}") if several > 1 else split
