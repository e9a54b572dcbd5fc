"""Prove that neurons feed what their outgoing views name, and nothing else."""

from collections.abc import Mapping, Sequence

from neuroactivity.arrays import namespace
from neuroactivity.discovery.probes import Prober
from neuroactivity.groups import ParamView

__all__ = ["pass_through", "prove"]

_PROBES = 16


def prove(prober: Prober, units: Mapping[str, Sequence[str]], outgoing: Mapping[str, Sequence[ParamView]]) -> set[str]:
    """Return the groups whose neurons lose all gradients exactly when their outgoing entries are zero.

    A random half of each unit is cut off at a time, in all units at once. A neuron that is cut off must lose its
    gradients in every probe. So that this means anything, each must have a gradient in some draw when nothing is cut,
    and of those that were not cut some must keep theirs.

    Args:
        prober: The model.
        units: Groups that are cut off together, by unit.
        outgoing: What each unit feeds.
    """
    refuted: set[str] = set()
    kept: set[str] = set()
    for probe in range(_PROBES):
        if all(name in refuted for names in units.values() for name in names):
            break
        params = prober.draw(probe)
        cut = {}
        for unit, names in units.items():
            generator = prober.generator("proof", probe, unit)
            count = prober.neurons[names[0]]
            cut[unit] = frozenset(generator.sample(range(count), (count + probe % 2) // 2))
            prober.cut(params, {names[0]: cut[unit]}, {names[0]: outgoing[unit]})
        grads = prober.gradients(params)
        for unit, names in units.items():
            for name in names:
                live = {neuron for neuron, alive in enumerate(prober.live_neurons(grads, name)) if alive}
                if live & cut[unit]:
                    refuted.add(name)
                if live - cut[unit]:
                    kept.add(name)
    return {name for name in kept - refuted if all(prober.ever_live(name))}


def pass_through(prober: Prober, name: str, norms: Sequence[str], outgoing: Sequence[ParamView] = ()) -> bool:
    """Whether a group is read by nothing but the given normalisations and views: without them it has no gradient."""
    params = prober.draw(0)
    for view in [view for norm in norms for view in prober.layout[norm].incoming]:
        params[view.param] = namespace(params[view.param]).zeros_like(params[view.param])
    prober.cut(params, {name: frozenset(range(prober.neurons[name]))}, {name: outgoing})
    return not any(prober.live_neurons(prober.gradients(params), name))
