"""The notation ``"neuron in h w"``: parse it, reduce an array to its neurons, spread neurons over an array.

A pattern names the axes of an array, separated by blanks, in the manner of einops (A. Rogozhnikov, "Einops: Clear and
reliable tensor manipulations with Einstein-like notation", ICLR 2022):

- ``neuron`` counts neurons and must be there; where it stands for several axes next to each other (the heads of
  attention and their channels), all of them together do, slowest first;
- ``stack`` counts independent copies of a layer, and where it stands more than once (vmapped seeds of an ensemble), all
  its axes together do, slowest first;
- any other name is an axis that is averaged away;
- parentheses hold several named axes that share one axis of the array, slowest first;
- ``...`` stands for any number of axes.

Tuples are made of lists here (``tuple([...])``), because ``torch.compile`` cannot trace every generator expression.
"""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from neuroactivity.arrays import Array, asarray_like, cache_outside_compile, magnitude_sum, namespace, sum_shards
from neuroactivity.errors import LayoutError

NEURON, STACK, ANY = "neuron", "stack", "..."

_MOST_ENTRIES = 2**24
"""More entries than the table of an index has in any layer; one of another size is a mistake."""


@dataclass(frozen=True)
class Pattern:
    """A parsed pattern: the names that share each axis, ``("...",)`` for the ellipsis."""

    axes: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name in order, parentheses opened."""
        return tuple([name for axis in self.axes for name in axis])

    @property
    def neurons(self) -> int:
        """How many axes count neurons."""
        return self.names.count(NEURON)

    @property
    def stacks(self) -> int:
        """How many axes count independent copies."""
        return self.names.count(STACK)


@dataclass(frozen=True)
class BoundPattern:
    """A pattern fitted to an array: the name and the size of each axis once parentheses are opened.

    Axes that count neurons together are one axis here.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def reduced_axes(self) -> tuple[int, ...]:
        """The axes that count neither neurons nor copies."""
        return tuple([axis for axis, name in enumerate(self.names) if name not in (NEURON, STACK)])

    @property
    def entries_per_neuron(self) -> int:
        """How many entries lie along those axes."""
        return math.prod([self.sizes[axis] for axis in self.reduced_axes])

    @property
    def stack_sizes(self) -> tuple[int, ...]:
        """The sizes of the axes that count copies."""
        return tuple([size for name, size in zip(self.names, self.sizes, strict=True) if name == STACK])

    @property
    def stacks_before_neuron(self) -> int:
        """How many of these axes are in front of the one that counts neurons."""
        return self.names[: self.names.index(NEURON)].count(STACK)

    def size(self, name: str) -> int:
        """Size of the axis called ``name``."""
        return self.sizes[self.names.index(name)]


@dataclass(frozen=True)
class NeuronIndex:
    """Which neuron owns each position along an axis, and turned round: the positions that each neuron owns.

    Attributes:
        index: For each position its owner, -1 for none.
        positions: For each neuron its positions.
        table: The same as one list, as many entries for each neuron, those that are not filled being 0.
        filled: Which entries of the table are positions.
    """

    index: tuple[int, ...]
    positions: tuple[tuple[int, ...], ...]
    table: tuple[int, ...]
    filled: tuple[bool, ...]

    @classmethod
    def of(cls, index: tuple[int, ...]) -> "NeuronIndex":
        """Read an index."""
        positions: list[list[int]] = [[] for _ in range(max(index, default=-1) + 1)]
        for position, owner in enumerate(index):
            if owner >= 0:
                positions[owner].append(position)
        width = max(map(len, positions), default=0)
        if len(positions) * width > _MOST_ENTRIES:
            raise LayoutError(f"index gives one of {len(positions)} neurons {width} positions, too many to be meant")
        table = [place for owned in positions for place in [*owned, *[0] * (width - len(owned))]]
        filled = [place < len(owned) for owned in positions for place in range(width)]
        return cls(index, tuple(map(tuple, positions)), tuple(table), tuple(filled))

    def counts(self, neurons: int) -> tuple[int, ...]:
        """How many positions each of ``neurons`` neurons owns."""
        return tuple([len(owned) for owned in self.positions]) + (0,) * (neurons - len(self.positions))


