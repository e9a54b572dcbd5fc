"""Read which neuron feeds which position off a series of probes, and write it down as a view."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeAlias

from neuroactivity.discovery.probes import Axis
from neuroactivity.layout.groups import ParamView
from neuroactivity.layout.patterns import NEURON, STACK, parse

__all__ = ["Feeds", "Reading", "Suspects", "complete", "decode", "feeding_view"]

_OFTEN = 8  # probes in which a neuron must have been silenced, for its silence to mean anything

Feeds: TypeAlias = dict[int, int]
"""For each position along an axis the neuron that feeds it."""

Suspects: TypeAlias = dict[int, tuple[int, ...]]
"""For each position along an axis the neurons of which each makes it vanish."""


@dataclass(frozen=True)
class Reading:
    """What one axis of a parameter reads: for each unit its suspects, and the positions that could not be decided."""

    suspects: dict[str, Suspects]
    undecided: frozenset[int]

    def feeds(self, unit: str) -> Feeds:
        """Return the positions that a single neuron of a unit feeds."""
        return {place: neurons[0] for place, neurons in self.suspects.get(unit, {}).items() if len(neurons) == 1}


def decode(
    silenced: Sequence[Mapping[str, frozenset[int]]],
    live: Sequence[Mapping[Axis, Sequence[bool]]],
    neurons: Mapping[str, int],
    *,
    least: int,
) -> dict[Axis, Reading]:
    """Find for each position the neuron whose silence always made its gradient vanish.

    Args:
        silenced: For each probe the neurons that were silenced, by unit: a group, or groups silenced together.
        live: For each probe which positions had a gradient.
        neurons: Number of neurons of each unit.
        least: In how many probes a position must have had a gradient, for its absence to mean anything.

    Returns:
        For each axis what it reads.
    """
    owner = [(unit, neuron) for unit, count in neurons.items() for neuron in range(count)]
    number = {neuron: place for place, neuron in enumerate(owner)}
    often = Counter((unit, neuron) for chosen in silenced for unit, members in chosen.items() for neuron in members)
    testable = sum(1 << number[neuron] for neuron in owner if often[neuron] >= _OFTEN)
    active = []
    for chosen in silenced:
        silent = sum(1 << number[unit, neuron] for unit, members in chosen.items() for neuron in members)
        active.append(testable & ~silent)
    axes = [axis for axis in live[0] if all(axis in probe for probe in live)]
    return {axis: _decode_axis([probe[axis] for probe in live], active, owner, least) for axis in axes}


def _decode_axis(
    live: Sequence[Sequence[bool]], active: Sequence[int], owner: Sequence[tuple[str, int]], least: int
) -> Reading:
    """Decode one axis: a neuron that was active whenever a position was alive explains that position."""
    found: dict[str, dict[int, list[int]]] = {}
    undecided = set()
    for position, alive in enumerate(zip(*live, strict=True)):
        if sum(alive) < least:
            undecided.add(position)
            continue
        suspects = -1
        for remaining in compress(active, alive):
            suspects &= remaining
            if not suspects:
                break
        while suspects:
            lowest = suspects & -suspects
            unit, neuron = owner[lowest.bit_length() - 1]
            found.setdefault(unit, {}).setdefault(position, []).append(neuron)
            suspects ^= lowest
    suspected = {unit: {place: tuple(several) for place, several in places.items()} for unit, places in found.items()}
    return Reading(suspected, frozenset(undecided))


def complete(feeds: Feeds, undecided: frozenset[int], neurons: int, size: int) -> tuple[str, Feeds]:
    """Name an axis that is read in a regular way, and fill the gaps of a regular map.

    A gap is one of few positions that could not be decided; what is filled in is left to the proof.

    Returns:
        ``neuron``, ``(neuron hw)`` or ``(hw neuron)`` if the whole axis is read in that order, else an empty name, and
        the map.
    """
    candidates = []
    if size % neurons == 0:
        width = size // neurons
        candidates.append(("neuron" if width == 1 else "(neuron hw)", {p: p // width for p in range(size)}))
        candidates.append(("(hw neuron)", {p: p % neurons for p in range(size)}))
    for step in (1, -1):
        first_position, first_neuron = next(iter(feeds.items()))
        offset = first_position - step * first_neuron
        candidates.append(("", {offset + step * neuron: neuron for neuron in range(neurons)}))
    for name, form in candidates:
        filled = form.keys() - feeds.keys()
        if (
            all(form.get(p) == neuron for p, neuron in feeds.items())
            and filled <= undecided
            and 2 * len(filled) <= len(feeds)
        ):
            return name, form
    return "", feeds


def feeding_view(own: ParamView, axis: int, name: str, feeds: Feeds, size: int, *, stacks: int) -> ParamView:
    """Write down that a group's neurons feed positions along one axis of a parameter.

    Args:
        own: The view of the parameter in its own group, whose names for the other axes are kept.
        axis: The axis.
        name: How the whole axis is read, from :func:`complete`; empty if by an index.
        feeds: Which neuron feeds which position.
        size: Size of the axis.
        stacks: Along how many of the parameter's ``stack`` axes, from the first, the neurons have independent copies.
            The neurons are the same for all copies along the others.
    """
    copies = [STACK if number < stacks else f"copies{number - stacks or ''}" for number in range(own.parsed.stacks)]
    renamed = {NEURON: "out", STACK: copies[0] if copies else STACK}
    words = {STACK: iter(copies), NEURON: iter([f"out{number or ''}" for number in range(own.parsed.neurons)])}
    axes = [" ".join(next(words[part]) if part in words else part for part in names) for names in own.parsed.axes]
    texts = [f"({text})" if " " in text else text for text in axes]
    texts[axis] = name or NEURON
    pattern = " ".join(texts)
    present = parse(pattern).names
    sizes = {renamed.get(part, part): count for part, count in own.sizes.items()}
    index = None if name else tuple(feeds.get(position, -1) for position in range(size))
    return ParamView(own.param, pattern, {part: count for part, count in sizes.items() if part in present}, index)
