"""Status ``through_norm``: normalisations alone read the group, whose neurons take part in their statistics."""

from neuroactivity.discovery.claims import Claim, Claims, Known, name_some
from neuroactivity.discovery.direct import claim_proved
from neuroactivity.discovery.links import drop_indirect, interpret, outgoing_views
from neuroactivity.discovery.prober import Prober, probe_zero_mean
from neuroactivity.discovery.proof import is_read_only_by

_FEWEST = 4  # neurons, of which two are silenced and two made opposite


def read(prober: Prober, known: Known) -> Claims:
    """Tie each group that is left to the normalisations that read it; nothing is claimed yet."""
    skipped = known.ambiguous.union(prober.scales)
    names = [name for name in known.open() if prober.neurons[name] >= _FEWEST and name not in skipped]
    known.examined = []
    if names and prober.scales:
        axes = probe_zero_mean(prober, {name: [name] for name in names})
        for name in names:
            known.evidence[name].norms = interpret(prober, name, name, axes).norms
        known.examined = [name for name in names if known.evidence[name].norms]
    return ()


def claim(prober: Prober, known: Known) -> Claims:
    """Claim what normalisations read: exclusive if they mix no neurons (BatchNorm), so that it can be proved."""
    norms = {name: known.evidence[name].norms for name in known.open(known.examined)}
    proved = {name: [norm for norm in norms[name] if known.status(norm) == "exclusive"] for name in norms}
    behind = {name: [view for norm in proved[name] for view in known.claims[norm].outgoing] for name in norms}
    direct = {n: drop_indirect(prober, known.evidence[n].links, known.evidence) for n in norms if behind[n]}
    views = {name: [*outgoing_views(prober, name, direct[name]), *behind[name]] for name in direct}
    yield from claim_proved(prober, views)
    for name in known.open(norms):
        if norms[name] and is_read_only_by(prober, name, norms[name]):
            if all(known.status(norm) == "head" for norm in norms[name]):
                reason = f"feeds the output through {name_some(norms[name])}"
                yield Claim(prober.layout[name], "head", reason)
            else:
                reason = f"takes part in the statistics of {name_some(norms[name])}"
                yield Claim(prober.layout[name], "through_norm", reason, behind[name])
