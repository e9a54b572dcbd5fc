"""Series of probes: which neurons are silenced in each, and when enough is known."""

import math
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice, permutations
from typing import TypeAlias

from neuroactivity.discovery import decoding
from neuroactivity.discovery.decoding import PARTS, Axis, AxisReaders, Chosen, Live, Source
from neuroactivity.discovery.prober import ROUNDING, Prober

Units: TypeAlias = Mapping[str, Sequence[str]]
"""Groups of equal width that are silenced or cut off together, by the name of the unit."""

Rivals: TypeAlias = Mapping[str, Mapping[int, set[Source]]]
"""For each unit and neuron those that may feed a position in its place."""

_ROUNDS, _MORE, _MOST = 8, 4, 32  # rounds of probes at first, in each further batch, in all
_LEAST = 8  # probes in which a position must be live
_BITS, _SPARE = 13.0, 7.0  # a chance match must have odds of 1e-4, and one in a hundred positions if it takes no longer
_MOST_GAPS = 4  # one position in four may be undecided, if the rest says what it reads
_MOST_RIVALS = 8  # candidates of a position that are told apart; more are told by chance
_PAIRS, _ZERO_MEAN_LEAST = 8, 6  # pairs of probes, each of which silences every neuron once
_ORDERS_OF_FOUR = list(permutations(range(4)))


def probe_independent(prober: Prober, units: Units, bias: float) -> dict[Axis, AxisReaders]:
    """Silence a random quarter of each unit, independently of the others, and decode what each axis reads.

    After a first batch of rounds few neurons are left that may feed a position. Those that remain for the same position
    are silenced apart from then on. It ends when every position is decided that is live often enough to be.

    Args:
        prober: The model.
        units: Groups of equal width that are silenced together, by unit.
        bias: The bias that silences a neuron.
    """
    widths = _widths(prober, units)
    bits = math.log2(sum(widths.values())) + _SPARE
    silenced: list[dict[str, array[int]]] = []
    live: list[Live] = []
    rivals: Rivals = {}
    start, stop = 0, _ROUNDS
    while True:
        for number, draw in enumerate(prober.draws(start, stop), start):
            for chosen in _parts(prober, widths, rivals, "parts", bias, number):
                params = prober.draw(draw)
                for unit, names in units.items():
                    prober.silence(params, dict.fromkeys(names, chosen[unit]), bias)
                silenced.append({unit: array("I", neurons) for unit, neurons in chosen.items()})
                live.append(prober.live_axes(params, prober.owners))
        readers = decoding.decode(silenced, live, widths, least=_LEAST, bits=bits if start and stop < _MOST else _BITS)
        if start and (stop >= _MOST or all(_is_settled(readers[axis], axis, live, widths) for axis in readers)):
            return readers
        rivals = _rivals(readers)
        start, stop = stop, stop + _MORE


def _parts(prober: Prober, widths: Mapping[str, int], rivals: Rivals, *purpose: object) -> list[Chosen]:
    """Share out the neurons of each unit evenly and at random, rivals over different parts where that is possible.

    Which parts get one more than others is left to chance too: else few neurons would be silent in the last parts, in
    which positions are live, and that would say less of them than :func:`.decoding.worth` counts.
    """
    part_of: dict[Source, int] = {}
    parts: list[dict[str, frozenset[int]]] = [{} for _ in range(PARTS)]
    for unit, count in widths.items():
        order = list(range(count)) if count > 1 else []  # a single neuron would silence all behind it
        turns = list(range(PARTS))
        generator = prober.generator(*purpose, unit)
        generator.shuffle(order)
        generator.shuffle(turns)
        room = [len(order[turn::PARTS]) for turn in turns]
        members: list[list[int]] = [[] for _ in range(PARTS)]
        contested = rivals.get(unit, {})
        for neuron in [neuron for neuron in order if neuron in contested]:
            taken = [part_of[rival] for rival in contested[neuron] if rival in part_of]
            part = min(turns, key=lambda part: (len(members[part]) >= room[part], taken.count(part)))
            members[part].append(neuron)
            part_of[unit, neuron] = part
        rest = iter([neuron for neuron in order if neuron not in contested])
        for part, several in enumerate(members):
            parts[part][unit] = frozenset([*several, *islice(rest, room[part] - len(several))])
    return list(parts)


