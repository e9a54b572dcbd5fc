"""Status ``exclusive`` for fused projections: a layer that computes several things at once has coarser neurons.

For example the projection of a gated linear unit, whose second half gates the first: neuron ``i`` has the rows
``i`` and ``width + i``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from neuroactivity.discovery.claims import Claim, Claims, Known, Link
from neuroactivity.discovery.decoding import Axis, AxisReaders
from neuroactivity.discovery.links import drop_indirect, is_unambiguous, link_view
from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.proof import prove
from neuroactivity.layout import Layout, NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON

_CHUNKS = (2, 3, 4)
_QKV = 3


def claim(prober: Prober, known: Known) -> Claims:
    """Try groups that are left as coarser ones, each of whose neurons has a row in every part, finest first.

    Tried are ``(chunk neuron)`` and ``(neuron chunk)``, as in a gated linear unit, and, with three chunks, whole heads,
    ``(chunk neuron dim)`` and ``(neuron chunk dim)``, as in a fused projection to query, key and value.
    """
    for name in known.open():
        if name not in known.ambiguous and _can_be_fused(prober, known, name):
            for group, coarse in _coarser(prober.layout[name], prober.neurons[name]):
                outgoing = _prove_coarser(prober, known, group, coarse)
                if outgoing:
                    rows = group.incoming[0].pattern.partition(")")[0]
                    yield Claim(group, "exclusive", f"proved for {rows}) as one neuron", outgoing)
                    break


def _can_be_fused(prober: Prober, known: Known, name: str) -> bool:
    """Whether the neuron axis can be split, and some neuron feeds nothing that it alone feeds."""
    group = prober.layout[name]
    plain = all(view.index is None and view.parsed.neurons == 1 for view in group.incoming)
    if group.stacks or not plain or any(len(axis) != 1 for view in group.incoming for axis in view.parsed.axes):
        return False
    params = {view.param for view in group.incoming + group.unscored}
    readers = [readers for (param, _), readers in known.readers.items() if param not in params]
    return len({neuron for reader in readers for neuron in reader.feeds(name).values()}) < prober.neurons[name]


def _prove_coarser(prober: Prober, known: Known, group: NeuronGroup, coarse: list[int]) -> list[ParamView]:
    """Return what the neurons of a coarser group feed, if that can be proved."""
    links = _coarse_links(prober, group.name, coarse, known.readers)
    if not links or not is_unambiguous(prober, links, known):
        return []
    direct = drop_indirect(prober, links, known.evidence)
    outgoing = [link_view(prober, link, max(coarse) + 1, 0) for link in direct]
    trial = prober.with_layout(Layout([group if old.name == group.name else old for old in prober.layout.values()]))
    return outgoing if group.name in prove(trial, {group.name: [group.name]}, {group.name: outgoing}) else []


def _coarser(group: NeuronGroup, count: int) -> Iterator[tuple[NeuronGroup, list[int]]]:
    """Yield ways to see a group's neurons as fewer, with the coarse neuron that each fine one belongs to.

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
