"""The neuron groups of a model: which array, which axis, what it feeds.

A :class:`Layout` is a value: immutable, hashable, checked when built, independent of any framework. The builders for
the usual layers stand in :mod:`neuroactivity.layout.builders`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

from neuroactivity.arrays import Arrays
from neuroactivity.errors import LayoutError
from neuroactivity.layout.groups import ROLES, NeuronGroup
from neuroactivity.layout.views import ParamView
from neuroactivity.tables import format_table

HEADER = ("group", "made by", "feeds", "status", "remark")


class Layout(Mapping[str, NeuronGroup]):
    """The neuron groups of a model: an immutable, hashable, ordered mapping of name to group.

    Args:
        groups: The groups. Their names differ, and no parameter is incoming or unscored in two of them, unless both
            have an ``index`` and no position in common.

    Raises:
        LayoutError: If two groups share a name or own the same entries, or a partner is no group.

    Example:
        >>> import neuroactivity as na
        >>> layout = na.Layout([na.dense("fc1", weight=("fc1.weight", "neuron in"), bias="fc1.bias")])
        >>> list(layout), layout["fc1"].incoming
        (['fc1'], (ParamView('fc1.weight', 'neuron in'),))
        >>> na.Layout.from_dict(layout.to_dict()) == layout
        True
    """

    __slots__ = ("__weakref__", "_groups", "_hash")
    _groups: Mapping[str, NeuronGroup]
    _hash: int

    def __init__(self, groups: Iterable[NeuronGroup]) -> None:
        named: dict[str, NeuronGroup] = {}
        for group in groups:
            if not isinstance(group, NeuronGroup):
                raise LayoutError(f"expected a NeuronGroup, got {group!r}")
            if group.name in named:
                raise LayoutError(f"group {group.name!r}: expected each name once, got it twice")
            named[group.name] = group
        for group in named.values():
            for partner in group.partners:
                if partner not in named or partner == group.name:
                    raise LayoutError(f"group {group.name!r}: partner {partner!r} is no other group of the layout")
        _check_ownership(named.values())
        object.__setattr__(self, "_groups", MappingProxyType(named))
        object.__setattr__(self, "_hash", hash(tuple(named.values())))

    def __getitem__(self, name: str) -> NeuronGroup:
        return self._groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and tuple(self.values()) == tuple(other.values())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Layout is immutable, {name!r} cannot be set")

    def __repr__(self) -> str:
        return f"Layout([{', '.join(map(repr, self.values()))}])"

    def __reduce__(self) -> tuple[Any, ...]:
        return Layout, (tuple(self.values()),)

    def validate(self, params: Arrays) -> None:
        """Check the layout against the shapes of all parameters it names.

        Args:
            params: Parameters by name, anything with a ``shape``.

        Raises:
            LayoutError: If a parameter is missing or a pattern does not fit its shape.
        """
        for group in self.values():
            group.bind({view.param: tuple(lookup(params, view.param, group.name).shape) for _, view in group.views})

    def describe(self) -> str:
        """Return a table of what feeds what, for a person to check at a glance."""
        return "\n".join(format_table(HEADER, list(table_rows(self)), words=HEADER))

    def to_dict(self) -> dict[str, Any]:
        """Return the layout as JSON values, to be kept beside a checkpoint."""
        return {"groups": [group.to_dict() for group in self.values()]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Build the layout that :meth:`to_dict` described.

        Raises:
            LayoutError: If the record is not of that form.
        """
        try:
            if record.get("version", 1) != 1:
                raise LayoutError(f"expected a layout of version 1, got version {record['version']!r}, a newer one")
            return cls([_read_group(item) for item in record["groups"]])
        except LayoutError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LayoutError(f"expected the record of a layout, as to_dict makes it: {error!r}") from None


def _read_group(item: Mapping[str, Any]) -> NeuronGroup:
    """Read the record of a group, in which unscored parameters may have their old name, ``restored``."""
    record: dict[str, Any] = {"unscored" if key == "restored" else key: value for key, value in item.items()}
    views: dict[str, Any] = {role: [ParamView(**view) for view in record[role]] for role in ROLES if role in record}
    return NeuronGroup(**(record | views))


def lookup(arrays: Arrays, param: str, group: str) -> Any:
    """Return a parameter's array by its name; an error says what is missing and what is there."""
    if param not in arrays:
        names = ", ".join(list(arrays)[:8]) + (", ..." if len(arrays) > 8 else "")
        raise LayoutError(f"group {group!r}: parameter {param!r} is missing; there are {names or 'no parameters'}")
    array = arrays[param]
    if array is not None and not hasattr(array, "shape"):
        raise TypeError(f"group {group!r}, parameter {param!r}: expected an array, got {type(array).__name__}")
    return array


def table_rows(layout: Layout) -> Iterator[tuple[str, ...]]:
    """Yield a row for each group, of the table that :meth:`Layout.describe` returns."""
    for group in layout.values():
        feeds = ", ".join(map(_entries, group.outgoing)) or "-"
        remark = "; ".join(filter(None, (group.reason, "" if group.resettable else "never reset")))
        yield group.name, ", ".join(map(_entries, group.incoming)), feeds, group.status or "", remark


def _entries(view: ParamView) -> str:
    """Write down which entries of a parameter a view means: ``fc2.weight[out neuron]``, with the places of an index."""
    if view.index is None:
        return f"{view.param}[{view.pattern}]"
    places = [place for place, owner in enumerate(view.index) if owner >= 0]
    whole = places and places == list(range(places[0], places[-1] + 1))
    where = f"{places[0]}-{places[-1]}" if whole else f"{len(places)} places"
    pattern = re.sub(r"\bneuron\b", f"neuron@{where}", view.pattern)
    return f"{view.param}[{pattern}]"


def _check_ownership(groups: Iterable[NeuronGroup]) -> None:
    """Each entry of a parameter is incoming or unscored in one group only."""
    claims: dict[str, tuple[str, ParamView, set[int]]] = {}
    for group in groups:
        for view in group.incoming + group.unscored:
            owned = {i for i, owner in enumerate(view.index or ()) if owner >= 0}
            if view.param not in claims:
                claims[view.param] = (group.name, view, owned)
                continue
            other, first, taken = claims[view.param]
            disjoint = view.index is not None and first.index is not None and not (owned & taken)
            if not disjoint or view.pattern != first.pattern:
                raise LayoutError(
                    f"group {group.name!r}, parameter {view.param!r}: belongs to group {other!r} already; a tied "
                    "parameter belongs to one group (a fused one is shared out by ParamView.index)"
                )
            taken |= owned
