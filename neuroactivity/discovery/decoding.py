"""Read off a series of probes which neuron feeds which position, and write that down as a view."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import accumulate, compress, pairwise
from operator import and_, or_
from typing import TypeAlias

from neuroactivity.layout import ParamView
from neuroactivity.layout.patterns import NEURON, STACK, parse

PARTS = 4
"""A round of so many probes silences each neuron once."""

_HALVINGS = (0.0, 0.415, 1.0, 2.0, 64.0)  # of the odds, by the probes of a round in which a position was live
_TIMES_SILENCED = 8  # a neuron must have been silenced in so many probes, for its silence to mean anything

Axis: TypeAlias = tuple[str, int]
"""A parameter's name and one of its axes."""

Source: TypeAlias = tuple[str, int]
"""A unit and one of its neurons."""

Chosen: TypeAlias = Mapping[str, frozenset[int]]
"""Neurons that are silenced or cut off, by unit: a group, or groups silenced together."""

Live: TypeAlias = Mapping[Axis, Sequence[int]]
"""For each position along each axis whether it has a gradient: bytes, of which there may be many millions."""

Feeds: TypeAlias = dict[int, int]
"""For each position along an axis the neuron that feeds it."""

Candidates: TypeAlias = dict[int, tuple[int, ...]]
"""For each position along an axis the neurons that may feed it: it had no gradient whenever one of them was silent."""


@dataclass(frozen=True)
class AxisReaders:
    """What the positions along one axis read: the candidates of each unit, and the positions that are undecided."""

    candidates: dict[str, Candidates]
    undecided: frozenset[int]

    def feeds(self, unit: str) -> Feeds:
        """Return the positions that a single neuron of a unit feeds."""
        candidates = self.candidates.get(unit, {})
        return {position: neurons[0] for position, neurons in candidates.items() if len(neurons) == 1}


def decode(
    silenced: Sequence[Mapping[str, Iterable[int]]],
    live: Sequence[Live],
    neurons: Mapping[str, int],
    *,
    least: int,
    bits: float = 0.0,
) -> dict[Axis, AxisReaders]:
    """Find for each position the neurons that were active in every probe in which it had a gradient.

    A neuron that was silent while the position had a gradient does not feed it. After enough probes one neuron is left,
    the one that does; of a position that reads something else, such as the input, none is.

    Args:
        silenced: For each probe the neurons that were silenced.
        live: For each probe which positions had a gradient.
        neurons: Number of neurons of each unit.
        least: In how many probes a position must have had a gradient, to be decided.
        bits: How many halvings of a chance match these probes must be worth, by :func:`worth`.

    Example:
        Of two neurons, one is silenced in each probe; position 0 has a gradient unless neuron 1 is silent, position 1
        always, position 2 never.

        >>> silenced = 8 * [{"a": frozenset([0])}, {"a": frozenset([1])}]
        >>> live = 8 * [{("w", 1): [True, True, False]}, {("w", 1): [False, True, False]}]
        >>> decode(silenced, live, {"a": 2}, least=4)[("w", 1)]
        AxisReaders(candidates={'a': {0: (1,)}}, undecided=frozenset({2}))
    """
    sources = [(unit, neuron) for unit, count in neurons.items() for neuron in range(count)]
    first = dict(zip(neurons, accumulate(neurons.values(), initial=0), strict=False))
    often = [-1, *[0] * _TIMES_SILENCED]  # which neurons have been silenced in at least so many probes
    silent = []
    for chosen in silenced:
        silent.append(reduce(or_, [_as_bits(chosen[unit], count) << first[unit] for unit, count in neurons.items()], 0))
        often = [-1, *[more | fewer & silent[-1] for fewer, more in pairwise(often)]]
    active = [often[-1] & ~probe for probe in silent]
    axes = [axis for axis in live[0] if all(axis in probe for probe in live)]

    @cache
    def explain(alive: bytes) -> list[Source] | None:
        """Return the sources that were active in these probes; positions that read the same are live in the same."""
        if sum(alive) < least or worth(alive) < bits:
            return None
        return [sources[bit] for bit in _bits(reduce(and_, compress(active, alive)))]

    return {axis: _decode_axis([probe[axis] for probe in live], explain) for axis in axes}


