"""Status ``unproved``: nothing could be claimed. No outgoing entry is guessed, and the group is not resettable.

For example a layer without a bias in front of a sigmoid, which no value of its weights silences.
"""

from collections.abc import Callable
from functools import cache

from neuroactivity.arrays import namespace
from neuroactivity.discovery.claims import Claim, Claims, Known, name_some
from neuroactivity.discovery.prober import Prober

NO_GRADIENT = "no gradient reaches it"

_PROBES = 8


def claim(prober: Prober, known: Known) -> Claims:
    """Say of each group that is left why, and withdraw claims that a view cannot express."""
    not_finite = cache(lambda: _not_finite(prober))
    for name in known.open():
        yield Claim(prober.layout[name], "unproved", _reason(prober, known, name, not_finite))
    for group, _, _, outgoing in list(known.claims.values()):
        if any(view.parsed.stacks != group.stacks for view in outgoing):
            yield Claim(group, "unproved", "what it feeds reads several of its copies at once")


def _reason(prober: Prober, known: Known, name: str, not_finite: Callable[[], set[str]]) -> str:
    """Say why nothing could be claimed of a group."""
    if not prober.ever_live(name):
        return NO_GRADIENT
    if name in prober.without_gradient:
        return "reaches the output on a path without gradient"
    if readers := _readers_in_no_group(prober, name):
        return f"read, directly or not, by what is in no group: {name_some(readers)}"
    if name in known.ambiguous:
        return "without biases what reads it cannot be told"
    if known.evidence[name].links:
        return "feeds more than what was found"
    if name in not_finite():
        return "its gradients are not finite while neurons are silent"
    without_bias = "; it has no bias to silence it" if not prober.layout[name].unscored else ""
    return f"nothing was found that reads it{without_bias}"


def _readers_in_no_group(prober: Prober, name: str) -> list[str]:
    """Return the parameters of no group that lose gradients while all neurons of a group are silent."""
    params = prober.draw(0)
    before = prober.live_axes(prober.gradients(params), prober.bare) if prober.bare else {}
    prober.silence(params, {name: frozenset(range(prober.neurons[name]))})
    after = prober.live_axes(prober.gradients(params), [param for param, _ in before])
    return list(dict.fromkeys(param for (param, axis), live in before.items() if live != after[param, axis]))


def _not_finite(prober: Prober) -> set[str]:
    """Return the groups whose gradients are not finite in some probe that silences a quarter of all neurons."""
    found: set[str] = set()
    for probe in prober.in_order(_PROBES):
        params, generator = prober.draw(probe), prober.generator("finite", probe)
        for group, count in prober.neurons.items():
            prober.silence(params, {group: frozenset(generator.sample(range(count), count // 4))})
        grads = prober.gradients(params)
        for group, made_by in prober.made_by.items():
            values = [value for _, view, _ in made_by if (value := grads.get(view.param)) is not None]
            if not all(bool(namespace(value).all(namespace(value).isfinite(value))) for value in values):
                found.add(group)
    return found
