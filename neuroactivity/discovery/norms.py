"""Status ``through_norm``: normalisations alone read the group, whose neurons take part in their statistics.

For example ``fc1`` in ``fc2(relu(norm(fc1(x))))`` with a LayerNorm. A reset of its neurons sets to zero the
entries that the normalisation's neurons feed. With a BatchNorm, which mixes no neurons, it can be proved that they feed
nothing else, so the group is ``exclusive``.
"""

from collections.abc import Sequence

from neuroactivity.discovery.claims import Claim, Claims, Known, name_some
from neuroactivity.discovery.direct import claim_proved
from neuroactivity.discovery.links import drop_indirect, drop_unsettled, interpret, outgoing_views
from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.probes import probe_zero_mean
from neuroactivity.discovery.proof import read_only_by
from neuroactivity.layout import ParamView

_FEWEST = 4  # neurons, of which two are silenced and two made opposite
_DRAWS = 4


def read(prober: Prober, known: Known) -> Claims:
    """Tie each group that is left to the normalisations that read it; nothing is claimed yet."""
    skipped = known.ambiguous.union(prober.scales)
    names = [name for name in known.open() if prober.neurons[name] >= _FEWEST and name not in skipped]
    names = [name for name in names if known.center == 0.0 or prober.layout[name].unscored]
    known.examined = []
    if names and prober.scales:
        axes = probe_zero_mean(prober, {name: [name] for name in names}, known.center)
        for name in names:
            behind = interpret(prober, name, name, axes)
            known.evidence[name].norms = behind.norms
            known.evidence[name].parts |= behind.parts
        known.examined = names
        drop_unsettled(prober, known)
        known.examined = [name for name in names if known.evidence[name].norms]
    return ()


def claim(prober: Prober, known: Known) -> Claims:
    """Claim what normalisations read: exclusive if they mix no neurons (BatchNorm), so that it can be proved."""
    left: list[str] = []
    while left != known.open(known.examined):  # what is proved of one may be what another feeds
        left = known.open(known.examined)
        views = {}
        for name in left:
            if behind := _fed_by_norms(known, name):
                direct = drop_indirect(prober, known.evidence[name].links, known.evidence)
                views[name] = [*outgoing_views(prober, name, direct), *behind]
        yield from claim_proved(prober, views)
    for name in left:
        norms = known.evidence[name].norms
        if not norms or _feeds_more(prober, known, name):
            continue
        if read_only_by(prober, [name], norms) and not _multiplies(prober, name, norms):
            if all(known.status(norm) == "head" for norm in norms):
                yield Claim(prober.layout[name], "head", f"feeds the output through {name_some(norms)}")
            else:
                reason = f"takes part in the statistics of {name_some(norms)}"
                yield Claim(prober.layout[name], "through_norm", reason, _fed_by_norms(known, name))


def _feeds_more(prober: Prober, known: Known, name: str) -> bool:
    """Whether neurons feed weights that their normalisations do not feed, such as a gate that multiplies these."""
    behind = {link.where for norm in known.evidence[name].norms for link in known.evidence[norm].links}
    direct = drop_indirect(prober, known.evidence[name].links, known.evidence)
    return any(link.where not in behind for link in direct)


def _multiplies(prober: Prober, name: str, norms: Sequence[str]) -> bool:
    """Whether neurons are factors of what norms without shifts put out: one scale lets the gradient of one through."""
    lives = []
    for draw in range(_DRAWS if not any(prober.layout[norm].unscored for norm in norms) else 0):
        params = prober.draw(draw)
        for norm in norms:
            prober.silence(params, {norm: frozenset(range(1, prober.neurons[norm]))})
        lives.append(len(prober.live_neurons(params, [name])[name]))
    return bool(lives) and max(lives) < 2


def _fed_by_norms(known: Known, name: str) -> list[ParamView]:
    """Return what a group's normalisations feed, where that is proved and not for the coarser neurons of a fusion."""
    proved = [norm for norm in known.evidence[name].norms if known.status(norm) == "exclusive"]
    claims = [known.claims[norm] for norm in proved if known.claims[norm].group is known.layout[norm]]
    return [view for claim in claims for view in claim.outgoing]
