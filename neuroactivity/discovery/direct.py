"""Status ``exclusive``: it is proved that the group's neurons feed the outgoing entries and nothing else."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from neuroactivity.discovery.ambiguity import drop_distant_norms, drop_mutual_links, drop_uncertain_links
from neuroactivity.discovery.claims import Claim, Known
from neuroactivity.discovery.links import drop_indirect, interpret, outgoing_views
from neuroactivity.discovery.prober import Prober, probe_independent
from neuroactivity.discovery.proof import prove
from neuroactivity.layout.groups import ParamView

__all__ = ["claim_exclusive", "claim_proved", "read_independent"]


def read_independent(prober: Prober, known: Known) -> Iterable[Claim]:
    """Silence neurons of every group independently, and read off what each feeds; nothing is claimed yet."""
    names = [name for name in known.open() if known.bias == 0.0 or prober.layout[name].unscored]
    known.examined = names
    if names:
        known.readers = probe_independent(prober, {name: [name] for name in names}, known.bias)
    for name in names:
        evidence = interpret(prober, name, name, known.readers)
        if evidence.links or evidence.norms or evidence.gates:
            known.evidence[name] = evidence
    drop_mutual_links(prober, known, names)
    drop_distant_norms(prober, known, names)
    return ()


def claim_exclusive(prober: Prober, known: Known) -> Iterator[Claim]:
    """Prove what was read: first of the entries that are fed directly, then of all of them."""
    drop_uncertain_links(prober, known, known.examined)
    links = {name: known.evidence[name].links for name in known.examined if known.evidence[name].links}
    direct = {name: drop_indirect(prober, links[name], known.evidence) for name in links}
    yield from claim_proved(
        prober, {name: outgoing_views(prober, name, direct[name]) for name in direct if direct[name]}
    )
    rest = [name for name in known.open(links) if direct[name] != links[name]]
    yield from claim_proved(prober, {name: outgoing_views(prober, name, links[name]) for name in rest})


def claim_proved(prober: Prober, outgoing: Mapping[str, Sequence[ParamView]]) -> Iterator[Claim]:
    """Claim the groups of which it can be proved that they feed these entries and nothing else."""
    for name in sorted(prove(prober, {name: [name] for name in outgoing}, outgoing)):
        yield Claim(prober.layout[name], "exclusive", "proved: feeds nothing else", outgoing[name])