def _decode_axis(live: Sequence[Sequence[int]], explain: Callable[[bytes], list[Source] | None]) -> AxisReaders:
    r"""Decode one axis.

    Args:
        live: For each probe which positions had a gradient.
        explain: From the probes in which a position had one to its candidates, ``None`` if it is undecided.

    Example:
        >>> both = {b"\1\0": [("a", 0), ("b", 0)], b"\1\1": [("b", 0)]}
        >>> _decode_axis([[True, True], [False, True]], both.get)
        AxisReaders(candidates={'a': {0: (0,)}, 'b': {0: (0,), 1: (0,)}}, undecided=frozenset())
    """
    undecided = set()
    candidates: dict[str, dict[int, list[int]]] = {}
    for position, alive in enumerate(zip(*live, strict=True)):
        sources = explain(bytes(alive))
        if sources is None:
            undecided.add(position)
        for unit, neuron in sources or ():
            candidates.setdefault(unit, {}).setdefault(position, []).append(neuron)
    by_unit = {unit: {p: tuple(several) for p, several in positions.items()} for unit, positions in candidates.items()}
    return AxisReaders(by_unit, frozenset(undecided))


def worth(alive: Sequence[int]) -> float:
    """How many halvings the odds are worth that a neuron was active in all of these probes by chance.

    In every :data:`PARTS` probes it was silenced in one.

    Example:
        >>> worth([True, True, False, False, True, False, True, True])
        3.0
    """
    rounds = Counter([sum(alive[start : start + PARTS]) for start in range(0, len(alive), PARTS)])
    return sum([count * _HALVINGS[lives] for lives, count in rounds.items()])


def decode_one_to_one(
    silenced: Sequence[Chosen], live: Sequence[Live], neurons: Mapping[str, int], *, least: int
) -> dict[Axis, AxisReaders]:
    """Find the positions that never had a gradient while the neuron of their own number was silent.

    That is all there is to know of a normalisation, and takes few probes: all its positions say the same. If it has
    more positions than there are neurons, as behind a concatenation, the neurons are looked for at an offset.

    Args:
        silenced: For each probe the neurons that were silenced.
        live: For each probe which positions had a gradient.
        neurons: Number of neurons of each unit.
        least: In how many probes a position must have had a gradient, to be decided.

    Example:
        >>> live = [{("scale", 0): [True, False]}, {("scale", 0): [False, True]}]
        >>> decode_one_to_one([{"a": frozenset([1])}, {"a": frozenset([0])}], live, {"a": 2}, least=1)[("scale", 0)]
        AxisReaders(candidates={'a': {0: (0,), 1: (1,)}}, undecided=frozenset())
    """
    found = {}
    for axis in [axis for axis in live[0] if all(axis in probe for probe in live)]:
        rows = [probe[axis] for probe in live]
        decided = [position for position, alive in enumerate(zip(*rows, strict=True)) if sum(alive) >= least]
        candidates: dict[str, Candidates] = {}
        for unit, count in neurons.items():
            probes = [(chosen[unit], row) for chosen, row in zip(silenced, rows, strict=True)]
            own: Candidates = {}
            if count == len(rows[0]):
                refuted = {n for members, row in probes for n in members if row[n]}
                own = {position: (position,) for position in decided if position not in refuted}
            for first in range(len(rows[0]) - count + 1) if count < len(rows[0]) else ():
                if not any(row[first + n] for members, row in probes for n in members):
                    own |= {position: (position - first,) for position in decided if 0 <= position - first < count}
            candidates |= {unit: own} if own else {}
        found[axis] = AxisReaders(candidates, frozenset(range(len(rows[0]))) - set(decided))
    return found


def _as_bits(members: Iterable[int], count: int) -> int:
    """Return the number in which these bits of ``count`` are set.

    Example:
        >>> bin(_as_bits([1, 3], 5))
        '0b1010'
    """
    digits = bytearray(b"0" * max(count, 1))
    for member in members:
        digits[-1 - member] = ord("1")
    return int(digits, 2)


def _bits(members: int) -> Iterator[int]:
    """Yield the bits that are set in a number.

    Example:
        >>> list(_bits(0b1010))
        [1, 3]
    """
    while members:
        lowest = members & -members
        yield lowest.bit_length() - 1
        members ^= lowest


