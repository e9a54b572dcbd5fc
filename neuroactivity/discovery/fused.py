"""Status ``exclusive`` for fused projections: a layer that computes several things at once has coarser neurons.

For example the projection of a gated linear unit, whose second half gates the first: neuron ``i`` has the rows
``i`` and ``width + i``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from neuroactivity.discovery.claims import Claim, Claims, Known, Link
from neuroactivity.discovery.decoding import Axis, AxisReaders
from neuroactivity.discovery.links import drop_indirect, is_unambiguous, link_view
from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.proof import prove
from neuroactivity.layout import NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON

Way: TypeAlias = tuple[NeuronGroup, list[int]]
"""A group with coarser neurons, and the coarse neuron that each fine one belongs to."""

_CHUNKS = (2, 3, 4)
_QKV = 3


def claim(prober: Prober, known: Known) -> Claims:
    """Try groups that are left as coarser ones, each of whose neurons has a row in every part, finest first.

    Tried are ``(chunk neuron)`` and ``(neuron chunk)``, as in a gated linear unit, and, with three chunks, whole heads,
    ``(chunk neuron dim)`` and ``(neuron chunk dim)``, as in a fused projection to query, key and value.
    """
    names = [name for name in known.open() if name not in known.ambiguous and _can_be_fused(prober, known, name)]
    waiting = {name: _coarser(prober.layout[name], prober.neurons[name]) for name in names}
    while waiting:
        ways = {name: way for name, rest in waiting.items() if (way := next(rest, None))}
        proved = _prove_coarser(prober, known, ways)
        for name, outgoing in proved.items():
            group, _ = ways[name]
            rows = group.incoming[0].pattern.partition(")")[0]
            yield Claim(group, "exclusive", f"proved for {rows}) as one neuron", outgoing)
        waiting = {name: waiting[name] for name in ways if name not in proved}


def _can_be_fused(prober: Prober, known: Known, name: str) -> bool:
    """Whether the neuron axis can be split, and some neuron feeds nothing that it alone feeds."""
    group = prober.layout[name]
    plain = all(view.index is None and view.parsed.neurons == 1 for view in group.incoming)
    if group.stacks or not plain or any(len(axis) != 1 for view in group.incoming for axis in view.parsed.axes):
        return False
    params = {view.param for view in group.incoming + group.unscored}
    readers = [readers for (param, _), readers in known.readers.items() if param not in params]
    return len({neuron for reader in readers for neuron in reader.feeds(name).values()}) < prober.neurons[name]


def _prove_coarser(prober: Prober, known: Known, ways: Mapping[str, Way]) -> dict[str, list[ParamView]]:
    """Return what the neurons of coarser groups feed, of those for which that can be proved."""
    outgoing = {}
    for name, (_, coarse) in ways.items():
        links = _coarse_links(prober, name, coarse, known.readers)
        if links and is_unambiguous(prober, links, known):
            direct = drop_indirect(prober, links, known.evidence)
            outgoing[name] = [link_view(prober, link, max(coarse) + 1, 0) for link in direct]
    if not outgoing:
        return {}
    trial = prober.with_coarser({name: ways[name][0] for name in outgoing}, {name: ways[name][1] for name in outgoing})
    proved = prove(trial, {name: [name] for name in outgoing}, outgoing)
    return {name: outgoing[name] for name in outgoing if name in proved}


def _coarser(group: NeuronGroup, count: int) -> Iterator[Way]:
    """Yield ways to see a group's neurons as fewer.

    Example:
        >>> ways = _coarser(NeuronGroup("glu", [("w", "neuron in")]), 4)
        >>> [(group.incoming[0].pattern, coarse) for group, coarse in ways]
        [('(chunk neuron) in', [0, 1, 0, 1]), ('(neuron chunk) in', [0, 0, 1, 1])]
    """
    for chunk, dim in [*[(chunk, 1) for chunk in _CHUNKS], *[(_QKV, dim) for dim in range(2, count)]]:
        neurons = count // (chunk * dim)
        if neurons > 1 and neurons * chunk * dim == count:
            rest, sizes = (" dim", {"chunk": chunk, NEURON: neurons}) if dim > 1 else ("", {"chunk": chunk})
            yield _rewrite(group, f"(chunk {NEURON}{rest})", sizes), [i // dim % neurons for i in range(count)]
            yield _rewrite(group, f"({NEURON} chunk{rest})", sizes), [i // (chunk * dim) for i in range(count)]


def _rewrite(group: NeuronGroup, axis: str, sizes: dict[str, int]) -> NeuronGroup:
    """Put a composite axis in the place of the neuron axis of the views that make a group.

    Example:
        >>> _rewrite(NeuronGroup("glu", [("w", "neuron in")]), "(chunk neuron)", {"chunk": 2}).incoming
        (ParamView('w', '(chunk neuron) in', {'chunk': 2}),)
    """

    def rewrite(view: ParamView) -> ParamView:
        pattern = " ".join(axis if part == NEURON else part for part in view.pattern.split())
        return ParamView(view.param, pattern, {**view.sizes, **sizes})

    incoming, unscored = tuple(map(rewrite, group.incoming)), tuple(map(rewrite, group.unscored))
    coarser = replace(group, incoming=incoming, unscored=unscored, neurons=sizes.get(NEURON, group.neurons))
    return replace(coarser, activation=f"... ({NEURON} dim)") if NEURON in sizes else coarser


def _coarse_links(prober: Prober, name: str, coarse: list[int], axes: Mapping[Axis, AxisReaders]) -> list[Link]:
    """Say what the coarse neurons feed; nothing if a position was fed by fine neurons of several coarse ones."""
    links = []
    for (param, axis), readers in axes.items():
        candidates = readers.candidates.get(name, {})
        feeds = {position: {coarse[neuron] for neuron in neurons} for position, neurons in candidates.items()}
        if any(len(neurons) > 1 for neurons in feeds.values()):
            return []
        owners = [(owner, view) for owner, view in prober.owners[param] if owner != name]
        views = [view for _, view in owners if NEURON not in view.parsed.axes[axis]]
        if feeds and views:
            links.append(Link(views[0], axis, {p: neuron for p, (neuron,) in feeds.items()}, readers.undecided))
    return links
