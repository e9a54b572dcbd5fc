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
from neuroactivity.discovery.proof import prove, read_only_by

_DRAWS = 8

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
        streams: list[Stream] = []
        zero_mean = probe_zero_mean(linear, units, known.center)
        for unit, names in units.items():
            norms = interpret(prober, unit, names[0], zero_mean).norms
            joint = replace(interpret(prober, unit, names[0], independent), norms=norms)
            readers = {name: _readers(held, linear, name, names, joint, known) for name in names}
            additive = [param for param, value in bare[unit].items() if value == 0.0]
            found = residual_streams(readers)
            streams += [(several, _among(joint, by), additive) for several, by in found if several[1:] or additive]
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


def _bare_writers(prober: Prober, names: Sequence[str]) -> dict[str, float]:
    """Return at which value to hold the parameters of no group that take part in a stream: what is added at 0.

    For example a position embedding or a class token is added to the stream, and a layer scale multiplies what another
    group adds to it. A layer scale has no gradient while that group is silent; it is held at 1.
    """
    width, params = prober.neurons[names[0]], prober.draw(0)
    prober.silence(params, dict.fromkeys(names, frozenset(range(width))))
    grads = prober.gradients(params)
    held = {}
    for param, shape in prober.bare.items():
        if width in shape:
            live = any(any(positions) for positions in prober.live_axes(grads, [param]).values())
            if live or math.prod(shape) == width:
                held[param] = 0.0 if live else 1.0
    return held


def _readers(held: Prober, linear: Prober, name: str, names: Sequence[str], joint: Evidence, known: Known) -> set[str]:
    """Return the parameters and normalisations that read something when all groups of one width but one are silent.

    Args:
        held: The model, with the parameters of no group held still.
        linear: The same, with linear activation functions.
        name: The group that is not silenced.
        names: The groups of its width.
        joint: What reads any of them, found with all of them silent at once.
        known: What silences a neuron.
    """
    chosen, pairs = choose_zero_mean(held, held.neurons[name], "readers", name)
    silent = dict.fromkeys([member for member in names if member != name], chosen)
    fed = [(link, position) for link in joint.links for position, neuron in link.feeds.items() if neuron in chosen]
    scales = {neuron_axis(held.layout[norm].incoming[0]): norm for norm in joint.norms}
    for draw in range(_DRAWS):  # where a router chooses, a group is not used in each
        params = held.draw(draw)
        held.silence(params, silent, known.bias)
        live = held.live_axes(held.gradients(params), {link.view.param for link in joint.links}) if fed else {}
        reading = {link.view.param for link, position in fed if live[link.where][position]}
        params = linear.draw(draw)
        for member in silent:
            linear.balance(params, member, chosen, pairs, 0.0 if member in linear.scales else known.center)
        params_of = [param for param, _ in scales]
        live = linear.live_axes(linear.gradients(params), params_of, noise=ROUNDING) if scales else {}
        reading |= {norm for where, norm in scales.items() if where in live and any(live[where][i] for i in chosen)}
        if reading:
            return reading
    return set()


def residual_streams(readers: Mapping[str, set[str]]) -> list[tuple[list[str], set[str]]]:
    """Put groups with a reader in common together, with the readers of each such stream; leave out what nothing reads.

    Example:
        >>> streams = residual_streams({"a": {"w"}, "b": {"v"}, "c": {"u"}, "d": {"u", "w"}})
        >>> [(members, sorted(readers)) for members, readers in streams]
        [(['b'], ['v']), (['a', 'c', 'd'], ['u', 'w'])]
    """
    streams: list[tuple[set[str], set[str]]] = []
    for name, reading in readers.items():
        joined = [stream for stream in streams if stream[1] & reading]
        streams = [stream for stream in streams if stream not in joined]
        streams.append(({name}.union(*[s[0] for s in joined]), reading.union(*[s[1] for s in joined])))
    return [([n for n in readers if n in members], read_by) for members, read_by in streams if read_by]


def _among(evidence: Evidence, read_by: set[str]) -> Evidence:
    """Leave out of what reads a unit what does not read one stream of it."""
    links = [link for link in evidence.links if link.view.param in read_by]
    return Evidence(links, [norm for norm in evidence.norms if norm in read_by])


def _claim_streams(prober: Prober, streams: Sequence[Stream]) -> Claims:
    """Claim the groups of each stream, if they are read by nothing else; all streams are proved together."""
    outgoing = {names[0]: outgoing_views(prober, names[0], read_by.links) for names, read_by, _ in streams}
    proved = prove(prober, {names[0]: names for names, _, _ in streams}, outgoing)
    for names, read_by, additive in streams:
        rest = [name for name in names if name not in proved]
        through = read_only_by(prober, rest, read_by.norms, outgoing[names[0]]) if rest and read_by.norms else set()
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
