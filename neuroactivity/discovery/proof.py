"""Prove that neurons feed what their outgoing views name, and nothing else."""

from collections.abc import Mapping, Sequence

from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.probes import Units
from neuroactivity.layout import ParamView

_PROBES = 16


def prove(prober: Prober, units: Units, outgoing: Mapping[str, Sequence[ParamView]]) -> set[str]:
    """Return the groups whose neurons lose all gradients exactly when their outgoing entries are zero.

    A random half of each unit is cut off at a time, in all units at once. A neuron that is cut off must lose its
    gradients in every probe, and of those that are not cut off some must keep theirs. So that this means anything, each
    neuron must have been seen to lose a gradient: one that it has in that draw when nothing is cut, in a probe that
    left others of its group alive. Neurons that were not are cut off once more, unit by unit.

    Args:
        prober: The model.
        units: Groups that are cut off together, by unit.
        outgoing: What each unit feeds.
    """
    trial = _Trial(prober, units, outgoing)
    for probe in prober.in_order(_PROBES):
        if trial.open:
            trial.cut_off(probe, {unit: _half(prober, unit, members[0], probe) for unit, members in units.items()})
    for unit, members in units.items():
        for draw in range(len(prober.live_by_draw(members[0]))):
            rest = trial.untested(unit, draw)
            for part in (rest[::2], rest[1::2]):
                if part:
                    trial.cut_off(draw, {unit: frozenset(part)}, alone=True)
    return {name for name in trial.open & trial.kept if len(trial.tested[name]) == prober.neurons[name]}


class _Trial:
    """What has come out so far: which groups are not refuted, and which of their neurons have been tested."""

    def __init__(self, prober: Prober, units: Units, outgoing: Mapping[str, Sequence[ParamView]]) -> None:
        self._prober, self._units, self._outgoing = prober, units, outgoing
        names = [name for members in units.values() for name in members]
        self.open = {name for name in names if len(prober.ever_live(name)) == prober.neurons[name]}
        self.tested: dict[str, set[int]] = {name: set() for name in names}
        self.kept: set[str] = set()

    def cut_off(self, probe: int, cut: Mapping[str, frozenset[int]], *, alone: bool = False) -> None:
        """Cut neurons off, and see which lose their gradients; ``alone`` if it is one unit, which no other disturbs."""
        prober, params = self._prober, self._prober.draw(probe)
        for unit, neurons in cut.items():
            prober.cut(params, self._units[unit][0], neurons, self._outgoing[unit])
        grads = prober.gradients(params)
        for unit, neurons in cut.items():
            for name in self._units[unit]:
                live, by_draw = prober.live_neurons(grads, name), prober.live_by_draw(name)
                if live & neurons:
                    self.open.discard(name)
                if live - neurons:
                    self.kept.add(name)
                if alone or live - neurons:
                    self.tested[name] |= neurons & by_draw[probe % len(by_draw)]

    def untested(self, unit: str, draw: int) -> list[int]:
        """Return the neurons of a unit that have a gradient to lose in a draw and have not been seen to lose one."""
        names = [name for name in self._units[unit] if name in self.open]
        return sorted(set().union(*[self._prober.live_by_draw(name)[draw] - self.tested[name] for name in names]))


def _half(prober: Prober, unit: str, name: str, probe: int) -> frozenset[int]:
    """Choose half of a unit's neurons, rounded down in one probe and up in the next."""
    count = prober.neurons[name]
    return frozenset(prober.generator("proof", probe, unit).sample(range(count), (count + probe % 2) // 2))


def is_read_only_by(prober: Prober, name: str, norms: Sequence[str], outgoing: Sequence[ParamView] = ()) -> bool:
    """Whether a group has no gradient without these normalisations and views, so that nothing else reads it."""
    params = prober.draw(0)
    prober.zero(params, [view.param for norm in norms for view in prober.layout[norm].incoming])
    prober.cut(params, name, frozenset(range(prober.neurons[name])), outgoing)
    return not prober.live_neurons(prober.gradients(params), name)
