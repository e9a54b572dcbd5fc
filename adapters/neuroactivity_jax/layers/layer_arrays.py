"""The arrays of one layer, and a group of neurons as discovery is to see it."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from neuroactivity import NeuronGroup
from neuroactivity.discovery import MergedAxes
from neuroactivity_jax.parameters import PyTree, is_float, path_leaves

Shape: TypeAlias = tuple[int, ...]


class LayerArrays(NamedTuple):
    """The arrays of one layer: those whose paths differ in the last name only."""

    name: str
    shapes: Mapping[str, Shape]

    @property
    def parent(self) -> str:
        """Path of the module that holds the layer."""
        return self.name.rpartition("/")[0]

    @property
    def last(self) -> str:
        """The layer's name in that module."""
        return self.name.rpartition("/")[2]

    def param(self, leaf: str) -> str:
        """Return a parameter's full name."""
        return f"{self.name}/{leaf}" if self.name else leaf

    def params(self, *leaves: str) -> list[str]:
        """Return the full names of those of several parameters that the layer has."""
        return [self.param(leaf) for leaf in leaves if leaf in self.shapes]

    def find(self, *leaves: str) -> str | None:
        """Return the first of several parameters that the layer has."""
        return next((leaf for leaf in leaves if leaf in self.shapes), None)


class Listed(NamedTuple):
    """A group in the shapes that discovery sees, and the parameters that have other shapes themselves."""

    group: NeuronGroup
    merged: Mapping[str, MergedAxes] = {}


def layers_of(tree: PyTree) -> list[LayerArrays]:
    """Gather the floating-point arrays of a tree by layer."""
    gathered: dict[str, dict[str, Shape]] = {}
    for path, leaf in path_leaves(tree):
        if path and is_float(leaf):
            gathered.setdefault("/".join(path[:-1]), {})[path[-1]] = tuple(leaf.shape)
    return [LayerArrays(name, shapes) for name, shapes in gathered.items()]
