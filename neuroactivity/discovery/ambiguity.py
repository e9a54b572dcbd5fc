"""What cannot be told without biases: drop evidence that has two readings, so that no claim rests on it."""

from collections.abc import Sequence

from neuroactivity.discovery.claims import Known
from neuroactivity.discovery.links import Link, bias_free_hops
from neuroactivity.discovery.prober import Prober

__all__ = ["drop_distant_norms", "drop_mutual_links", "drop_uncertain_links", "is_unambiguous"]


def drop_mutual_links(prober: Prober, known: Known, names: Sequence[str]) -> None:
    """Of two groups that make each other vanish one to one, only a bias tells which one reads the other."""
    evidence = known.evidence
    mutual = [
        (name, link)
        for name in names
        for link in evidence[name].links
        if link.one_to_one_with
        and not prober.layout[link.one_to_one_with].unscored
        and name in evidence[link.one_to_one_with].one_to_one
    ]
    pairs = [{name, link.one_to_one_with} for name, link in mutual]
    for name, link in mutual:
        evidence[name].links.remove(link)
        known.ambiguous.add(name)
    for name in names:
        fed = {link.one_to_one_with for link in evidence[name].links}
        if any(pair <= fed for pair in pairs):  # one of the two reads it, and which is not to be told
            _drop_links(known, name)


def drop_distant_norms(prober: Prober, known: Known, names: Sequence[str]) -> None:
    """Untie scales that are only reached through others, or that one group may read and another multiply."""
    evidence = known.evidence
    distant = {name: _reached_through_others(known, name) for name in names}
    for name in names:
        evidence[name].norms = [norm for norm in evidence[name].norms if norm not in distant[name]]
    for norm in [scale for scale in prober.scales if not prober.layout[scale].unscored]:
        readers = [name for name in names if norm in evidence[name].norms]
        for name in readers if len(readers) > 1 else ():
            evidence[name].norms.remove(norm)


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


def drop_uncertain_links(prober: Prober, known: Known, names: Sequence[str]) -> None:
    """Drop the links of groups whose direct readers cannot be told from what lies behind them."""
    for name in names:
        if not is_unambiguous(prober, known.evidence[name].links, known):
            _drop_links(known, name)


def is_unambiguous(prober: Prober, links: Sequence[Link], known: Known) -> bool:
    """Whether what is fed directly can be told from what lies behind a group through which silence goes on.

    It cannot if not all is known of what such a group feeds, and the neuron that silences it feeds more than it.
    """
    for step in [link for link in links if not link.one_to_one_with]:
        for group, silencers in bias_free_hops(prober, step):
            silencing = set(silencers.values())
            feeds_more = any(silencing & set(link.feeds.values()) for link in links if link is not step)
            behind = known.evidence[group]
            if feeds_more and not (behind.complete and behind.links) and known.status(group) != "head":
                return False
    return True


def _drop_links(known: Known, name: str) -> None:
    known.evidence[name].links.clear()
    known.ambiguous.add(name)
