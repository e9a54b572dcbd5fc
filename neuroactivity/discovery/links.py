"""What the decoded axes mean for a group: the parameters that read its neurons, the normalisations, the gates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from neuroactivity.discovery.decoding import Axis, AxisReaders, Feeds, feeding_view, fill_regular
from neuroactivity.discovery.prober import Prober, is_vector
from neuroactivity.layout.groups import ParamView
from neuroactivity.layout.patterns import NEURON

__all__ = ["Evidence", "Link", "bias_free_hops", "drop_indirect", "interpret", "link_view", "outgoing_views"]

_LEAST_PART = 4  # one neuron in four at least must feed an axis: fewer may be chance


@dataclass(frozen=True)
class Link:
    """Neurons of a group feed positions along an axis of a parameter.

    Attributes:
        view: The parameter in the group that it belongs to.
        axis: The axis.
        feeds: Which neuron feeds which position.
        undecided: Positions that could not be decided.
        one_to_one_with: The group whose neurons lie along that axis, as in a depthwise convolution; else empty.
    """

    view: ParamView
    axis: int
    feeds: Feeds
    undecided: frozenset[int]
    one_to_one_with: str = ""

    @property
    def where(self) -> Axis:
        """The parameter's name and the axis."""
        return self.view.param, self.axis


@dataclass
class Evidence:
    """What the probes say of a group.

    Attributes:
        links: What its neurons feed.
        norms: The groups of scales that its neurons feed one to one.
        gates: The groups that lose weights and biases alike when its neurons are silent.
        complete: Whether everything that was read is written down above, and not too little to tell from chance.
    """

    links: list[Link] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    gates: set[str] = field(default_factory=set)
    complete: bool = True

    @property
    def one_to_one(self) -> list[str]:
        """The groups that its neurons feed one to one."""
        return [*self.norms, *[link.one_to_one_with for link in self.links if link.one_to_one_with]]


def interpret(prober: Prober, unit: str, group: str, axes: Mapping[Axis, AxisReaders]) -> Evidence:
    """Say what it means that a unit's neurons made positions vanish along axes of parameters.

    Args:
        prober: The model.
        unit: The unit, a group or several that were silenced together.
        group: A group of the unit, to tell its number of neurons.
        axes: What each axis reads.
    """
    evidence = Evidence()
    for (param, axis), readers in axes.items():
        feeds = readers.feeds(unit)
        fed_by = len(set(feeds.values()))
        if _LEAST_PART * fed_by < prober.neurons[group]:
            evidence.complete = evidence.complete and not feeds
            continue
        for owner, view in prober.owners[param]:
            link = Link(view, axis, feeds, readers.undecided)
            if NEURON not in view.parsed.axes[axis]:
                evidence.links.append(link)
                break  # a parameter of several groups is read once
            if owner == group:
                continue
            if _vanishes_whole(prober, owner, unit, axes):
                if fed_by == len(feeds) and 2 * len(feeds) >= prober.neurons[owner] > 1:
                    evidence.gates.add(owner)
            elif is_vector(view):
                if (
                    fill_regular(feeds, readers.undecided, prober.neurons[group], prober.shapes[param][axis])[0]
                    == NEURON
                ):
                    evidence.norms.append(owner)
            elif fed_by > 1:  # else the parameter vanishes as a whole, which its other axes say as well
                evidence.links.append(replace(link, one_to_one_with=owner))
    return evidence


def _vanishes_whole(prober: Prober, owner: str, unit: str, axes: Mapping[Axis, AxisReaders]) -> bool:
    """Whether a group's weights and biases vanish alike, so that its neurons are multiplied and do not read.

    Without a bias, scales and weights with an axis called ``one`` are taken to read, all others to be multiplied.
    """
    biases = [view for view in prober.layout[owner].unscored if (view.param, 0) in axes]
    if biases:
        return any(axes[bias.param, len(bias.parsed.axes) - 1].feeds(unit) for bias in biases)
    view = prober.layout[owner].incoming[0]
    return not is_vector(view) and "one" not in view.parsed.names


def drop_indirect(prober: Prober, links: Sequence[Link], evidence: Mapping[str, Evidence]) -> list[Link]:
    """Leave out what is fed only by way of a group that falls silent with the neurons, for want of a bias."""
    direct = []
    for link in links:
        feeds = dict(link.feeds)
        for step in [step for step in links if step is not link]:
            for further, silencers in _behind(prober, step, evidence):
                if further.where == link.where:
                    indirect = {position: silencers.get(neuron) for position, neuron in further.feeds.items()}
                    feeds = {position: neuron for position, neuron in feeds.items() if indirect.get(position) != neuron}
        if feeds:
            direct.append(replace(link, feeds=feeds))
    return direct


def _behind(prober: Prober, step: Link, evidence: Mapping[str, Evidence]) -> Iterator[tuple[Link, Feeds]]:
    """Yield the links of the groups that fall silent behind a link, with what silences each of their neurons."""
    for group, silencers in bias_free_hops(prober, step):
        for further in evidence[group].links:
            yield further, silencers


def bias_free_hops(prober: Prober, link: Link) -> list[tuple[str, Feeds]]:
    """Return the groups that fall silent behind a link for want of a bias, with what silences each of their neurons.

    Such a group is read one to one, or reads a single neuron and nothing else, so that it falls silent as a whole.
    """
    if link.one_to_one_with:
        return [(link.one_to_one_with, link.feeds)]
    silencers = set(link.feeds.values())
    if len(link.feeds) < prober.shapes[link.view.param][link.axis] or len(silencers) > 1:
        return []
    (silencer,) = silencers
    groups = [prober.layout[name] for name, _ in prober.owners[link.view.param]]
    return [
        (group.name, dict.fromkeys(range(prober.neurons[group.name]), silencer))
        for group in groups
        if not group.unscored and len(group.incoming) == 1
    ]


def outgoing_views(prober: Prober, group: str, links: Sequence[Link]) -> list[ParamView]:
    """Write links down as outgoing views, after those that the group was listed with."""
    listed = prober.layout[group]
    known = {view.param for view in listed.outgoing}
    views = [
        link_view(prober, link, prober.neurons[group], listed.stacks) for link in links if link.view.param not in known
    ]
    return [*listed.outgoing, *views]


def link_view(prober: Prober, link: Link, neurons: int, stacks: int) -> ParamView:
    """Write down what a number of neurons feed as an outgoing view."""
    size = prober.shapes[link.view.param][link.axis]
    order, feeds = fill_regular(link.feeds, link.undecided, neurons, size)
    return feeding_view(link.view, link.axis, order, feeds, size, stacks=stacks)
