"""Status ``partner``: the neurons multiply those of another group and feed nothing else, as queries and keys."""

from collections.abc import Iterator

from neuroactivity.discovery.claims import Claim, Known, name_some
from neuroactivity.discovery.prober import Prober

__all__ = ["claim_partners", "partners_of"]


def claim_partners(prober: Prober, known: Known) -> Iterator[Claim]:
    """Claim groups that gate others and that no parameter reads."""
    for name in known.open(known.examined):
        partners = partners_of(known, name)
        if partners and not known.evidence[name].links:
            yield Claim(prober.layout[name], "partner", f"multiplies {name_some(sorted(partners))}")


def partners_of(known: Known, name: str) -> set[str]:
    """Return the groups that a group multiplies: each loses its weights and biases when the other is silent."""
    return {gated for gated in known.evidence[name].gates if name in known.evidence[gated].gates}
