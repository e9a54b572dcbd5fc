"""Try a layer that computes several things at once as fewer neurons, each with a row in every part."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from neuroactivity.discovery.decoding import Reading, complete, feeding_view
from neuroactivity.discovery.findings import Finding, Link, directly, is_telling
from neuroactivity.discovery.probes import Axis, Prober
from neuroactivity.discovery.proof import prove
from neuroactivity.layout import Layout
from neuroactivity.layout.groups import NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON

__all__ = ["regroup"]

_CHUNKS = (2, 3, 4)


def regroup(
    prober: Prober, names: Sequence[str], readings: Mapping[Axis, Reading], findings: Mapping[str, Finding]
) -> dict[str, NeuronGroup]:
    """Find for each named group a coarser one whose outgoing entries can be proved.

    Tried are ``(chunk neuron)`` and ``(neuron chunk)``, as in a gated linear unit, and, with three chunks, whole heads,
    ``(chunk neuron dim)`` and ``(neuron chunk dim)``, as in a fused projection to query, key and value, finest first.

    Args:
        prober: The model.
        names: Groups that could not be explained neuron by neuron.
        readings: What was read when they were silenced neuron by neuron.
        findings: What is known of all groups.

    Returns:
        The coarser groups by name, with their outgoing views.
    """
    found: dict[str, NeuronGroup] = {}
    for name in names:
        group = prober.layout[name]
        if group.stacked or any(
            view.index is not None or view.parsed.neurons > 1 or len(view.parsed.names) != len(view.parsed.axes)
            for view in group.incoming
        ):
            continue
        own = {view.param for view in group.incoming + group.unscored}
        others = [reading for (param, _), reading in readings.items() if param not in own]
        feeding = {neuron for reading in others for neuron in reading.feeds(name).values()}
        if len(feeding) == prober.neurons[name]:
            continue  # each neuron feeds something of its own
        for pattern, sizes, owner in _coarser(prober.neurons[name]):
            candidate = _rewrite(group, pattern, sizes)
            links = _links(prober, name, owner, readings)
            if not links or not is_telling(prober, links, findings):
                continue
            direct = directly(prober, links, findings)
            outgoing = [_view(prober, link, max(owner) + 1) for link in direct]
            trial = prober.replace(Layout([g if g.name != name else candidate for g in prober.layout.values()]))
            if name in prove(trial, {name: [name]}, {name: outgoing}):
                found[name] = replace(candidate, outgoing=tuple(outgoing))
                break
    return found


def _coarser(count: int) -> Iterator[tuple[str, dict[str, int], list[int]]]:
    """Yield ways to see neurons as fewer: the axis, its sizes, and which coarse neuron each fine one belongs to."""
    for chunk in _CHUNKS:
        if count % chunk:
            continue
        width = count // chunk
        if width > 1:
            yield f"(chunk {NEURON})", {"chunk": chunk}, [i % width for i in range(count)]
            yield f"({NEURON} chunk)", {"chunk": chunk}, [i // chunk for i in range(count)]
    if count % 3:
        return
    width = count // 3
    for heads in range(width // 2, 1, -1):
        if width % heads == 0:
            dim = width // heads
            yield f"(chunk {NEURON} dim)", {"chunk": 3, NEURON: heads}, [i % width // dim for i in range(count)]
            yield f"({NEURON} chunk dim)", {"chunk": 3, NEURON: heads}, [i // (3 * dim) for i in range(count)]


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


def _links(prober: Prober, name: str, owner: list[int], readings: Mapping[Axis, Reading]) -> list[Link]:
    """Say what the coarse neurons feed; nothing if a position was fed by fine neurons of several coarse ones."""
    links = []
    for (param, axis), reading in readings.items():
        suspects = reading.suspects.get(name, {})
        coarse = {place: {owner[neuron] for neuron in neurons} for place, neurons in suspects.items()}
        if any(len(neurons) > 1 for neurons in coarse.values()):
            return []
        feeds = {place: next(iter(neurons)) for place, neurons in coarse.items()}
        for other, view, _ in prober.owners[param] if feeds else ():
            if other == name or view not in prober.layout[other].incoming or NEURON in view.parsed.axes[axis]:
                continue
            links.append(Link(view, axis, feeds, reading.undecided))
            break
    return links


def _view(prober: Prober, link: Link, neurons: int) -> ParamView:
    """Write a link of coarse neurons down as an outgoing view."""
    size = prober.shapes[link.view.param][link.axis]
    how, feeds = complete(link.feeds, link.undecided, neurons, size)
    return feeding_view(link.view, link.axis, how, feeds, size, stacks=0)
