"""One parameter seen as neurons."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from neuroactivity.errors import LayoutError
from neuroactivity.layout.patterns import NEURON, STACK, BoundPattern, NeuronIndex, Pattern, bind, parse

MOST_NEURONS = 2**20
"""More neurons than any layer has: a larger number is a mistake, which only the memory it takes would show."""


@dataclass(frozen=True)
class ParamView:
    """A parameter's name and a pattern that names its axes.

    Args:
        param: Name of the parameter in the mappings that the layout is used with.
        pattern: Names of its axes, for example ``"neuron in h w"``; see :mod:`neuroactivity.layout.patterns`.
        sizes: Sizes of named axes that cannot be inferred from the array's shape; ``stack`` only where it stands once.
        index: For each position along the axis called ``neuron`` the neuron that owns it, or -1 for none. By default
            position ``i`` belongs to neuron ``i``.

    Raises:
        LayoutError: If the pattern cannot be parsed, or a size or an index is out of range.

    Example:
        >>> ParamView("in_proj_weight", "(qkv neuron dim) in", {"qkv": 3})
        ParamView('in_proj_weight', '(qkv neuron dim) in', {'qkv': 3})
    """

    param: str
    pattern: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    index: tuple[int, ...] | None = None
    parsed: Pattern = field(init=False, compare=False)
    owners: NeuronIndex | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        where = f"parameter {self.param!r}, pattern {self.pattern!r}"
        if not isinstance(self.param, str) or not isinstance(self.pattern, str):
            raise LayoutError(f"{where}: expected two strings")
        try:
            parsed = parse(self.pattern)
            sizes = _read_sizes(self.sizes, parsed)
            index = None if self.index is None else _read_index(self.index)
            owners = None if index is None else NeuronIndex.of(index)
        except LayoutError as error:
            raise LayoutError(f"{where}: {error}") from None
        vars(self).update(index=index, sizes=MappingProxyType(sizes), parsed=parsed, owners=owners)

    def __hash__(self) -> int:
        return hash((self.param, self.pattern, frozenset(self.sizes.items()), self.index))

    def __repr__(self) -> str:
        sizes = f", {dict(self.sizes)}" if self.sizes else ""
        index = f", index={self.index}" if self.index is not None else ""
        return f"ParamView({self.param!r}, {self.pattern!r}{sizes}{index})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ParamView, (self.param, self.pattern, dict(self.sizes), self.index)

    def bind(self, shape: tuple[int, ...], neurons: int | None = None) -> BoundPattern:
        """Bind the view to its parameter's shape, in a group of ``neurons`` neurons (``None``: to be inferred)."""
        known = dict(self.sizes)
        if self.index is not None:
            known[NEURON] = len(self.index)
        elif neurons is not None:
            if known.get(NEURON, neurons) != neurons:
                raise LayoutError(f"sizes says neuron={known[NEURON]}, the group has {neurons}")
            known[NEURON] = neurons
        return bind(self.parsed, shape, known)

    def to_dict(self) -> dict[str, Any]:
        """Return the view as JSON values."""
        sizes = {"sizes": dict(self.sizes)} if self.sizes else {}
        index = {} if self.index is None else {"index": list(self.index)}
        return {"param": self.param, "pattern": self.pattern, **sizes, **index}


def _read_sizes(sizes: Mapping[str, int], pattern: Pattern) -> dict[str, int]:
    """Copy the sizes of named axes, checked."""
    if not isinstance(sizes, Mapping):
        raise LayoutError(f"expected sizes by name, got {sizes!r}")
    for name, size in sizes.items():
        if name not in pattern.names:
            raise LayoutError(f"sizes has {name!r}, which is no axis of the pattern")
        if name == STACK and pattern.stacks > 1:
            raise LayoutError(f"sizes has {name!r}, which stands for several axes; give the sizes of the other names")
        if not isinstance(size, int) or size < 1:
            raise LayoutError(f"expected a positive size for {name!r}, got {size!r}")
    return dict(sizes)


def _read_index(index: Iterable[int]) -> tuple[int, ...]:
    """Copy the owners of positions, checked."""
    try:
        owners = tuple([operator.index(owner) for owner in index])
    except TypeError:
        raise LayoutError(f"expected whole numbers in index, got {index!r}") from None
    if min(owners, default=-1) < -1:
        raise LayoutError(f"expected owners of -1 or more in index, got {min(owners)}")
    if max(owners, default=-1) >= MOST_NEURONS:
        raise LayoutError(f"expected owners below {MOST_NEURONS} in index, got a larger one")
    return owners


View: TypeAlias = ParamView | tuple[str, str] | tuple[str, str, Mapping[str, int]]
"""A :class:`ParamView`, or ``(param, pattern)`` or ``(param, pattern, sizes)`` for it."""


def as_view(view: View | str) -> ParamView:
    """Read ``(param, pattern)`` and ``(param, pattern, sizes)`` as a :class:`ParamView`."""
    if isinstance(view, ParamView):
        return view
    if not isinstance(view, tuple) or len(view) not in (2, 3):
        raise LayoutError(f"expected a ParamView, (param, pattern) or (param, pattern, sizes), got {view!r}")
    return ParamView(*view)
