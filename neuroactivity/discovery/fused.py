"""Status ``exclusive`` for fused projections: a layer that computes several things at once, as fewer, coarser neurons."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from neuroactivity.discovery.ambiguity import is_unambiguous
from neuroactivity.discovery.claims import Claim, Known
from neuroactivity.discovery.decoding import Axis, AxisReaders
from neuroactivity.discovery.links import Link, drop_indirect, link_view
from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.proof import prove
from neuroactivity.layout import Layout
from neuroactivity.layout.groups import NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON

__all__ = ["claim_fused_projections"]

_CHUNKS = (2, 3, 4)
_QKV = 3


def claim_fused_projections(prober: Prober, known: Known) -> Iterator[Claim]:
    """Try groups that are left as coarser ones, each of whose neurons has a row in every part, finest first.

    Tried are ``(chunk neuron)`` and ``(neuron chunk)``, as in a gated linear unit, and, with three chunks, whole heads,
    ``(chunk neuron dim)`` and ``(neuron chunk dim)``, as in a fused projection to query, key and value.
    """
    for name in known.open():
        if name not in known.ambiguous and _can_be_fused(prober, known, name):
            for axis, sizes, coarse in _coarser(prober.neurons[name]):
                group = _rewrite(prober.layout[name], axis, sizes)
                outgoing = _prove_coarser(prober, known, group, coarse)
                if outgoing:
                    rows = group.incoming[0].pattern.partition(")")[0]
                    yield Claim(group, "exclusive", f"proved for {rows}) as one neuron", outgoing)
                    break


def _can_be_fused(prober: Prober, known: Known, name: str) -> bool:
    """Whether the neuron axis can be split, and some neuron feeds nothing that it alone feeds."""
    group = prober.layout[name]
    if group.stacked or any(
        view.index is not None or view.parsed.neurons > 1 or len(view.parsed.names) != len(view.parsed.axes)
        for view in group.incoming
    ):
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


def _coarser(count: int) -> Iterator[tuple[str, dict[str, int], list[int]]]:
    """Yield ways to see neurons as fewer: the axis, its sizes, and which coarse neuron each fine one belongs to."""
    for chunk in _CHUNKS:
        if count % chunk:
            continue
        width = count // chunk
        if width > 1:
            yield f"(chunk {NEURON})", {"chunk": chunk}, [i % width for i in range(count)]
            yield f"({NEURON} chunk)", {"chunk": chunk}, [i // chunk for i in range(count)]
    width = count // _QKV if count % _QKV == 0 else 0
    for heads in range(width // 2, 1, -1):
        if width % heads == 0:
            dim = width // heads
            yield f"(chunk {NEURON} dim)", {"chunk": _QKV, NEURON: heads}, [i % width // dim for i in range(count)]
            yield f"({NEURON} chunk dim)", {"chunk": _QKV, NEURON: heads}, [i // (_QKV * dim) for i in range(count)]


def _rewrite(group: NeuronGroup, axis: str, sizes: dict[str, int]) -> NeuronGroup:
    """Put a composite axis in the place of the neuron axis of a group's own views."""

    def rewrite(view: ParamView) -> ParamView:
        pattern = " ".join(axis if part == NEURON else part for part in view.pattern.split())
        return ParamView(view.param, pattern, {**view.sizes, **sizes})

    incoming, unscored = tuple(map(rewrite, group.incoming)), tuple(map(rewrite, group.unscored))
    coarser = replace(group, incoming=incoming, unscored=unscored)
    if NEURON not in sizes:
        return coarser
    return replace(coarser, neurons=sizes[NEURON], activation=f"... ({NEURON} dim)")


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
