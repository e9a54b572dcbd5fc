"""What the decoded axes mean: which parameters read a group's neurons, which of them directly, what cannot be told."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from neuroactivity.discovery.claims import Evidence, Known, Link
from neuroactivity.discovery.decoding import Axis, AxisReaders, Feeds, feeding_view, fill_regular
from neuroactivity.discovery.prober import Prober, is_vector, neuron_axis
from neuroactivity.layout import ParamView
from neuroactivity.layout.patterns import NEURON

_LEAST_PART = 4  # one neuron in four at least must feed an axis: fewer may be chance
_DRAWS, _SURE = 8, 8  # in so many draws what may be chance is tried again; so many neurons in a row are no chance


def interpret(prober: Prober, unit: str, group: str, axes: Mapping[Axis, AxisReaders]) -> Evidence:
    """Say what it means that a unit's neurons made positions vanish along axes of parameters.

    Args:
        prober: The model.
        unit: The unit, a group or several that were silenced together.
        group: A group of the unit, to tell its number of neurons.
        axes: What each axis reads.
    """
    evidence, neurons = Evidence(), prober.neurons[group]
    for (param, axis), readers in axes.items():
        feeds = readers.feeds(unit)
        feeding = len(set(feeds.values()))
        if _LEAST_PART * feeding < neurons:
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
                if feeding == len(feeds) and 2 * feeding >= prober.neurons[owner] > 1:
                    evidence.gates.add(owner)
            elif is_vector(view):
                order, filled = fill_regular(feeds, readers.undecided, neurons, prober.size(link.where))
                if order == NEURON:
                    evidence.norms.append(owner)
                elif len(filled) == neurons == len(set(filled.values())):
                    evidence.parts[owner] = filled
            elif feeding > 1:  # else the parameter vanishes as a whole, which its other axes say as well
                evidence.links.append(replace(link, one_to_one_with=owner))
    return evidence


def drop_chance(prober: Prober, name: str, links: Sequence[Link], bias: float) -> list[Link]:
    """Drop positions that have a gradient while the neuron that seemed to feed them is silent, and few others are.

    While a quarter of all neurons is silent, positions behind many of them are seldom live, and one may seem to be fed
    by a neuron by chance. No such chance makes a regular map.

    Args:
        prober: The model.
        name: The group of the neurons.
        links: What they seem to feed.
        bias: The bias that silenced them.
    """
    doubtful = {place: link for place, link in enumerate(links) if _may_be_chance(prober, name, link)}
    for draw in range(_DRAWS) if doubtful else ():
        order = list(range(prober.neurons[name]))
        prober.generator("chance", draw, name).shuffle(order)
        for silent in map(frozenset, (order[::2], order[1::2])):
            params = prober.draw(draw)
            prober.silence(params, {name: silent}, bias)
            live = prober.live_axes(params, {link.view.param for link in doubtful.values()})
            for place, link in doubtful.items():
                alive = live.get(link.where, b"")
                refuted = {p for p, neuron in link.feeds.items() if neuron in silent and alive and alive[p]}
                kept = {p: neuron for p, neuron in link.feeds.items() if p not in refuted}
                doubtful[place] = replace(link, feeds=kept)
    tried = [doubtful.get(place, link) for place, link in enumerate(links)]
    return [link for link in tried if link.feeds]


def _may_be_chance(prober: Prober, name: str, link: Link) -> bool:
    """Whether a map is neither regular over its whole axis nor that of many neurons, each of which feeds a position."""
    fed, neurons = set(link.feeds.values()), prober.neurons[name]
    order, _ = fill_regular(link.feeds, link.undecided, neurons, prober.size(link.where))
    return not order and not (len(fed) == len(link.feeds) == neurons >= _SURE)


def _vanishes_whole(prober: Prober, owner: str, unit: str, axes: Mapping[Axis, AxisReaders]) -> bool:
    """Whether a group's weights and biases vanish alike, so that its neurons are multiplied and do not read.

    Without a bias, scales and weights with an axis called ``one`` are taken to read, all others to be multiplied.
    """
    biases = [neuron_axis(view) for view in prober.layout[owner].unscored]
    if any(bias in axes for bias in biases):
        return any(axes[bias].feeds(unit) for bias in biases if bias in axes)
    view = prober.layout[owner].incoming[0]
    return not is_vector(view) and "one" not in view.parsed.names


def drop_indirect(prober: Prober, links: Sequence[Link], evidence: Mapping[str, Evidence]) -> list[Link]:
    """Leave out what is fed only by way of a group that falls silent with the neurons, for want of a bias.

    If a depthwise convolution without biases reads a group, and a dense layer reads the convolution, then silence makes
    entries of both vanish, but the group feeds the convolution alone.
    """
    direct = []
    for link in links:
        feeds = dict(link.feeds)
        for step in [step for step in links if step is not link]:
            for group, silencers in bias_free_hops(prober, step):
                behind = [further.feeds for further in evidence[group].links if further.where == link.where]
                indirect = {(position, silencers.get(neuron)) for fed in behind for position, neuron in fed.items()}
                feeds = dict(sorted(feeds.items() - indirect))
        if feeds:
            direct.append(replace(link, feeds=feeds))
    return direct


def bias_free_hops(prober: Prober, link: Link) -> list[tuple[str, Feeds]]:
    """Return the groups that fall silent behind a link for want of a bias, with what silences each of their neurons.

    Such a group is read one to one, or reads a single neuron and nothing else that is ever live, so that it falls
    silent as a whole.
    """
    if link.one_to_one_with:
        return [(link.one_to_one_with, link.feeds)]
    silencers = set(link.feeds.values())
    if len(link.feeds) + len(link.undecided) < prober.size(link.where) or len(silencers) > 1:
        return []
    (silencer,) = silencers
    owners = [prober.layout[name] for name, _ in prober.owners[link.view.param]]
    names = [group.name for group in owners if not group.unscored and len(group.incoming) == 1]
    return [(name, dict.fromkeys(range(prober.neurons[name]), silencer)) for name in names]


def is_unambiguous(prober: Prober, links: Sequence[Link], known: Known) -> bool:
    """Whether what is fed directly can be told from what lies behind a group through which silence goes on.

    It cannot if not all is known of what such a group feeds, and the neuron that silences it feeds more than it.
    """
    for step in [link for link in links if not link.one_to_one_with]:
        for group, silencers in bias_free_hops(prober, step):
            silencing, behind = set(silencers.values()), known.evidence[group]
            feeds_more = any(silencing & set(link.feeds.values()) for link in links if link is not step)
            if feeds_more and not (behind.complete and behind.links) and known.status(group) != "head":
                return False
    return True


def drop_ambiguous_links(prober: Prober, known: Known) -> None:
    """Drop the links of groups whose direct readers cannot be told from what lies behind them."""
    for name in known.examined:
        if not is_unambiguous(prober, known.evidence[name].links, known):
            known.evidence[name].links.clear()
            known.ambiguous.add(name)


def drop_mutual_links(prober: Prober, known: Known) -> None:
    """Of two groups that make each other vanish one to one, only a bias tells which one reads the other."""
    links = {name: known.evidence[name].links for name in known.examined}
    mutual = []
    for name, link in [(name, link) for name, of_group in links.items() for link in of_group if link.one_to_one_with]:
        reader = link.one_to_one_with
        if name in known.evidence[reader].one_to_one and not prober.layout[reader].unscored:
            mutual.append((name, link))
    for name, link in mutual:
        links[name].remove(link)
        known.ambiguous.add(name)
    for name, left in links.items():
        fed = {link.one_to_one_with for link in left}
        if any(fed >= {first, link.one_to_one_with} for first, link in mutual):
            left.clear()  # one of the two reads it, and which cannot be told
            known.ambiguous.add(name)


def drop_distant_norms(prober: Prober, known: Known) -> None:
    """Untie scales that are only reached through others, or that one group may read and another multiply."""
    evidence = known.evidence
    distant = {name: _reached_through_others(known, name) for name in known.examined}
    for name in distant:
        evidence[name].norms = [norm for norm in evidence[name].norms if norm not in distant[name]]
    for norm in [scale for scale in prober.scales if not prober.layout[scale].unscored]:
        readers = [name for name in distant if norm in evidence[name].norms]
        for name in readers if len(readers) > 1 else ():
            evidence[name].norms.remove(norm)


def drop_unsettled(prober: Prober, known: Known) -> None:
    """Drop what neurons may feed by way of weights for each of them, too few of which are decided to be a link.

    As behind a depthwise convolution of three channels, of which one is seen to read its neuron.
    """
    views = {name: group.incoming[0] for name, group in known.layout.items()}
    weights = {name: neuron_axis(view) for name, view in views.items() if not is_vector(view)}
    unsettled = {
        name: axis for name, axis in weights.items() if axis in known.readers and known.readers[axis].undecided
    }
    settled = {}
    for name in known.examined:
        may_be = [other for other, axis in unsettled.items() if _may_feed(prober, known.readers, name, other, axis)]
        between = [known.evidence[other] for other in may_be if other != name]
        behind = {norm for other in between for norm in other.norms}
        fed = {(link.where, position) for other in between for link in other.links for position in link.feeds}
        links = [link for link in known.evidence[name].links if not any((link.where, p) in fed for p in link.feeds)]
        norms = [norm for norm in known.evidence[name].norms if norm not in behind]
        settled[name] = replace(known.evidence[name], links=links, norms=norms)
    known.evidence.update(settled)


def _may_feed(prober: Prober, readers: Mapping[Axis, AxisReaders], name: str, other: str, axis: Axis) -> bool:
    """Whether neurons may feed the weights of another group one to one: they do in the few places that are decided."""
    feeds, undecided, size = readers[axis].feeds(name), readers[axis].undecided, prober.size(axis)
    if feeds and fill_regular(feeds, undecided, prober.neurons[name], size)[0]:
        return False  # these are enough to say so
    fed = readers[axis].candidates.get(name, {}).keys()
    return set(range(size)) - undecided <= fed and not _vanishes_whole(prober, other, name, readers)


def _reached_through_others(known: Known, name: str) -> set[str]:
    """Return the groups that are read one to one behind those that a group is read by."""
    reached: set[str] = set()
    waiting = [further for near in known.evidence[name].one_to_one for further in known.evidence[near].one_to_one]
    while waiting:
        group = waiting.pop()
        if group not in reached and group != name:
            reached.add(group)
            waiting += known.evidence[group].one_to_one
    return reached


def outgoing_views(prober: Prober, group: str, links: Sequence[Link]) -> list[ParamView]:
    """Write links down as outgoing views, after those that the group was listed with."""
    listed, neurons = prober.layout[group], prober.neurons[group]
    known = {view.param for view in listed.outgoing}
    views = [link_view(prober, link, neurons, listed.stacks) for link in links if link.view.param not in known]
    return [*listed.outgoing, *views]


def link_view(prober: Prober, link: Link, neurons: int, stacks: int) -> ParamView:
    """Write down what a number of neurons feed as an outgoing view."""
    size = prober.size(link.where)
    order, feeds = fill_regular(link.feeds, link.undecided, neurons, size)
    return feeding_view(link.view, link.axis, order, feeds, size, stacks=stacks)