def _rivals(axes: Mapping[Axis, AxisReaders]) -> Rivals:
    """Say of each neuron which others are candidates of a position of which it is one."""
    rivals: defaultdict[str, defaultdict[int, set[Source]]] = defaultdict(lambda: defaultdict(set))
    for readers in axes.values():
        by_position: defaultdict[int, list[Source]] = defaultdict(list)
        for unit, candidates in readers.candidates.items():
            for position, neurons in candidates.items():
                by_position[position] += [(unit, neuron) for neuron in neurons]
        for sources in by_position.values():
            for unit, neuron in sources if 1 < len(sources) <= _MOST_RIVALS else ():
                rivals[unit][neuron].update(sources)
    return rivals


def _is_settled(readers: AxisReaders, axis: Axis, live: Sequence[Live], widths: Mapping[str, int]) -> bool:
    """Whether more probes would say nothing new: what can still be decided lies in the gaps of what is known."""
    rounds = len(live) / PARTS
    alive = {position: [probe[axis][position] for probe in live] for position in readers.undecided}
    waiting = {position for position, probes in alive.items() if decoding.worth(probes) * _MOST >= _BITS * rounds}
    size = len(live[0][axis])
    if _MOST_GAPS * len(waiting) > size:
        return False
    known: set[int] = set()
    for unit, width in widths.items():
        feeds = readers.feeds(unit)
        if waiting and _MOST_GAPS * len(set(feeds.values())) >= width:
            known |= decoding.fill_regular(feeds, readers.undecided, width, size)[1].keys()
    return not known or waiting <= known


def probe_zero_mean(prober: Prober, units: Units, center: float) -> dict[Axis, AxisReaders]:
    """Silence half of each unit and make the rest opposite in pairs, and decode what the normalisations read.

    A normalisation subtracts the mean, so a silent neuron is not silent behind it, unless the mean is zero. In every
    four neurons two are silenced, so that it is zero in each group of a group normalisation too.

    Args:
        prober: The model.
        units: Groups of equal width that are silenced together, by unit.
        center: What is zero for an activation function in front of the normalisation.
    """
    series = (center, *[(unit, tuple(names)) for unit, names in units.items()])
    if series not in prober.zero_mean:
        prober.zero_mean[series] = _decode_zero_mean(prober, units, center)
    return prober.zero_mean[series]


def _decode_zero_mean(prober: Prober, units: Units, center: float) -> dict[Axis, AxisReaders]:
    silenced: list[Chosen] = []
    live: list[Live] = []
    for number, draw in enumerate(prober.draws(0, _PAIRS)):
        for half in range(2):
            params, chosen = prober.draw(draw), {}
            for unit, names in units.items():
                count = prober.neurons[names[0]]
                chosen[unit], pairs = choose_zero_mean(prober, count, "pairs", number, unit, half=half)
                for name in names:
                    in_stream = name in prober.scales and len(names) > 1  # where shifts are to be linear themselves
                    prober.balance(params, name, chosen[unit], pairs, 0.0 if in_stream else center)
            silenced.append(chosen)
            live.append(prober.live_axes(params, prober.scales.values(), noise=ROUNDING))
    return decoding.decode_one_to_one(silenced, live, _widths(prober, units), least=_ZERO_MEAN_LEAST)


def choose_zero_mean(
    prober: Prober, count: int, *purpose: object, half: int = 0
) -> tuple[frozenset[int], list[tuple[int, int]]]:
    """Choose two in every four of ``count`` neurons to be silenced, in one half or the other, and pair the rest."""
    silent, pairs = list(range(count - count % 4, count)), []
    for four, order in enumerate(prober.generator(*purpose).choices(_ORDERS_OF_FOUR, k=count // 4)):
        first, second, third, last = [4 * four + offset for offset in (order[2:] + order[:2] if half else order)]
        silent += [first, second]
        pairs.append((third, last))
    return frozenset(silent), pairs


def _widths(prober: Prober, units: Units) -> dict[str, int]:
    return {unit: prober.neurons[names[0]] for unit, names in units.items()}
