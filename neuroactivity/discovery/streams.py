"""Tell apart the streams of one width: groups that are read together, as in a residual stream, by the same readers."""

from collections.abc import Sequence

from neuroactivity.discovery.findings import Link
from neuroactivity.discovery.probes import Prober
from neuroactivity.discovery.series import ROUNDING, halves

__all__ = ["streams"]


def streams(
    prober: Prober, names: Sequence[str], links: Sequence[Link], norms: Sequence[str], level: float
) -> list[tuple[list[str], list[Link], list[str]]]:
    """Put groups with a reader in common together, with the links and the normalisations of their readers.

    Args:
        prober: The model under examination.
        names: Groups of equal width.
        links: What reads any of them, found with all of them silent at once.
        norms: The normalisations that read any of them.
        level: The bias that silences a neuron.
    """
    found: list[tuple[set[str], set[str]]] = []
    for name in names:
        readers = _readers(prober, name, names, links, norms, level)
        joined = [stream for stream in found if stream[1] & readers]
        found = [stream for stream in found if stream not in joined]
        found.append(({name}.union(*(s[0] for s in joined)), readers.union(*(s[1] for s in joined))))
    return [
        (
            [name for name in names if name in members],
            [link for link in links if link.view.param in readers],
            [norm for norm in norms if norm in readers],
        )
        for members, readers in found
        if len(members) > 1
    ]


def _readers(
    prober: Prober, name: str, names: Sequence[str], links: Sequence[Link], norms: Sequence[str], level: float
) -> set[str]:
    """Return the parameters and normalisations that still read something when all groups but one are silent."""
    chosen, pairs = halves(prober, prober.neurons[name], "readers", name)
    others = [other for other in names if other != name]
    params = prober.draw(0)
    prober.silence(params, dict.fromkeys(others, chosen), level)
    live = prober.live_axes(prober.gradients(params), {link.view.param for link in links})
    reading = {
        link.view.param
        for link in links
        if any(live[link.view.param, link.axis][place] for place, neuron in link.feeds.items() if neuron in chosen)
    }
    scales = {prober.layout[norm].incoming[0].param: norm for norm in norms}
    params = prober.draw(0)
    for other in others:
        prober.oppose(params, other, pairs)
    prober.silence(params, dict.fromkeys(others, chosen))
    live = prober.live_axes(prober.gradients(params), scales, noise=ROUNDING)
    return reading | {scales[param] for (param, _), places in live.items() if any(places[i] for i in chosen)}
