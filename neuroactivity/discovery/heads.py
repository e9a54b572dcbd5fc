"""Status ``head``: the group feeds the output, so it is not resettable.

A group that only normalisations read which are heads is one as well; :mod:`.norms` says so, which finds them.
"""

from collections.abc import Sequence

from neuroactivity.discovery.claims import Claim, Claims, Known
from neuroactivity.discovery.prober import Grads, Prober

_PROBES = 4


def claim(prober: Prober, known: Known) -> Claims:
    """Claim what keeps a gradient with all weights at zero, those of no group too: its biases feed the output."""
    weights = {view.param for group in prober.layout.values() for view in group.incoming}
    weights |= {name for name, shape in prober.shapes.items() if len(shape) > 1 and name not in prober.owners}
    for probe in range(_PROBES):
        params = prober.draw(probe)
        prober.zero(params, sorted(weights))
        for name in _live(prober, prober.gradients(params), known.open()):
            yield Claim(prober.layout[name], "head", "feeds the output")


def _live(prober: Prober, grads: Grads, names: Sequence[str]) -> list[str]:
    return [name for name in names if prober.live_neurons(grads, name)]
