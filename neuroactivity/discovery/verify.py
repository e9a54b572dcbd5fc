"""Check a layout that somebody wrote against the model's gradients."""

from neuroactivity.arrays import Arrays
from neuroactivity.discovery.claims import Status, name_some
from neuroactivity.discovery.gradients import GradientFunction
from neuroactivity.discovery.prober import SILENCING_BIASES, Prober
from neuroactivity.errors import LayoutError
from neuroactivity.layout import Layout

_PROBES = 8
_NOT_CHECKED: tuple[Status, ...] = ("through_norm", "shared")


def verify_layout(layout: Layout, params: Arrays, grad_fn: GradientFunction, *, seed: int = 0) -> None:
    """Check that the outgoing entries of a layout are the ones that its neurons feed, all of them and no others.

    Two things must hold of every group that has outgoing entries and is not known to be ``through_norm`` or ``shared``.
    When neurons are silenced, the gradients of their outgoing entries vanish; when their outgoing entries are zero, the
    gradients of the neurons vanish.

    Args:
        layout: The neuron groups.
        params: The model's parameters by name, not those of an output layer that is all zero.
        grad_fn: As for :func:`neuroactivity.discover_outgoing`.
        seed: Seed of the choice of neurons.

    Raises:
        LayoutError: If the layout does not fit the parameters, or the gradients contradict it; the message names each
            group, the parameter and the neurons.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> def grad_fn(params):  # the output is sum(a x) @ b for x = 1
        ...     return {"a": np.outer(np.ones(3), params["b"][:, 0]), "b": params["a"].sum(axis=0)[:, None]}
        >>> params = {"a": np.ones((3, 4)), "b": np.ones((4, 1))}
        >>> right = na.dense("a", weight=("a", "in neuron"), outgoing=[("b", "neuron out")])
        >>> na.verify_layout(na.Layout([right]), params, grad_fn)
    """
    prober = Prober(layout, grad_fn, [params], seed=seed)
    wrong = []
    for name, group in layout.items():
        if group.outgoing and group.status not in _NOT_CHECKED:
            wrong += _fed_by_others(prober, name) + _feeds_others(prober, name)
    if wrong:
        raise LayoutError("the gradients contradict the layout: " + "; ".join(wrong))


def _fed_by_others(prober: Prober, name: str) -> list[str]:
    """Say which outgoing entries keep a gradient when their neurons are silenced, by whatever bias does most."""
    outcomes = [_live_while_silent(prober, name, bias) for bias in SILENCING_BIASES]
    least = min(outcomes, key=lambda outcome: sum(map(len, outcome.values())))
    found = "have gradients while their neurons are silent:"
    return [f"group {name!r}: entries of {param!r} {found} {name_some(sorted(least[param]))}" for param in least]


def _live_while_silent(prober: Prober, name: str, bias: float) -> dict[str, set[int]]:
    """Return the neurons whose outgoing entries keep a gradient when they are silenced, by parameter."""
    live: dict[str, set[int]] = {}
    for probe in range(_PROBES):
        chosen = _half(prober, name, probe)
        params = prober.draw(probe)
        prober.silence(params, {name: chosen}, bias)
        outgoing = [entries for entries in prober.bound[name].views if entries[0] == "outgoing"]
        alive = prober.live_entries(params, {name: outgoing})[name]
        for _, view, _ in outgoing:
            live.setdefault(view.param, set()).update(chosen & alive[view.param])
    return {param: neurons for param, neurons in live.items() if neurons}


def _feeds_others(prober: Prober, name: str) -> list[str]:
    """Say which neurons keep a gradient when all that they are said to feed is zero."""
    live: set[int] = set()
    for probe in range(_PROBES):
        chosen = _half(prober, name, probe)
        params = prober.draw(probe)
        prober.cut(params, name, chosen, prober.layout[name].outgoing)
        live |= chosen & prober.live_neurons(params, [name])[name]
    outgoing = ", ".join(repr(view.param) for view in prober.layout[name].outgoing)
    return [f"group {name!r}: neurons feed more than {outgoing}: {name_some(sorted(live))}"] if live else []


def _half(prober: Prober, name: str, probe: int) -> frozenset[int]:
    neurons = range(prober.neurons[name])
    return frozenset(prober.generator("verify", probe, name).sample(neurons, (len(neurons) + 1) // 2))
