"""Status ``shared``: the group is read only together with others of its width, as in a residual stream."""

from collections.abc import Iterator, Mapping, Sequence, Set

from neuroactivity.discovery.claims import Claim, Known, name_some
from neuroactivity.discovery.links import Link, interpret, outgoing_views
from neuroactivity.discovery.prober import ROUNDING, Prober, choose_zero_mean, probe_independent, probe_zero_mean
from neuroactivity.discovery.proof import is_read_only_by, prove

__all__ = ["claim_shared"]


def claim_shared(prober: Prober, known: Known) -> Iterator[Claim]:
    """Silence the groups that are left jointly, by equal width, as long as that tells anything."""
    while units := _left_by_width(prober, known):
        before = known.open()
        independent = probe_independent(prober, units, known.bias)
        zero_mean = probe_zero_mean(prober, units)
        for unit, names in units.items():
            links = interpret(prober, unit, names[0], independent).links
            norms = interpret(prober, unit, names[0], zero_mean).norms
            yield from _claim_streams(prober, names, links, norms, known.bias)
        if known.open() == before:
            return


def _left_by_width(prober: Prober, known: Known) -> dict[str, list[str]]:
    """Put together the groups of each width, where there are several."""
    widths: dict[int, list[str]] = {}
    for name in known.open():
        if name not in known.ambiguous:
            widths.setdefault(prober.neurons[name], []).append(name)
    return {f"{width} wide": names for width, names in widths.items() if len(names) > 1 and width > 1}


def _claim_streams(
    prober: Prober, names: Sequence[str], links: Sequence[Link], norms: Sequence[str], bias: float
) -> Iterator[Claim]:
    """Tell the streams of one width apart, and claim the groups of each.

    Args:
        prober: The model.
        names: Groups of equal width.
        links: What reads any of them, found with all of them silent at once.
        norms: The normalisations that read any of them.
        bias: The bias that silences a neuron.
    """
    readers = {name: _readers(prober, name, names, links, norms, bias) for name in names}
    for members, read_by in residual_streams(readers):
        of_stream = [link for link in links if link.view.param in read_by]
        yield from _claim_stream(prober, members, of_stream, [norm for norm in norms if norm in read_by])


def residual_streams(readers: Mapping[str, Set[str]]) -> list[tuple[list[str], set[str]]]:
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
    return [
        ([name for name in readers if name in members], read_by) for members, read_by in streams if len(members) > 1
    ]


def _readers(
    prober: Prober, name: str, names: Sequence[str], links: Sequence[Link], norms: Sequence[str], bias: float
) -> set[str]:
    """Return the parameters and normalisations that still read something when all groups but one are silent."""
    chosen, pairs = choose_zero_mean(prober, prober.neurons[name], "readers", name)
    rest = [group for group in names if group != name]
    params = prober.draw(0)
    prober.silence(params, dict.fromkeys(rest, chosen), bias)
    live = prober.live_axes(prober.gradients(params), {link.view.param for link in links})
    reading = {
        link.view.param
        for link in links
        if any(live[link.where][position] for position, neuron in link.feeds.items() if neuron in chosen)
    }
    scales = {prober.layout[norm].incoming[0].param: norm for norm in norms}
    params = prober.draw(0)
    for group in rest:
        prober.oppose(params, group, pairs)
    prober.silence(params, dict.fromkeys(rest, chosen))
    live = prober.live_axes(prober.gradients(params), scales, noise=ROUNDING)
    return reading | {scales[param] for (param, _), positions in live.items() if any(positions[i] for i in chosen)}


def _claim_stream(prober: Prober, names: Sequence[str], links: Sequence[Link], norms: Sequence[str]) -> Iterator[Claim]:
    """Claim the groups of a stream, if they are read by nothing else."""
    outgoing = outgoing_views(prober, names[0], links)
    proved = prove(prober, {names[0]: names}, {names[0]: outgoing})
    readers = name_some([*norms, *dict.fromkeys(link.view.param for link in links)])
    for name in names:
        rest = name_some([member for member in names if member != name])
        if name in proved:
            yield Claim(prober.layout[name], "shared", f"proved: read only together with {rest}")
        elif norms and is_read_only_by(prober, name, norms, outgoing):
            yield Claim(prober.layout[name], "shared", f"read by {readers} together with {rest}")
