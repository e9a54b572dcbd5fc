"""What the readings of a series of probes mean for a group of neurons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from neuroactivity.discovery.decoding import Feeds, Reading, complete, feeding_view
from neuroactivity.discovery.probes import Axis, Prober, is_vector
from neuroactivity.layout.groups import ParamView
from neuroactivity.layout.patterns import NEURON

__all__ = ["Finding", "Link", "directly", "interpret", "is_telling", "views_of"]

_LEAST_PART = 4  # one neuron in four at least must feed an axis: fewer may be chance


@dataclass(frozen=True)
class Link:
    """Neurons of a group feed positions along an axis of a parameter.

    Attributes:
        view: The parameter in its own group.
        axis: The axis.
        feeds: Which neuron feeds which position.
        undecided: Positions that could not be decided.
        behind: The group whose neurons lie along that axis, if it is read one to one.
    """

    view: ParamView
    axis: int
    feeds: Feeds
    undecided: frozenset[int]
    behind: str = ""


@dataclass
class Finding:
    """What is known of a group so far."""

    links: list[Link] = field(default_factory=list)
    """What its neurons feed."""
    norms: list[str] = field(default_factory=list)
    """The groups of scales that its neurons feed one to one."""
    kills: set[str] = field(default_factory=set)
    """The groups that lose weights and biases alike when its neurons are silent."""
    complete: bool = True
    """Whether everything that was read is written down above, and not too little to tell from chance."""
    outgoing: list[ParamView] = field(default_factory=list)
    """What is settled that its neurons feed."""
    status: str = ""
    reason: str = ""


def interpret(prober: Prober, unit: str, group: str, readings: Mapping[Axis, Reading]) -> Finding:
    """Say what it means that a unit's neurons made positions vanish along axes of parameters.

    Args:
        prober: The model.
        unit: The unit, a group or several that were silenced together.
        group: A group of the unit, to tell its number of neurons.
        readings: What each axis reads.
    """
    found = Finding()
    for (param, axis), reading in readings.items():
        feeds = reading.feeds(unit)
        if _LEAST_PART * len(set(feeds.values())) < prober.neurons[group]:
            found.complete = found.complete and not feeds
            continue
        for owner, view, _ in prober.owners[param] if feeds else ():
            own_axis = NEURON in view.parsed.axes[axis]
            if view not in prober.layout[owner].incoming or (own_axis and owner == group):
                continue
            if not own_axis:
                found.links.append(Link(view, axis, feeds, reading.undecided))
                break  # a parameter of several groups is read once
            if _vanishes_whole(prober, owner, unit, readings):
                if len(set(feeds.values())) == len(feeds) and 2 * len(feeds) >= prober.neurons[owner] > 1:
                    found.kills.add(owner)
            elif not is_vector(view):
                if len(set(feeds.values())) == 1:
                    continue  # the parameter vanishes as a whole, which its other axes say as well
                found.links.append(Link(view, axis, feeds, reading.undecided, behind=owner))
            elif complete(feeds, reading.undecided, prober.neurons[group], prober.shapes[param][axis])[0] == NEURON:
                found.norms.append(owner)
    return found


def _vanishes_whole(prober: Prober, owner: str, unit: str, readings: Mapping[Axis, Reading]) -> bool:
    """Whether a group's weights and biases vanish alike, so that its neurons are multiplied and do not read.

    Without a bias, scales and weights with an axis called ``one`` are taken to read, all others to be multiplied.
    """
    biases = [view for view in prober.layout[owner].unscored if (view.param, 0) in readings]
    if biases:
        return any(readings[bias.param, len(bias.parsed.axes) - 1].feeds(unit) for bias in biases)
    view = prober.layout[owner].incoming[0]
    return not is_vector(view) and "one" not in view.parsed.names


def directly(prober: Prober, links: Sequence[Link], findings: Mapping[str, Finding]) -> list[Link]:
    """Leave out what is fed only by way of a group through which silence goes on, for want of a bias.

    Such a group is read one to one, or reads a single neuron and nothing else, so that it falls silent as a whole.
    """
    left = []
    for link in links:
        feeds = dict(link.feeds)
        for step in [step for step in links if step is not link]:
            for behind, passes in _steps(prober, step):
                for further in findings[behind].links:
                    if (further.view.param, further.axis) == (link.view.param, link.axis):
                        passed = {place: passes.get(neuron) for place, neuron in further.feeds.items()}
                        feeds = {place: neuron for place, neuron in feeds.items() if passed.get(place) != neuron}
        if feeds:
            left.append(replace(link, feeds=feeds))
    return left


def is_telling(prober: Prober, links: Sequence[Link], findings: Mapping[str, Finding]) -> bool:
    """Whether what is fed directly can be told from what lies behind a group through which silence goes on.

    It cannot if not all is known of what such a group feeds, and the neuron that silences it feeds more than it.
    """
    for step in links:
        for behind, passes in _steps(prober, step):
            silencing = set(passes.values())
            others = [link for link in links if link is not step and silencing & set(link.feeds.values())]
            known = (findings[behind].complete and findings[behind].links) or findings[behind].status == "head"
            if not step.behind and not known and others:
                return False
    return True


def _steps(prober: Prober, link: Link) -> list[tuple[str, Feeds]]:
    """Return the groups that fall silent behind a link for want of a bias, with what silences each of their neurons."""
    if link.behind:
        return [(link.behind, link.feeds)]
    whole = len(link.feeds) == prober.shapes[link.view.param][link.axis] and len(set(link.feeds.values())) == 1
    if not whole:
        return []
    source = next(iter(link.feeds.values()))
    groups = [prober.layout[name] for name, _, _ in prober.owners[link.view.param]]
    return [
        (group.name, dict.fromkeys(range(prober.neurons[group.name]), source))
        for group in groups
        if not group.unscored and len(group.incoming) == 1
    ]


def views_of(prober: Prober, group: str, links: Sequence[Link]) -> list[ParamView]:
    """Write links down as outgoing views, after those that the group was listed with."""
    listed = prober.layout[group]
    views = list(listed.outgoing)
    known = {view.param for view in views}
    for link in links:
        if link.view.param in known:
            continue
        size = prober.shapes[link.view.param][link.axis]
        how, feeds = complete(link.feeds, link.undecided, prober.neurons[group], size)
        views.append(feeding_view(link.view, link.axis, how, feeds, size, stacks=listed.stacks))
    return views
