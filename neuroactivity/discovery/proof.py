"""Prove that neurons feed what their outgoing views name, and nothing else: by gradients, and by outputs."""

from collections.abc import Callable, Mapping, Sequence

from neuroactivity.arrays import Array, is_finite, namespace
from neuroactivity.discovery.decoding import Chosen
from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.probes import Units
from neuroactivity.discovery.values import Params
from neuroactivity.layout import ParamView

_PROBES = 16  # of a random half of the neurons; of outputs in each draw once, of which large models have fewer
_FORWARD_PROBES_OF_ALL = 4
_ROUNDING = 32  # units in the last place of the largest output; zero times anything adds nothing at all


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
    proved = {name for name in trial.open & trial.kept if len(trial.tested[name]) == prober.neurons[name]}
    candidates = {unit: [name for name in members if name in proved] for unit, members in units.items()}
    return proved - _without_gradient(prober, {unit: names for unit, names in candidates.items() if names}, outgoing)


def _without_gradient(prober: Prober, units: Units, outgoing: Mapping[str, Sequence[ParamView]]) -> set[str]:
    """Return the groups whose neurons change an output though all that they are said to feed is zero.

    Gradients do not see such a path: a detached target, a choice by ``argmax``, a straight-through estimator.
    """

    def moves(names: Sequence[str]) -> bool:
        some = {unit: units[unit] for unit in names}
        return any(_moves_output(prober, some, outgoing, probe) for probe in set(prober.draws(0, _PROBES)))

    moving = {name for unit in _which(list(units), moves) for name in units[unit]}
    prober.without_gradient |= moving
    return moving


def _which(names: Sequence[str], moves: Callable[[Sequence[str]], bool]) -> list[str]:
    """Return the names that move an output, after trying whether all together do."""
    return [name for name in names if len(names) == 1 or moves([name])] if names and moves(names) else []


def _moves_output(prober: Prober, units: Units, outgoing: Mapping[str, Sequence[ParamView]], probe: int) -> bool:
    """Whether an output changes when a random half of each unit is cut off and then changed."""
    halves = {unit: _half(prober, unit, names[0], probe) for unit, names in units.items()}

    def cut(params: Params) -> None:
        for unit, neurons in halves.items():
            prober.cut(params, units[unit][0], neurons, outgoing[unit])

    return moves_output(prober, {name: halves[unit] for unit, names in units.items() for name in names}, cut, probe)


def moves_output(prober: Prober, chosen: Chosen, cut: Callable[[Params], None], probe: int) -> bool:
    """Whether any output changes with the parameters of the chosen neurons, with what they feed cut off."""
    if prober.outputs is None:
        return False
    params = prober.draw(probe)
    cut(params)
    before = prober.outputs(params)
    prober.change(params, chosen)
    cut(params)
    return any(_differ(old, new) for old, new in zip(before, prober.outputs(params), strict=True))


def _differ(old: Array, new: Array) -> bool:
    """Whether two outputs differ by more than rounding."""
    xp = namespace(old)
    if old.shape != new.shape:
        return True
    if not xp.isdtype(old.dtype, "real floating"):
        return bool(xp.any(old != new))
    most = _ROUNDING * xp.finfo(old.dtype).eps * xp.max(xp.abs(old)) if old.size else 0.0
    return not bool(xp.all((xp.abs(old - new) <= most) | (old == new) | (xp.isnan(old) & xp.isnan(new))))


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
        spoiled: set[str] = set()
        alive = prober.live_neurons(params, [name for unit in cut for name in self._units[unit]], spoiled=spoiled)
        prober.not_finite |= spoiled
        for unit, neurons in cut.items():
            for name in [name for name in self._units[unit] if name not in spoiled]:
                live, by_draw = alive[name], prober.live_by_draw(name)
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


def read_only_by(
    prober: Prober, names: Sequence[str], norms: Sequence[str], outgoing: Sequence[ParamView] = ()
) -> set[str]:
    """Return those of some groups that without normalisations and views have no gradient and no effect.

    Nothing else reads these. The groups are equally wide and have the views in common.
    """
    everything = frozenset(range(prober.neurons[names[0]]))

    def cut(params: Params) -> None:
        prober.zero(params, [view.param for norm in norms for view in prober.layout[norm].incoming])
        prober.cut(params, names[0], everything, outgoing)

    def moves(some: Sequence[str]) -> bool:
        chosen = dict.fromkeys(some, everything)
        return any(moves_output(prober, chosen, cut, probe) for probe in range(_FORWARD_PROBES_OF_ALL))

    params = prober.draw(0)
    cut(params)
    spoiled: set[str] = set()
    silent = [name for name, live in prober.live_neurons(params, names, spoiled=spoiled).items() if not live]
    if spoiled.intersection(silent) and not (prober.outputs and all(map(is_finite, prober.outputs(params)))):
        return set()
    moving = _which(silent, moves)
    prober.without_gradient.update(moving)
    return set(silent) - set(moving)
