"""Status ``head``: the group feeds the output, so it is not resettable.

Of a layer without biases that is said last, if nothing was found that reads it. A group that only normalisations read
which are heads is one as well; :mod:`.norms` says so, which finds them.
"""

from neuroactivity.arrays import Array, namespace
from neuroactivity.discovery.claims import Claim, Claims, Known
from neuroactivity.discovery.prober import ROUNDING, Prober

_PROBES = 4
_FACTORS = (-1.75, -1000.0)  # by which weights are multiplied: no activation function is linear over such a range
_HALVES = 6  # random halves of a layer, each of which moves other outputs than the rest


def claim(prober: Prober, known: Known) -> Claims:
    """Claim what keeps a gradient with all weights at zero, those of no group too: its biases feed the output."""
    weights = {view.param for group in prober.layout.values() for view in group.incoming}
    weights |= {name for name, shape in prober.shapes.items() if len(shape) > 1 and name not in prober.owners}
    for probe in range(_PROBES):
        params = prober.draw(probe)
        prober.zero(params, sorted(weights))
        for name, live in prober.live_neurons(params, known.open()).items():
            if live:
                yield Claim(prober.layout[name], "head", "feeds the output")


def claim_unbiased(prober: Prober, known: Known) -> Claims:
    """Claim what has no biases and nothing reads, if outputs are linear in it and each neuron has outputs of its own.

    A layer that is read is not linear, or its reader falls silent with it, or mixes its neurons.
    """
    for name in known.open():
        evidence, group = known.evidence[name], prober.layout[name]
        read = evidence.links or evidence.one_to_one or evidence.parts or evidence.gates or not evidence.complete
        if read or group.unscored or name in known.ambiguous or any(view.index for view in group.incoming):
            continue
        if prober.neurons[name] > 1 and _is_linear(prober, name) and _has_outputs_of_its_own(prober, name):
            yield Claim(group, "head", "feeds the output: each neuron has outputs of its own, linear in its weights")


def _is_linear(prober: Prober, name: str) -> bool:
    """Whether a group's gradients do not depend on its weights."""
    everything, params = frozenset(range(prober.neurons[name])), [v.param for v in prober.layout[name].incoming]
    before = prober.gradients(prober.draw(0), params)
    for factor in _FACTORS:
        changed = prober.draw(0)
        prober.change(changed, {name: everything}, factor)
        after = prober.gradients(changed, params)
        for old, new in [(before.get(param), after.get(param)) for param in params]:
            if old is None or new is None:
                return False
            xp = namespace(old)
            largest = xp.max(xp.abs(old))
            if not bool((largest > 0) & (xp.max(xp.abs(new - old)) <= ROUNDING * largest)):
                return False
    return True


def _has_outputs_of_its_own(prober: Prober, name: str) -> bool:
    """Whether no output depends on two neurons of a group, as far as random halves of them tell."""
    if prober.outputs is None:
        return False
    neurons = prober.neurons[name]
    before = prober.outputs(prober.draw(0))
    for probe in range(_HALVES):
        half = frozenset(prober.generator("head", probe, name).sample(range(neurons), neurons // 2))
        moved = []
        for chosen in (half, frozenset(range(neurons)) - half):
            params = prober.draw(0)
            prober.change(params, {name: chosen})
            moved.append([_moved(old, new) for old, new in zip(before, prober.outputs(params), strict=True)])
        apart = all(a.shape == b.shape and not bool(namespace(a).any(a & b)) for a, b in zip(*moved, strict=True))
        if not apart or not all(any(bool(namespace(m).any(m)) for m in part) for part in moved):
            return False
    return True


def _moved(old: Array, new: Array) -> Array:
    """Return which entries of an output differ by more than rounding."""
    xp = namespace(old)
    if old.shape != new.shape:
        return xp.ones_like(old, dtype=xp.bool)
    if not xp.isdtype(old.dtype, "real floating"):
        return old != new
    return xp.abs(new - old) > ROUNDING * xp.abs(old)