@cache_outside_compile
def parse(text: str) -> Pattern:
    """Parse a pattern.

    Raises:
        LayoutError: If a name is no identifier, a name other than ``stack`` and ``neuron`` stands twice, or ``stack``
            twice in one pair of parentheses, or ``neuron`` twice otherwise than for axes next to each other, ``neuron``
            is missing, parentheses do not match or nest, or ``...`` stands twice or inside parentheses.
    """
    if not isinstance(text, str):
        raise LayoutError("expected a string")
    axes: list[tuple[str, ...]] = []
    inside: list[str] | None = None
    for token in re.findall(r"\.\.\.|[()]|[^\s()]+", text):
        if token == "(" and inside is None:
            inside = []
        elif token == ")" and inside:
            axes.append(tuple(inside))
            inside = None
        elif token == ANY and inside is None:
            axes.append((ANY,))
        elif token.isidentifier():
            axes.append((token,)) if inside is None else inside.append(token)
        else:
            hint = "; separate names with spaces" if re.search(r"\w\W|^,", token) else ""
            raise LayoutError(f"unexpected {token!r} in a pattern{hint}")
    pattern = Pattern(tuple(axes))
    repeated = sorted({n for n in pattern.names if n not in (STACK, NEURON) and pattern.names.count(n) > 1})
    if inside is not None:
        raise LayoutError("expected ')', the pattern ended")
    if repeated:
        raise LayoutError(f"expected each name once, got {', '.join(map(repr, repeated))} more than once")
    if any(axis.count(STACK) > 1 for axis in axes):
        raise LayoutError("expected 'stack' once in a pair of parentheses, got it more than once")
    if NEURON not in pattern.names:
        close = difflib.get_close_matches(NEURON, pattern.names, n=1)
        hint = f"{close[0]!r}; did you mean 'neuron'?" if close else "none"
        raise LayoutError(f"expected an axis called 'neuron', found {hint}")
    first = [NEURON in names for names in axes].index(True)
    if pattern.neurons > 1 and axes[first : first + pattern.neurons] != [(NEURON,)] * pattern.neurons:
        raise LayoutError("expected several axes called 'neuron' next to each other, without parentheses")
    return pattern


def bind(pattern: Pattern, shape: tuple[int, ...], known: Mapping[str, int]) -> BoundPattern:
    """Bind a pattern to an array's shape.

    Args:
        pattern: The parsed pattern.
        shape: Shape of the array.
        known: Sizes of named axes. In parentheses at most one name may be missing; it is inferred.

    Raises:
        LayoutError: If the number of axes or a size does not fit, or a size cannot be inferred.
    """
    spare = len(shape) - len(pattern.axes)
    ellipsis = (ANY,) in pattern.axes
    if (spare < -1) if ellipsis else (spare != 0):
        least = f"at least {len(pattern.axes) - 1}" if ellipsis else f"{len(pattern.axes)}"
        raise LayoutError(f"expected {least} axes, got shape {tuple(shape)}")
    names: list[str] = []
    opened: list[int] = []
    position = 0
    for axis in pattern.axes:
        if axis == (ANY,):
            width = spare + 1
            names += [ANY] * width
            opened += shape[position : position + width]
            position += width
        elif axis == (NEURON,) and pattern.neurons > 1:
            if NEURON not in names:
                names.append(NEURON)
                opened.append(_together(shape[position : position + pattern.neurons], known))
            position += 1
        else:
            names += axis
            opened += _split(axis, int(shape[position]), known)
            position += 1
    return BoundPattern(tuple(names), tuple(opened))


def _together(sizes: tuple[int, ...], known: Mapping[str, int]) -> int:
    """Number of neurons that several axes count together."""
    neurons = math.prod(sizes)
    if known.get(NEURON, neurons) != neurons:
        raise LayoutError(f"axes of sizes {' x '.join(map(str, sizes))} do not fit neuron={known[NEURON]}")
    return neurons


