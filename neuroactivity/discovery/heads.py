"""Status ``head``: the group feeds the output. It is not resettable."""

from collections.abc import Iterator, Sequence

from neuroactivity.discovery.claims import Claim, Known, name_some
from neuroactivity.discovery.prober import Prober

__all__ = ["claim_heads", "head_behind_norms"]

_PROBES = 4


def claim_heads(prober: Prober, known: Known) -> Iterator[Claim]:
    """With all weights zero, those of no group too, only what feeds the output still has a gradient."""
    weights = {view.param for group in prober.layout.values() for view in group.incoming}
    weights |= {name for name, shape in prober.shapes.items() if len(shape) > 1 and name not in prober.owners}
    for probe in range(_PROBES):
        params = prober.draw(probe)
        prober.zero(params, sorted(weights))
        grads = prober.gradients(params)
        for name in known.open():
            if any(prober.live_neurons(grads, name)):
                yield Claim(prober.layout[name], "head", "feeds the output")


def head_behind_norms(prober: Prober, name: str, norms: Sequence[str]) -> Claim:
    """Claim a group that only normalisations read which are heads themselves."""
    return Claim(prober.layout[name], "head", f"feeds the output through {name_some(norms)}")
