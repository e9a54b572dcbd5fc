"""Prove that neurons feed what their outgoing views name, and nothing else: by gradients, and by outputs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from neuroactivity.arrays import Array, asarray_like, is_finite, namespace
from neuroactivity.discovery.claims import Claim
from neuroactivity.discovery.decoding import Chosen
from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.probes import Units
from neuroactivity.discovery.values import Params
from neuroactivity.layout import Layout, ParamView
from neuroactivity.resets import reset

_PROBES = 16  # of a random half of the neurons; of outputs in each draw once, of which large models have fewer
_FORWARD_PROBES_OF_ALL = 4
_ROUNDING = 32  # units in the last place of what an output is, or varies by; zero times anything adds nothing at all
_COPIES = 8  # of each group that are looked at


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
    spreads = prober.output_spreads()
    params = prober.draw(probe)
    cut(params)
    before = prober.outputs(params)
    prober.change(params, chosen)
    cut(params)
    return any(map(_differ, before, prober.outputs(params), spreads))


def _differ(old: Array, new: Array, spread: float) -> bool:
    """Whether two outputs differ by more than rounding; ``spread`` is by how much such outputs vary."""
    xp = namespace(old)
    if old.shape != new.shape:
        return True
    if not xp.isdtype(old.dtype, "real floating"):
        return bool(xp.any(old != new))
    size = xp.where(xp.isfinite(old), xp.abs(old), xp.zeros_like(old))
    most = _ROUNDING * xp.finfo(old.dtype).eps * xp.where(size > spread, size, xp.full_like(size, spread))
    return not bool(xp.all((xp.abs(old - new) <= most) | (old == new) | (xp.isnan(old) & xp.isnan(new))))


def never_learning_again(prober: Prober, names: Sequence[str], outgoing: Mapping[str, Sequence[ParamView]]) -> set[str]:
    """Return the groups whose outgoing entries have no gradient where they are zero, so that a reset is for ever.

    Of weights that are read as their size or their square, say.
    """
    views = {name: [prober.bind(name, view) for view in outgoing[name]] for name in names}
    seen: dict[str, set[int]] = {name: set() for name in names}
    for probe in prober.in_order(_PROBES):
        if open_ := [name for name in names if len(seen[name]) < prober.neurons[name]]:
            halves, params = {name: _half(prober, name, name, probe) for name in open_}, prober.draw(probe)
            for name, neurons in halves.items():
                prober.cut(params, name, neurons, outgoing[name])
            for name, by_param in prober.live_entries(params, {name: views[name] for name in open_}).items():
                seen[name] |= halves[name] & set().union(*by_param.values())
    return {name for name in names if not seen[name]}


def feeding_other_copies(prober: Prober, claims: Sequence[Claim]) -> set[str]:
    """Return those groups of which one copy reads another: neurons of one that are reset still change an output.

    The proof cuts neurons off in all copies at once, a reset cuts them off in one.

    Args:
        prober: The model.
        claims: Claims of groups with several copies, whose neurons feed the outgoing views and nothing else.
    """

    def moves(names: Sequence[str]) -> bool:
        some = [claim for claim in claims if claim.group.name in names]
        return any(_moves_by_copy(prober, some, number) for number in range(_COPIES))

    return set(_which([claim.group.name for claim in claims], moves)) if prober.outputs else set()


def _moves_by_copy(prober: Prober, claims: Sequence[Claim], number: int) -> bool:
    """Whether two resets of half of the neurons of one copy of each group, with other values, give other outputs."""
    layout = Layout([replace(claim.group, outgoing=tuple(claim.outgoing), resettable=True) for claim in claims])
    spreads, params = prober.output_spreads(), prober.draw(number)
    masks = {name: _mask_of_one_copy(prober, name, params, number) for name in layout}
    made = {view.param for name in layout for _, view, _ in prober.made_by[name]}
    outputs = []
    for factor in (0.5, 2.0):
        fresh = {name: factor * value if name in made else value for name, value in params.items()}
        outputs.append(prober.outputs(reset(params, fresh, masks, layout)) if prober.outputs else [])
    return any(map(_differ, *outputs, spreads))


def _mask_of_one_copy(prober: Prober, name: str, params: Params, number: int) -> Array:
    """Choose half of the neurons of one copy of a group."""
    shape, like = prober.bound[name].shape, params[prober.layout[name].incoming[0].param]
    copies, neurons = math.prod(shape[:-1]), shape[-1]
    order = prober.generator("copies", name).sample(range(copies), copies)
    chosen = {order[number % copies] * neurons + neuron for neuron in _half(prober, name, name, number)}
    flags = tuple([place in chosen for place in range(copies * neurons)])
    return namespace(like).reshape(asarray_like(flags, like=like, dtype=namespace(like).bool), shape)


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
