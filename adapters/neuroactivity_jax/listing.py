"""What listing layers works with: the arrays of one layer, and a group as discovery is to see it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from neuroactivity import Layout, LayoutError, NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON

__all__ = ["Fold", "Listed", "Module", "Shape", "unfold"]

Shape: TypeAlias = tuple[int, ...]


class Module(NamedTuple):
    """The arrays of one layer: those whose paths differ in the last name only."""

    name: str
    shapes: Mapping[str, Shape]

    @property
    def parent(self) -> str:
        """Path of the module that holds this one."""
        return self.name.rpartition("/")[0]

    @property
    def last(self) -> str:
        """Its own name in that module."""
        return self.name.rpartition("/")[2]

    def param(self, leaf: str) -> str:
        """Return a parameter's full name."""
        return f"{self.name}/{leaf}" if self.name else leaf

    def find(self, *leaves: str) -> str | None:
        """Return the first of several leaves that the module has."""
        return next((leaf for leaf in leaves if leaf in self.shapes), None)


class Fold(NamedTuple):
    """How discovery sees a parameter: several of its axes as one.

    Attributes:
        shape: The shape that discovery sees.
        axis: The axis of that shape which stands for several.
        names: For each name that this axis can have, the names of the parameter's own axes.
    """

    shape: Shape
    axis: int
    names: Mapping[str, str]

    @classmethod
    def of(cls, shape: Shape, axes: slice, **names: str) -> "Fold":
        """Fold the axes of a slice into one."""
        start, stop, _ = axes.indices(len(shape))
        folded = (*shape[:start], math.prod(shape[start:stop]), *shape[stop:])
        return cls(folded, start, names)

    def unfold(self, view: ParamView) -> ParamView:
        """Say of the parameter's own axes what a view says of those that discovery sees.

        Raises:
            LayoutError: If that cannot be said.
        """
        axes = [" ".join(names) for names in view.parsed.axes]
        folded = axes[self.axis]
        if folded not in self.names:
            raise LayoutError(f"parameter {view.param!r}: {view.pattern!r} cannot be said of its own axes")
        texts = [f"({text})" if " " in text else text for text in axes]
        texts[self.axis] = self.names[folded]
        return ParamView(view.param, " ".join(texts), view.sizes, view.index)


class Listed(NamedTuple):
    """A group in the shapes that discovery sees, and which of its parameters have others."""

    group: NeuronGroup
    folds: Mapping[str, Fold] = {}


def unfold(found: Layout, listed: Sequence[NeuronGroup], folds: Mapping[str, Fold]) -> Layout:
    """Say of the parameters' own axes what discovery found; what cannot be said is unproved.

    Args:
        found: What discovery found.
        listed: The groups as they were listed for it.
        folds: The parameters whose own axes differ from those that discovery saw.
    """
    groups = []
    for group in listed:
        try:
            groups.append(_unfold(found[group.name], folds))
        except LayoutError:
            own = _unfold(group, folds)
            reason = "what it feeds was found, but cannot be written down"
            groups.append(NeuronGroup(**{**vars(own), "resettable": False, "status": "unproved", "reason": reason}))
    return Layout(groups)


def _unfold(group: NeuronGroup, folds: Mapping[str, Fold]) -> NeuronGroup:
    def own(views: Iterable[ParamView]) -> list[ParamView]:
        return [folds[view.param].unfold(view) if view.param in folds else view for view in views]

    roles = {role: own(getattr(group, role)) for role in ("incoming", "unscored", "outgoing")}
    unfolded = NeuronGroup(**{**vars(group), **roles})
    several = unfolded.incoming[0].parsed.neurons
    if several > 1:  # the channels of all heads
        return NeuronGroup(**{**vars(unfolded), "activation": f"...{several * f' {NEURON}'}"})
    return unfolded
