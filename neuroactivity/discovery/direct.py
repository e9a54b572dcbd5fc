"""Status ``exclusive``: it is proved that the group's neurons feed the outgoing entries and nothing else.

For example ``fc1`` in ``fc2(relu(fc1(x)))``, which feeds the columns of ``fc2``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from neuroactivity.discovery import links
from neuroactivity.discovery.claims import Claim, Claims, Known
from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.probes import probe_independent
from neuroactivity.discovery.proof import never_learning_again, prove
from neuroactivity.layout import ParamView


def read(prober: Prober, known: Known) -> Claims:
    """Silence neurons of every group independently, and read off what each feeds; nothing is claimed yet."""
    known.examined = [name for name in known.open() if known.bias == 0.0 or prober.layout[name].unscored]
    if known.examined:
        known.readers = probe_independent(prober, {name: [name] for name in known.examined}, known.bias)
    for name in known.examined:
        evidence = links.interpret(prober, name, name, known.readers)
        if evidence.links or evidence.norms or evidence.gates:
            read = links.drop_chance(prober, name, evidence.links, known.bias)
            known.evidence[name] = replace(evidence, links=read, parts={**known.evidence[name].parts, **evidence.parts})
    links.drop_mutual_links(prober, known)
    links.drop_distant_norms(prober, known)
    links.drop_unsettled(prober, known)
    return ()


def claim(prober: Prober, known: Known) -> Claims:
    """Prove what was read.

    At first without what may be fed only by way of a group that falls silent with the neurons, for want of a bias, then
    with it. What cannot be proved stays open.
    """
    links.drop_ambiguous_links(prober, known)
    read_by = {name: known.evidence[name].links for name in known.examined if known.evidence[name].links}
    direct = {name: links.drop_indirect(prober, read_by[name], known.evidence) for name in read_by}
    narrow = {name: links.outgoing_views(prober, name, direct[name]) for name in direct if direct[name]}
    yield from claim_proved(prober, narrow)
    rest = [name for name in known.open(read_by) if read_by[name] != direct[name]]
    yield from claim_proved(prober, {name: links.outgoing_views(prober, name, read_by[name]) for name in rest})


def claim_proved(prober: Prober, outgoing: Mapping[str, Sequence[ParamView]]) -> Claims:
    """Claim the groups that feed these views and nothing else, where that can be proved."""
    proved = sorted(prove(prober, {name: [name] for name in outgoing}, outgoing))
    prober.never_again |= never_learning_again(prober, proved, outgoing)
    for name in [name for name in proved if name not in prober.never_again]:
        yield Claim(prober.layout[name], "exclusive", "proved: feeds nothing else", outgoing[name])
