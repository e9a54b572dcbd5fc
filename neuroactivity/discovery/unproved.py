"""Status ``unproved``: nothing could be claimed. No outgoing entry is guessed, and the group is not resettable.

For example a layer without a bias in front of a sigmoid, which no value of its weights silences.
"""

from neuroactivity.discovery.claims import Claim, Claims, Known
from neuroactivity.discovery.prober import Prober

NO_GRADIENT = "no gradient reaches it"


def claim(prober: Prober, known: Known) -> Claims:
    """Say of each group that is left why, and withdraw claims that a view cannot express."""
    for name in known.open():
        if not prober.ever_live(name):
            reason = NO_GRADIENT
        elif name in prober.without_gradient:
            reason = "reaches the output on a path without gradient"
        elif name in known.ambiguous:
            reason = "without biases what reads it cannot be told"
        elif known.evidence[name].links:
            reason = "feeds more than what was found"
        else:
            reason = "nothing was found that reads it"
        yield Claim(prober.layout[name], "unproved", reason)
    for group, _, _, outgoing in list(known.claims.values()):
        if any(view.parsed.stacks != group.stacks for view in outgoing):
            yield Claim(group, "unproved", "what it feeds reads several of its copies at once")
