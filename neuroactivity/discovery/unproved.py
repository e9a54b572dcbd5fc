"""Status ``unproved``: nothing could be claimed. No outgoing entry is guessed, and the group is not resettable.

For example a layer without a bias in front of a sigmoid, which no value of its weights silences.
"""

from operator import gt

from neuroactivity.arrays import is_finite, namespace
from neuroactivity.discovery.claims import Claim, Claims, Evidence, Known, name_some
from neuroactivity.discovery.links import outgoing_views
from neuroactivity.discovery.prober import ROUNDING, Prober, is_vector
from neuroactivity.discovery.proof import feeding_other_copies, read_only_by
from neuroactivity.layout.patterns import NEURON

NO_GRADIENT = "no gradient reaches it"
_HIDDEN = "reaches the output on a path without gradient"


def claim(prober: Prober, known: Known) -> Claims:
    """Say of each group that is left why, and withdraw claims that a view cannot express."""
    for name in known.open():
        yield Claim(prober.layout[name], "unproved", _reason(prober, known, name))
    for group, _, _, outgoing in list(known.claims.values()):
        if any(view.parsed.stacks != group.stacks for view in outgoing):
            yield Claim(group, "unproved", "what it feeds reads several of its copies at once")
    copied = [claim for claim in known.claims.values() if claim.status == "exclusive" and claim.group.stacks]
    for name in sorted(feeding_other_copies(prober, copied)):
        yield Claim(prober.layout[name], "unproved", "its copies feed one another")


def _reason(prober: Prober, known: Known, name: str) -> str:
    """Say why nothing could be claimed of a group."""
    live, evidence = prober.ever_live(name), known.evidence[name]
    if not live:
        return NO_GRADIENT
    if name in prober.without_gradient:
        return _HIDDEN
    if name in prober.never_again:
        return "what it feeds has no gradient where it is zero, so neurons that are reset would never learn again"
    if readers := _readers_in_no_group(prober, name):
        return f"read, directly or not, by what is in no group: {name_some(readers)}"
    if name in known.ambiguous:
        return "without biases what reads it cannot be told"
    if len(live) < prober.neurons[name]:
        return f"no gradient reaches {prober.neurons[name] - len(live)} of its neurons"
    found = evidence.links or evidence.norms or evidence.parts
    if found and _is_all(prober, evidence, name):
        return _what_mixes(evidence)
    if name in prober.without_gradient:
        return _HIDDEN
    if prober.neurons[name] == 1:
        return "a single neuron: without it all is silent, what reads it and what lies behind"
    if _is_shifted_in_vain(prober, name):
        return "cannot be silenced: a normalisation or softmax undoes what is added to all of its neurons alike"
    if name in prober.not_finite or _is_spoiled_without(prober, name):
        return "its gradients are not finite while neurons are silent"
    if found:
        return "feeds more than what was found"
    without_bias = "; it has no bias to silence it" if not prober.layout[name].unscored else ""
    return f"nothing was found that reads it{without_bias}"


def _is_all(prober: Prober, evidence: Evidence, name: str) -> bool:
    """Whether a group as a whole is read by nothing but what was found."""
    norms = [*evidence.norms, *evidence.parts]
    return name in read_only_by(prober, [name], norms, outgoing_views(prober, name, evidence.links))


def _what_mixes(evidence: Evidence) -> str:
    """Say why a group is not proved neuron by neuron, if it is proved as a whole."""
    norms = name_some([*evidence.norms, *evidence.parts])
    weights = name_some(dict.fromkeys([link.view.param for link in evidence.links]))
    if not norms:
        return f"its neurons are mixed before they reach {weights}, as by a normalisation without parameters"
    return f"takes part in the statistics of {norms}, and " + (f"feeds {weights} too" if weights else "others do too")


def _is_shifted_in_vain(prober: Prober, name: str) -> bool:
    """Whether the gradients of a group's biases, or of its weights, add up to zero over its neurons."""
    group = prober.layout[name]
    view = (*group.unscored, *group.incoming)[0]
    gradient = prober.gradients(prober.draw(0), [view.param])[view.param]
    axes = [axis for axis, names in enumerate(view.parsed.axes) if names == (NEURON,)]
    if gradient is None or view.index is not None or is_vector(group.incoming[0]) or len(axes) != 1:
        return False
    xp = namespace(gradient)
    largest = xp.max(xp.abs(gradient))
    return bool((largest > 0) & (xp.max(xp.abs(xp.sum(gradient, axis=axes[0]))) <= ROUNDING * largest))


def _readers_in_no_group(prober: Prober, name: str) -> list[str]:
    """Return the parameters of no group that lose gradients while all neurons of a group are silent.

    What lies in front of the group loses them as well, but also while its weights alone are zero, and not its biases.
    """
    if not prober.bare:
        return []
    before = constant = prober.live_axes(prober.draw(0), prober.bare)
    params = prober.draw(0)
    prober.silence(params, {name: frozenset(range(prober.neurons[name]))})
    silent, grads = prober.live_axes(params, prober.bare), prober.gradients(params, prober.bare)
    if prober.layout[name].unscored:
        params = prober.draw(0)
        prober.zero(params, [view.param for view in prober.layout[name].incoming])
        constant = prober.live_axes(params, prober.bare)
    lost = [where[0] for where, live in before.items() if any(map(gt, live, silent[where])) and any(constant[where])]
    return [param for param in dict.fromkeys(lost) if grads.get(param) is None or is_finite(grads[param])]


def _is_spoiled_without(prober: Prober, name: str) -> bool:
    """Whether a group's gradients are not finite while all of its neurons are silent."""
    params, spoiled = prober.draw(0), set[str]()
    prober.silence(params, {name: frozenset(range(prober.neurons[name]))})
    prober.live_neurons(params, [name], spoiled=spoiled)
    return name in spoiled