def fill_regular(feeds: Feeds, undecided: frozenset[int], neurons: int, size: int) -> tuple[str, Feeds]:
    """Name an axis that is read in a regular order, and fill the gaps of a map that is regular but for them.

    A gap is one of few positions that could not be decided; what is filled in is left to the proof.

    Returns:
        ``neuron``, ``(neuron hw)`` or ``(hw neuron)`` if the whole axis is read in that order, else an empty name, and
        the map.

    Example:
        Two neurons with two pixels each, of which position 1 could not be decided, and three neurons behind an offset
        of 4.

        >>> fill_regular({0: 0, 2: 1, 3: 1}, frozenset([1]), neurons=2, size=4)
        ('(neuron hw)', {0: 0, 1: 0, 2: 1, 3: 1})
        >>> fill_regular({4: 0, 6: 2}, frozenset([5]), neurons=3, size=8)
        ('', {4: 0, 5: 1, 6: 2})
    """
    for name, regular in _regular_maps(feeds, neurons, size):
        gaps = regular.keys() - feeds.keys()
        agrees = all(regular.get(position) == neuron for position, neuron in feeds.items())
        if agrees and gaps <= undecided and 2 * len(gaps) <= len(feeds):
            return name, regular
    return "", feeds


def _regular_maps(feeds: Feeds, neurons: int, size: int) -> Iterator[tuple[str, Feeds]]:
    """Yield the whole axis in each order that fits its size, then ascending and descending neurons at an offset."""
    if size % neurons == 0:
        width = size // neurons
        yield "neuron" if width == 1 else "(neuron hw)", {p: p // width for p in range(size)}
        yield "(hw neuron)", {p: p % neurons for p in range(size)}
    position, neuron = next(iter(feeds.items()))
    for step in (1, -1):
        yield "", {position + step * (n - neuron): n for n in range(neurons)}


def feeding_view(view: ParamView, axis: int, order: str, feeds: Feeds, size: int, *, stacks: int) -> ParamView:
    """Write down that a group's neurons feed positions along one axis of a parameter.

    Args:
        view: The parameter in the group that it belongs to; its names for the other axes are kept.
        axis: The axis.
        order: In which order the whole axis is read, from :func:`fill_regular`; empty if by an index.
        feeds: Which neuron feeds which position.
        size: Size of the axis.
        stacks: Along how many of the parameter's ``stack`` axes, from the first, the neurons have independent copies.
            The neurons are the same for all copies along the rest.

    Example:
        >>> kernel = ParamView("conv.weight", "neuron in h w")
        >>> feeding_view(kernel, 1, "neuron", {0: 0, 1: 1}, 2, stacks=0)
        ParamView('conv.weight', 'out neuron h w')
        >>> feeding_view(kernel, 1, "", {1: 0}, 3, stacks=0)
        ParamView('conv.weight', 'out neuron h w', index=(-1, 0, -1))
    """
    axes = [write_axis(names) for names in _rename_owner_axes(view, stacks)]
    axes[axis] = order or NEURON
    pattern = " ".join(axes)
    renamed = {NEURON: "out", STACK: STACK if stacks else "copies"}
    sizes = {renamed.get(name, name): count for name, count in view.sizes.items()}
    kept = {name: count for name, count in sizes.items() if name in parse(pattern).names}
    return ParamView(view.param, pattern, kept, None if order else tuple([feeds.get(p, -1) for p in range(size)]))


def _rename_owner_axes(view: ParamView, stacks: int) -> list[list[str]]:
    """Rename the axes that count the neurons and the copies of the group that a parameter belongs to.

    Example:
        >>> _rename_owner_axes(ParamView("lstm.weight", "stack (gate neuron) in", {"gate": 4}), stacks=0)
        [['copies'], ['gate', 'out'], ['in']]
    """
    copies = [STACK] * stacks + [f"copies{number or ''}" for number in range(view.parsed.stacks)]
    names = {STACK: iter(copies), NEURON: iter([f"out{number or ''}" for number in range(view.parsed.neurons)])}
    return [[next(names[part]) if part in names else part for part in axis] for axis in view.parsed.axes]


def write_axis(names: Iterable[str]) -> str:
    """Write the names that share an axis as a pattern does.

    Example:
        >>> write_axis(["gate", "out"]), write_axis(["in"])
        ('(gate out)', 'in')
    """
    text = " ".join(names)
    return f"({text})" if " " in text else text
