"""Status ``shared``: the group is read only together with others of its width, as in a residual stream.

For example ``embed`` and ``block`` in ``x = embed(obs)``, ``x = x + block(x)``, ``head(x)``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeAlias

from neuroactivity.discovery.claims import Claim, Claims, Evidence, Known, name_some
from neuroactivity.discovery.decoding import Feeds
from neuroactivity.discovery.links import interpret, outgoing_views
from neuroactivity.discovery.prober import ROUNDING, Prober, neuron_axis
from neuroactivity.discovery.probes import Units, choose_zero_mean, probe_independent, probe_zero_mean
from neuroactivity.discovery.proof import prove, read_only_by

Reader: TypeAlias = tuple[str, int]
"""A parameter that reads a group, and a position."""

Watch: TypeAlias = Callable[[int, tuple[str, ...]], Mapping[Reader, int]]
"""From a draw and groups, half of whose neurons are silent, to what reads something all the same, and which neuron."""

_DRAWS, _FEWEST = 8, 4
_FACTOR = 0.75  # of a layer scale; at 1 a step from the old stream to the new one would leave nothing of the old

ZeroMean: TypeAlias = tuple[frozenset[int], list[tuple[int, int]]]
"""Neurons to silence, and the others in pairs of opposites."""

Stream: TypeAlias = tuple[list[str], Evidence, list[str]]
"""The groups of a stream, what reads them, and the parameters of no group that are added to them."""


def claim(prober: Prober, known: Known) -> Claims:
    """Silence the groups that are left jointly, by equal width, as long as that tells anything.

    What reads one of several summands keeps its gradient when that one alone is silent, so only joint silence shows it.
    The streams of one width are then told apart by the readers of each group.
    """
    while units := _left_by_width(prober, known):
        before = known.open()
        bare = {unit: _bare_writers(prober, names) for unit, names in units.items()}
        held = prober.holding({param: value for params in bare.values() for param, value in params.items()})
        independent = probe_independent(held, units, known.bias)
        linear = held.holding(_linear_biases(prober, units, known.center))
        alone = [name for name in _joinable(prober, known) if not any(name in names for names in units.values())]
        streams: list[Stream] = []
        zero_mean = probe_zero_mean(linear, {**units, **{name: [name] for name in alone}}, known.center)
        for unit, names in units.items():
            behind = interpret(prober, unit, names[0], zero_mean)
            joint = replace(interpret(prober, unit, names[0], independent), norms=behind.norms, parts=behind.parts)
            half = choose_zero_mean(prober, prober.neurons[names[0]], "readers")
            alive = _watch(held, linear, names, half, joint, known)
            readers = {name: _readers(alive, name, names, len(half[0])) for name in names}
            additive = [param for param, value in bare[unit].items() if value == 0.0]
            found = [(several, {param for param, _ in by}) for several, by in residual_streams(readers)]
            streams += [(n, _among(prober, joint, by), additive) for n, by in found if n[1:] or additive]
        yield from _claim_streams(prober, streams)
        if known.open() == before:
            return


def _linear_biases(prober: Prober, units: Units, center: float) -> dict[str, float]:
    """Hold the biases of all but the units at the center, where activation functions are linear, and shifts at 0.

    What layers add to each neuron of a stream alike, such as those that mix tokens, then leaves its mean where it is.
    """
    members = {name for names in units.values() for name in names}
    rest = [name for name in prober.layout if center and name not in members]
    biases = [(view.param, name) for name in rest for view in prober.layout[name].unscored]
    return {bias: 0.0 if name in prober.scales else center for bias, name in biases}


def _left_by_width(prober: Prober, known: Known) -> dict[str, list[str]]:
    """Put together the groups of each width, where there are several, or parameters of no group that may join."""
    widths: dict[int, list[str]] = {}
    for name in known.open():
        if name not in known.ambiguous:
            widths.setdefault(prober.neurons[name], []).append(name)
    joined = {size for shape in prober.bare.values() for size in shape}
    return {f"{w} wide": names for w, names in widths.items() if w > 1 and (len(names) > 1 or w in joined)}


def _joinable(prober: Prober, known: Known) -> list[str]:
    """Return the groups whose neurons a normalisation may read beside those of others: their mean is held still."""
    skipped = known.ambiguous.union(prober.scales)
    return [name for name in known.open() if name not in skipped and prober.neurons[name] >= _FEWEST]


def _bare_writers(prober: Prober, names: Sequence[str]) -> dict[str, float]:
    """Return at which value to hold the parameters of no group that take part in a stream: what is added at 0.

    For example a position embedding or a class token is added to the stream, and a layer scale multiplies what another
    group adds to it. A layer scale has no gradient while that group is silent, or none that is finite, where zeros are
    divided by their length; it is the same for all neurons then.
    """
    width, params = prober.neurons[names[0]], prober.draw(0)
    copies = math.prod(prober.made_by[names[0]][0][2].stack_sizes)
    prober.silence(params, dict.fromkeys(names, frozenset(range(width))))
    wide = {param: math.prod(shape) for param, shape in prober.bare.items() if width in shape}
    live = {param for (param, _), positions in prober.live_axes(params, wide).items() if any(positions)}
    held = [param for param, entries in wide.items() if param in live or entries in (width, copies * width)]
    return {param: 0.0 if param in live else _FACTOR for param in held}


def _readers(alive: Watch, name: str, names: Sequence[str], silent: int) -> set[Reader]:
    """Return what reads something when all groups of one width but one are silent, and nothing when that is as well.

    Args:
        alive: From :func:`_watch`.
        name: The group that is not silenced.
        names: The groups of its width.
        silent: How many neurons are silent.
    """
    reading: set[Reader] = set()
    rest = tuple([member for member in names if member != name])
    for draw in range(_DRAWS):  # where a router chooses, a group is not used in each
        without, found = alive(draw, tuple(names)), alive(draw, rest)  # where silent neurons are chosen too, both have
        fed = {reader: neuron for reader, neuron in found.items() if reader not in without}
        reading |= fed.keys()
        if 2 * len(set(fed.values())) > silent:
            break
    return reading


def _watch(held: Prober, linear: Prober, names: Sequence[str], half: ZeroMean, joint: Evidence, known: Known) -> Watch:
    """Return a function from a draw and groups to silence to the positions that read something all the same.

    Groups of other widths have a mean of zero meanwhile, in case a normalisation reads them too.

    Args:
        held: The model, with the parameters of no group held still.
        linear: The same, with linear activation functions.
        names: The groups of one width.
        half: The neurons that are silent, and pairs of the others.
        joint: What reads any of them, found with all of them silent at once.
        known: What silences a neuron.
    """
    beside = [name for name in _joinable(held, known) if name not in names]
    still = {other: choose_zero_mean(held, held.neurons[other], "beside", other) for other in beside}
    weights = [(link.where, link.feeds) for link in joint.links]
    scales = [(neuron_axis(held.layout[norm].incoming[0]), feeds) for norm, feeds in _norm_feeds(held, joint).items()]

    @cache
    def alive(draw: int, silent: tuple[str, ...]) -> dict[Reader, int]:
        found: dict[Reader, int] = {}
        for prober, readers, noise in ((held, weights, 0.0), (linear, scales, ROUNDING)):
            if not readers:
                continue
            params = prober.draw(draw)
            if prober is held:
                prober.silence(params, dict.fromkeys(silent, half[0]), known.bias)
            balanced = {**dict.fromkeys(silent, half), **still} if prober is linear else {}
            for member, (some, opposite) in balanced.items():
                prober.balance(params, member, some, opposite, 0.0 if member in prober.scales else known.center)
            live = prober.live_axes(params, {param for (param, _), _ in readers}, noise=noise)
            for where, feeds in readers:
                read = [p for p, neuron in feeds.items() if neuron in half[0] and where in live and live[where][p]]
                found |= {(where[0], position): feeds[position] for position in read}
        return found

    return alive


def _norm_feeds(prober: Prober, joint: Evidence) -> dict[str, Feeds]:
    """Return which neuron feeds which position of each normalisation that reads a stream, or a part of it."""
    whole = {norm: {neuron: neuron for neuron in range(prober.neurons[norm])} for norm in joint.norms}
    return whole | joint.parts


def residual_streams(readers: Mapping[str, set[Reader]]) -> list[tuple[list[str], set[Reader]]]:
    """Put groups with a reader in common together, with the readers of each such stream; leave out what nothing reads.

    Groups that the same parameter reads side by side, as a concatenation, are apart.

    Example:
        >>> streams = residual_streams({"a": {("w", 0)}, "b": {("w", 1)}, "c": {("u", 0)}, "d": {("u", 0), ("w", 0)}})
        >>> [(members, sorted(readers)) for members, readers in streams]
        [(['b'], [('w', 1)]), (['a', 'c', 'd'], [('u', 0), ('w', 0)])]
    """
    streams: list[tuple[set[str], set[Reader]]] = []
    for name, reading in readers.items():
        joined = [stream for stream in streams if stream[1] & reading]
        streams = [stream for stream in streams if stream not in joined]
        streams.append(({name}.union(*[s[0] for s in joined]), reading.union(*[s[1] for s in joined])))
    return [([n for n in readers if n in members], read_by) for members, read_by in streams if read_by]


def _among(prober: Prober, evidence: Evidence, read_by: set[str]) -> Evidence:
    """Leave out of what reads a unit what does not read one stream of it; norms of a part are norms like others."""
    links = [link for link in evidence.links if link.view.param in read_by]
    return Evidence(links, [norm for norm in [*evidence.norms, *evidence.parts] if prober.scales[norm] in read_by])


def _claim_streams(prober: Prober, streams: Sequence[Stream]) -> Claims:
    """Claim the groups of each stream, if they are read by nothing else; all streams are proved together.

    Behind a normalisation each neuron reaches all readers, so it is proved of the group as a whole.
    """
    outgoing = {names[0]: outgoing_views(prober, names[0], read_by.links) for names, read_by, _ in streams}
    proved = prove(prober, {names[0]: names for names, _, _ in streams}, outgoing)
    for names, read_by, additive in streams:
        rest = [name for name in names if name not in proved]
        mixed = rest and (read_by.norms or names[1:])
        through = read_only_by(prober, rest, read_by.norms, outgoing[names[0]]) if mixed else set()
        readers = name_some([*read_by.norms, *dict.fromkeys(link.view.param for link in read_by.links)])
        several = any(len(prober.owners[link.view.param]) > 1 for link in read_by.links)
        for name in names:
            others = name_some([member for member in names if member != name] or additive)
            if name in proved and several:
                yield Claim(prober.layout[name], "shared", f"proved: read only by {readers}, which {others} feeds too")
            elif name in proved:
                yield Claim(prober.layout[name], "shared", f"proved: read only together with {others}")
            elif name in through:
                yield Claim(prober.layout[name], "shared", f"read by {readers} together with {others}")
