"""Status ``partner``: the neurons multiply those of another group and feed nothing else.

For example the query and the key of attention. A group that is gated and then read, as in ``fc2(fc1(x) * gate(x))``,
is ``exclusive``; its partners are recorded beside.
"""

from neuroactivity.discovery.claims import Claim, Claims, Known, name_some
from neuroactivity.discovery.prober import Prober


def claim(prober: Prober, known: Known) -> Claims:
    """Claim groups that are multiplied with others and that no parameter reads."""
    for name in known.open(known.examined):
        partners = sorted(known.partners(name))
        if partners and not known.evidence[name].links:
            yield Claim(prober.layout[name], "partner", f"multiplies {name_some(partners)}")
