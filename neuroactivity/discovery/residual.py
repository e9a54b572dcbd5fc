"""Status ``shared``: the group is read only together with others of its width, as in a residual stream.

For example ``embed`` and ``block`` in ``x = embed(obs)``, ``x = x + block(x)``, ``head(x)``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from neuroactivity.discovery.claims import Claim, Claims, Evidence, Known, name_some
from neuroactivity.discovery.links import interpret, outgoing_views
from neuroactivity.discovery.prober import ROUNDING, Prober, neuron_axis
from neuroactivity.discovery.probes import Units, choose_zero_mean, probe_independent, probe_zero_mean
from neuroactivity.discovery.proof import is_read_only_by, prove

Readers: TypeAlias = set[tuple[str, int]]
"""Parameters and normalisations that read a group, each with a position."""

_DRAWS = 8
_FACTOR = 0.75  # of a layer scale; at 1 a step from the old stream to the new one would leave nothing of the old


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
        zero_mean = probe_zero_mean(linear, units, known.center)
        for unit, names in units.items():
            norms = interpret(prober, unit, names[0], zero_mean).norms
            joint = replace(interpret(prober, unit, names[0], independent), norms=norms)
            readers = {name: _readers(held, linear, name, names, joint, known) for name in names}
            additive = [param for param, value in bare[unit].items() if value == 0.0]
            for members, read_by in residual_streams(readers):
                if len(members) > 1 or additive:
                    yield from _claim_stream(prober, members, joint, {reader for reader, _ in read_by}, additive)
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


def _bare_writers(prober: Prober, names: Sequence[str]) -> dict[str, float]:
    """Return at which value to hold the parameters of no group that take part in a stream: what is added at 0.

    For example a position embedding or a class token is added to the stream, and a layer scale multiplies what another
    group adds to it. A layer scale has no gradient while that group is silent; it is the same for all neurons then.
    """
    width, params = prober.neurons[names[0]], prober.draw(0)
    prober.silence(params, dict.fromkeys(names, frozenset(range(width))))
    grads = prober.gradients(params)
    held = {}
    for param, shape in prober.bare.items():
        if width in shape:
            live = any(any(positions) for positions in prober.live_axes(grads, [param]).values())
            if live or math.prod(shape) == width:
                held[param] = 0.0 if live else _FACTOR
    return held


def _readers(held: Prober, linear: Prober, name: str, names: Sequence[str], joint: Evidence, known: Known) -> Readers:
    """Return the positions of parameters and normalisations that read something when all groups but one are silent.

    Args:
        held: The model, with the parameters of no group held still.
        linear: The same, with linear activation functions.
        name: The group that is not silenced.
        names: The groups of its width.
        joint: What reads any of them, found with all of them silent at once.
        known: What silences a neuron.
    """
    chosen, pairs = choose_zero_mean(held, held.neurons[name], "readers")
    silent = dict.fromkeys([member for member in names if member != name], chosen)
    fed = [(link, position) for link in joint.links for position, neuron in link.feeds.items() if neuron in chosen]
    scales = {neuron_axis(held.layout[norm].incoming[0]): norm for norm in joint.norms}
    reading: Readers = set()
    read: set[int] = set()
    for draw in range(_DRAWS):  # where a router chooses, a group is not used in each
        params = held.draw(draw)
        held.silence(params, silent, known.bias)
        live = held.live_axes(held.gradients(params), {link.view.param for link in joint.links}) if fed else {}
        seen = [(link, position) for link, position in fed if live[link.where][position]]
        reading |= {(link.view.param, position) for link, position in seen}
        read |= {link.feeds[position] for link, position in seen}
        params = linear.draw(draw)
        for member in silent:
            linear.balance(params, member, chosen, pairs, 0.0 if member in linear.scales else known.center)
        params_of = [param for param, _ in scales]
        live = linear.live_axes(linear.gradients(params), params_of, noise=ROUNDING) if scales else {}
        alive = {(norm, i) for where, norm in scales.items() if where in live for i in chosen if live[where][i]}
        reading |= alive
        read |= {neuron for _, neuron in alive}
        if 2 * len(read) > len(chosen):
            break
    return reading


def residual_streams(readers: Mapping[str, Readers]) -> list[tuple[list[str], Readers]]:
    """Put groups with a reader in common together, with the readers of each such stream; leave out what nothing reads.

    Groups that the same parameter reads side by side, as a concatenation, are apart.

    Example:
        >>> streams = residual_streams({"a": {("w", 0)}, "b": {("w", 1)}, "c": {("u", 0)}, "d": {("u", 0), ("w", 0)}})
        >>> [(members, sorted(readers)) for members, readers in streams]
        [(['b'], [('w', 1)]), (['a', 'c', 'd'], [('u', 0), ('w', 0)])]
    """
    streams: list[tuple[set[str], Readers]] = []
    for name, reading in readers.items():
        joined = [stream for stream in streams if stream[1] & reading]
        streams = [stream for stream in streams if stream not in joined]
        streams.append(({name}.union(*[s[0] for s in joined]), reading.union(*[s[1] for s in joined])))
    return [([n for n in readers if n in members], read_by) for members, read_by in streams if read_by]


def _claim_stream(
    prober: Prober, names: Sequence[str], joint: Evidence, read_by: set[str], additive: Sequence[str]
) -> Claims:
    """Claim the groups of a stream, if they are read by nothing else.

    Behind a normalisation each neuron reaches all readers, so it is proved of the group as a whole.
    """
    links = [link for link in joint.links if link.view.param in read_by]
    norms = [norm for norm in joint.norms if norm in read_by]
    outgoing = outgoing_views(prober, names[0], links)
    proved = prove(prober, {names[0]: names}, {names[0]: outgoing})
    readers = name_some([*norms, *dict.fromkeys(link.view.param for link in links)])
    for name in names:
        rest = name_some([member for member in names if member != name] or additive)
        if name in proved and any(len(prober.owners[link.view.param]) > 1 for link in links):
            yield Claim(prober.layout[name], "shared", f"proved: read only by {readers}, which {rest} feeds too")
        elif name in proved:
            yield Claim(prober.layout[name], "shared", f"proved: read only together with {rest}")
        elif (norms or len(names) > 1) and is_read_only_by(prober, name, norms, outgoing):
            yield Claim(prober.layout[name], "shared", f"read by {readers} together with {rest}")
