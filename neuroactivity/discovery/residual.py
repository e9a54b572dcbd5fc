"""Status ``shared``: the group is read only together with others of its width, as in a residual stream.

For example ``embed`` and ``block`` in ``x = embed(obs)``, ``x = x + block(x)``, ``head(x)``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from neuroactivity.discovery.claims import Claim, Claims, Evidence, Known, name_some
from neuroactivity.discovery.links import interpret, outgoing_views
from neuroactivity.discovery.prober import ROUNDING, Prober
from neuroactivity.discovery.probes import choose_zero_mean, probe_independent, probe_zero_mean
from neuroactivity.discovery.proof import is_read_only_by, prove


def claim(prober: Prober, known: Known) -> Claims:
    """Silence the groups that are left jointly, by equal width, as long as that tells anything.

    What reads one of several summands keeps its gradient when that one alone is silent, so only joint silence shows it.
    The streams of one width are then told apart by the readers of each group.
    """
    while units := _left_by_width(prober, known):
        before = known.open()
        independent = probe_independent(prober, units, known.bias)
        zero_mean = probe_zero_mean(prober, units)
        for unit, names in units.items():
            norms = interpret(prober, unit, names[0], zero_mean).norms
            joint = replace(interpret(prober, unit, names[0], independent), norms=norms)
            readers = {name: _readers(prober, name, names, joint, known.bias) for name in names}
            for members, read_by in residual_streams(readers):
                yield from _claim_stream(prober, members, joint, read_by)
        if known.open() == before:
            return


def _left_by_width(prober: Prober, known: Known) -> dict[str, list[str]]:
    """Put together the groups of each width, where there are several."""
    widths: dict[int, list[str]] = {}
    for name in known.open():
        if name not in known.ambiguous:
            widths.setdefault(prober.neurons[name], []).append(name)
    return {f"{width} wide": names for width, names in widths.items() if len(names) > 1 and width > 1}


def _readers(prober: Prober, name: str, names: Sequence[str], joint: Evidence, bias: float) -> set[str]:
    """Return the parameters and normalisations that read something when all groups of one width but one are silent.

    Args:
        prober: The model.
        name: The group that is not silenced.
        names: The groups of its width.
        joint: What reads any of them, found with all of them silent at once.
        bias: The bias that silences a neuron.
    """
    chosen, pairs = choose_zero_mean(prober, prober.neurons[name], "readers", name)
    silent = dict.fromkeys([member for member in names if member != name], chosen)
    params = prober.draw(0)
    prober.silence(params, silent, bias)
    live = prober.live_axes(prober.gradients(params), {link.view.param for link in joint.links})
    fed = [(link, position) for link in joint.links for position, neuron in link.feeds.items() if neuron in chosen]
    reading = {link.view.param for link, position in fed if live[link.where][position]}
    scales = {prober.layout[norm].incoming[0].param: norm for norm in joint.norms}
    params = prober.draw(0)
    for member in silent:
        prober.oppose(params, member, pairs)
    prober.silence(params, silent)
    live = prober.live_axes(prober.gradients(params), scales, noise=ROUNDING)
    return reading | {scales[param] for (param, _), positions in live.items() if any(positions[i] for i in chosen)}


def residual_streams(readers: Mapping[str, set[str]]) -> list[tuple[list[str], set[str]]]:
    """Put groups with a reader in common together, with the readers of each such stream; leave out single groups.

    Example:
        >>> streams = residual_streams({"a": {"w"}, "b": {"v"}, "c": {"u"}, "d": {"u", "w"}})
        >>> [(members, sorted(readers)) for members, readers in streams]
        [(['a', 'c', 'd'], ['u', 'w'])]
    """
    streams: list[tuple[set[str], set[str]]] = []
    for name, reading in readers.items():
        joined = [stream for stream in streams if stream[1] & reading]
        streams = [stream for stream in streams if stream not in joined]
        streams.append(({name}.union(*[s[0] for s in joined]), reading.union(*[s[1] for s in joined])))
    return [([n for n in readers if n in members], read_by) for members, read_by in streams if len(members) > 1]


def _claim_stream(prober: Prober, names: Sequence[str], joint: Evidence, read_by: set[str]) -> Claims:
    """Claim the groups of a stream, if they are read by nothing else."""
    links = [link for link in joint.links if link.view.param in read_by]
    norms = [norm for norm in joint.norms if norm in read_by]
    outgoing = outgoing_views(prober, names[0], links)
    proved = prove(prober, {names[0]: names}, {names[0]: outgoing})
    readers = name_some([*norms, *dict.fromkeys(link.view.param for link in links)])
    for name in names:
        rest = name_some([member for member in names if member != name])
        if name in proved:
            yield Claim(prober.layout[name], "shared", f"proved: read only together with {rest}")
        elif norms and is_read_only_by(prober, name, norms, outgoing):
            yield Claim(prober.layout[name], "shared", f"read by {readers} together with {rest}")