def _split(axis: tuple[str, ...], size: int, known: Mapping[str, int]) -> list[int]:
    """Sizes of the names that share an axis of ``size``."""
    missing = [name for name in axis if name not in known]
    if len(missing) > 1:
        raise LayoutError(f"the sizes of {' and '.join(map(repr, missing))} cannot both be inferred; give one by name")
    product = 1
    for name in axis:
        product *= known.get(name, 1)
    if (size != product) if not missing else (product == 0 or size % product != 0):
        given = ", ".join(f"{name}={known[name]}" for name in axis if name in known)
        raise LayoutError(f"axis {' '.join(axis)!r} of size {size} does not fit {given}")
    return [known[name] if name in known else size // product for name in axis]


def neuron_sums(
    x: Array, bound: BoundPattern, owners: NeuronIndex | None, neurons: int
) -> tuple[Array, int | tuple[int, ...]]:
    """Sum magnitudes over everything but neurons and stack.

    Returns:
        The sums, shape ``(neurons,)`` or ``(stack, neurons)`` with all copies in one axis, and the number of entries
        behind each neuron's sum, one for all neurons or one each.
    """
    x, sizes = sum_shards(x, bound.sizes, bound.reduced_axes)
    sums = magnitude_sum(x if x.shape == sizes else namespace(x).reshape(x, sizes), bound.reduced_axes)
    if bound.stack_sizes:
        sums = _neurons_last(sums, bound)
    if owners is None:
        return sums, bound.entries_per_neuron
    return _gather(sums, owners, neurons), tuple([bound.entries_per_neuron * count for count in owners.counts(neurons)])


def _neurons_last(sums: Array, bound: BoundPattern) -> Array:
    """Bring the copies into one axis, and the neurons into the one behind it."""
    xp, last, before = namespace(sums), len(bound.stack_sizes), bound.stacks_before_neuron
    if before < last:
        sums = xp.permute_dims(sums, (*[axis for axis in range(last + 1) if axis != before], before))
    return sums if last == 1 else xp.reshape(sums, (math.prod(bound.stack_sizes), bound.size(NEURON)))


def _gather(sums: Array, owners: NeuronIndex, neurons: int) -> Array:
    """Sum over the positions that each neuron owns, which are the last axis of ``sums``."""
    xp = namespace(sums)
    width = len(owners.table) // max(len(owners.positions), 1)
    without = width * (neurons - len(owners.positions))
    values = xp.take(sums, asarray_like(owners.table + (0,) * without, like=sums), axis=-1)
    filled = asarray_like(owners.filled + (False,) * without, like=sums, dtype=xp.bool)
    values = xp.where(filled, values, xp.zeros_like(values))
    return xp.sum(xp.reshape(values, (*sums.shape[:-1], neurons, width)), axis=-1)


def expand_mask(mask: Array, shape: tuple[int, ...], bound: BoundPattern, owners: NeuronIndex | None) -> Array:
    """Spread a mask of neurons over the entries of an array of ``shape`` that belong to them.

    Args:
        mask: Boolean, shape ``(neurons,)`` or ``(stack, neurons)``.
        shape: Shape of the array.
        bound: The pattern fitted to the array.
        owners: NeuronIndex of the positions along the neuron axis, if they are not the neurons themselves.
    """
    xp = namespace(mask)
    thin = broadcastable(mask, bound, owners)
    if owners is not None:
        owned = tuple([owner >= 0 for owner in owners.index])
        axes = [len(owned) if name == NEURON else 1 for name in bound.names]
        thin = thin & xp.reshape(asarray_like(owned, like=mask, dtype=xp.bool), tuple(axes))
    return xp.reshape(xp.broadcast_to(thin, bound.sizes), tuple(shape))


def broadcastable(values: Array, bound: BoundPattern, owners: NeuronIndex | None) -> Array:
    """Bring one value for each neuron into a shape that broadcasts against the array with its parentheses opened.

    A position that no neuron owns gets the value of some neuron.
    """
    xp = namespace(values)
    if owners is not None:
        table = asarray_like(tuple([max(owner, 0) for owner in owners.index]), like=values)
        values = xp.take(values, table, axis=-1)
    own, last = (NEURON, STACK) if len(values.shape) == 2 else (NEURON,), len(bound.stack_sizes)
    before = bound.stacks_before_neuron
    if len(values.shape) == 2 and before < last:
        if last > 1:
            values = xp.reshape(values, (*bound.stack_sizes, bound.size(NEURON)))
        values = xp.permute_dims(values, (*range(before), last, *range(before, last)))
    thin = [size if name in own else 1 for name, size in zip(bound.names, bound.sizes, strict=True)]
    return xp.reshape(values, tuple(thin))
