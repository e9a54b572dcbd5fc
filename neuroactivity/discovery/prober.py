"""Probe a model through its gradient function: silence neurons, cut what they feed, see which gradients vanish."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from typing import TypeAlias

from neuroactivity.arrays import Array, Arrays, asarray_like, magnitude_sum, namespace, to_list
from neuroactivity.discovery.decoding import Axis, AxisReaders, decode
from neuroactivity.errors import LayoutError
from neuroactivity.layout import Layout
from neuroactivity.layout.groups import ParamView
from neuroactivity.layout.patterns import NEURON, STACK, BoundPattern, expand_mask, neuron_sums
from neuroactivity.wrapping import derive_key

__all__ = [
    "ROUNDING",
    "SILENCING_BIASES",
    "GradientFunction",
    "Prober",
    "choose_zero_mean",
    "is_vector",
    "probe_independent",
    "probe_zero_mean",
]

SILENCING_BIASES = (0.0, -1e4, 1e4)
"""The biases that silence a neuron: with relu or tanh, with sigmoid or softplus, with log-sigmoid."""

ROUNDING = 1e-4
"""A gradient below this fraction of its array's largest is zero but for rounding."""

_PROBES, _LEAST = 128, 32  # one neuron in four is silenced; a chance match has odds of (3/4)^32 = 1e-4
_ZERO_MEAN_PROBES, _ZERO_MEAN_LEAST = 64, 22  # one neuron in two is silenced; odds of (1/2)^22 = 2e-7
_ORDERS_OF_FOUR = list(permutations(range(4)))

GradientFunction: TypeAlias = Callable[[dict[str, Array]], Mapping[str, Array | None]]
"""From parameters by name to the gradients of some scalar of the model's outputs, by name."""

Chosen: TypeAlias = Mapping[str, frozenset[int]]
"""Neurons by group name."""


class Prober:
    """A model under examination: its groups, its gradient function, and the parameter values to examine it with.

    Args:
        layout: The neuron groups with their incoming and unscored parameters.
        grad_fn: From parameters to gradients.
        draws: Parameter mappings; their values differ, the model's structure does not.
        seed: Seed of the choice of neurons.

    Attributes:
        shapes: The shape of each parameter.
        bound: Each group bound to these shapes.
        neurons: The number of neurons of each group.
        scales: For each group that is a normalisation's scale, its parameter.
        owners: For each parameter that groups own, the groups to which it is incoming, each with its view.
    """

    def __init__(self, layout: Layout, grad_fn: GradientFunction, draws: Sequence[Arrays], *, seed: int) -> None:
        if not draws:
            raise LayoutError("draws: expected at least one parameter mapping, got none")
        for draw in draws:
            layout.validate(draw)
        self.layout, self._grad_fn, self._draws, self._seed = layout, grad_fn, draws, seed
        self.shapes = {name: tuple(value.shape) for name, value in draws[0].items()}
        self.bound = {name: group.bind(self.shapes) for name, group in layout.items()}
        self.neurons = {name: bound.shape[-1] for name, bound in self.bound.items()}
        first = {name: group.incoming[0] for name, group in layout.items()}
        self.scales = {name: view.param for name, view in first.items() if is_vector(view)}
        self.owners: dict[str, list[tuple[str, ParamView]]] = {}
        for name, group in layout.items():
            for view in group.incoming:
                self.owners.setdefault(view.param, []).append((name, view))
            for view in group.unscored:
                self.owners.setdefault(view.param, [])
        self._live: dict[str, list[list[bool]]] = {}

    def with_layout(self, layout: Layout) -> "Prober":
        """Return a prober for other groups of the same model."""
        return Prober(layout, self._grad_fn, self._draws, seed=self._seed)

    def draw(self, probe: int) -> dict[str, Array]:
        """Return the parameters of a probe."""
        return dict(self._draws[probe % len(self._draws)])

    def generator(self, *purpose: object) -> random.Random:
        """Return a generator that depends on the seed and the purpose alone."""
        return random.Random(derive_key(self._seed, 0, "/".join(map(str, purpose))))

    def gradients(self, params: dict[str, Array]) -> Mapping[str, Array | None]:
        """Evaluate the gradient function."""
        return self._grad_fn(params)

    def silence(self, params: dict[str, Array], chosen: Chosen, bias: float = 0.0) -> None:
        """Set the chosen neurons' incoming parameters to zero and their unscored ones to ``bias``."""
        for name, neurons in chosen.items():
            views = [(view, bound, role) for role, view, bound in self.bound[name].views if role != "outgoing"]
            entries = [(view, bound, bias if role == "unscored" else 0.0) for view, bound, role in views]
            self._fill(params, name, neurons, entries)

    def cut(self, params: dict[str, Array], chosen: Chosen, outgoing: Mapping[str, Sequence[ParamView]]) -> None:
        """Set the entries that the chosen neurons feed to zero."""
        for name, neurons in chosen.items():
            group, count = self.layout[name], self.neurons[name]
            views = [(view, group.bind_view(view, self.shapes[view.param], count)) for view in outgoing.get(name, ())]
            self._fill(params, name, neurons, [(view, bound, 0.0) for view, bound in views])

    def zero(self, params: dict[str, Array], names: Iterable[str]) -> None:
        """Set whole parameters to zero."""
        params |= {name: namespace(params[name]).zeros_like(params[name]) for name in names}

    def _fill(
        self,
        params: dict[str, Array],
        name: str,
        neurons: frozenset[int],
        entries: Sequence[tuple[ParamView, BoundPattern, float]],
    ) -> None:
        """Set the entries of the chosen neurons in each view to a value."""
        if not neurons or not entries:
            return
        like = params[entries[0][0].param]
        chosen = tuple([neuron in neurons for neuron in range(self.neurons[name])])
        mask = asarray_like(chosen, like=like, dtype=namespace(like).bool)
        for view, bound, value in entries:
            old = params[view.param]
            where = expand_mask(mask, old.shape, bound, view.owners)
            params[view.param] = namespace(old).where(where, asarray_like(value, like=old, dtype=old.dtype), old)

    def oppose(self, params: dict[str, Array], name: str, pairs: Iterable[tuple[int, int]]) -> None:
        """Make the second neuron of each pair the opposite of the first, so that the two add up to zero.

        A scale multiplies what differs from neuron to neuron, so it is set to zero and leaves the opposite shifts.
        """
        source, sign = list(range(self.neurons[name])), [1] * self.neurons[name]
        for first, second in pairs:
            source[second], sign[second] = first, -1
        for role, view, bound in self.bound[name].views:
            if role == "incoming" and is_vector(view) and view.owners is None:
                self.zero(params, [view.param])
            elif role != "outgoing" and view.owners is None:
                old, axis = params[view.param], bound.names.index(NEURON)
                xp = namespace(old)
                order = asarray_like(tuple(source), like=old, dtype=xp.int32)
                signs = xp.astype(asarray_like(tuple(sign), like=old, dtype=xp.int32), old.dtype)
                signs = xp.reshape(signs, tuple([-1 if i == axis else 1 for i in range(len(bound.sizes))]))
                rows = xp.take(xp.reshape(old, bound.sizes), order, axis=axis)
                params[view.param] = xp.reshape(rows * signs, tuple(old.shape))

    def live_axes(
        self, grads: Mapping[str, Array | None], params: Iterable[str], *, noise: float = 0.0
    ) -> dict[Axis, list[bool]]:
        """For each position along each axis: is any gradient there above ``noise`` times the parameter's largest?"""
        live: dict[Axis, list[bool]] = {}
        for param in params:
            gradient = grads.get(param)
            if gradient is None:
                continue
            if noise:
                xp = namespace(gradient)
                gradient = xp.abs(gradient) > noise * xp.max(xp.abs(gradient))
                gradient = xp.astype(gradient, xp.float32)
            for axis in range(len(gradient.shape)):
                rest = tuple(i for i in range(len(gradient.shape)) if i != axis)
                live[param, axis] = to_list(magnitude_sum(gradient, rest) != 0)
        return live

    def live_neurons(self, grads: Mapping[str, Array | None], name: str) -> list[bool]:
        """For each neuron of a group: is any gradient of its incoming or unscored parameters nonzero?"""
        views = [(view, bound) for role, view, bound in self.bound[name].views if role != "outgoing"]
        live = [self.live_entries(grads, name, view, bound) for view, bound in views]
        return [any(alive) for alive in zip(*live, strict=True)]

    def live_entries(
        self, grads: Mapping[str, Array | None], name: str, view: ParamView, bound: BoundPattern
    ) -> list[bool]:
        """For each neuron of a group: is any gradient of its entries in one view nonzero?"""
        gradient = grads.get(view.param)
        if gradient is None:
            return [False] * self.neurons[name]
        sums, _ = neuron_sums(gradient, bound, view.owners, self.neurons[name])
        return to_list(sums > 0 if sums.ndim == 1 else namespace(sums).any(sums > 0, axis=0))

    def live_by_draw(self, name: str) -> list[list[bool]]:
        """For each draw and neuron of a group: is there a gradient when nothing is silenced or cut?"""
        if not self._live:
            self._live = {group: [] for group in self.layout}
            for probe in range(len(self._draws)):
                grads = self.gradients(self.draw(probe))
                for group, by_draw in self._live.items():
                    by_draw.append(self.live_neurons(grads, group))
        return self._live[name]

    def ever_live(self, name: str) -> list[bool]:
        """For each neuron of a group: has it a gradient in any draw, when nothing is silenced or cut?"""
        return [any(draws) for draws in zip(*self.live_by_draw(name), strict=True)]


def probe_independent(prober: Prober, units: Mapping[str, Sequence[str]], bias: float) -> dict[Axis, AxisReaders]:
    """Silence a random quarter of each unit, independently of the others, and decode what each axis reads.

    Args:
        prober: The model.
        units: Groups of equal width that are silenced together, by unit.
        bias: The bias that silences a neuron.
    """
    silenced, live = [], []
    for probe in range(_PROBES):
        params, chosen = prober.draw(probe), {}
        for unit, names in units.items():
            generator = prober.generator("quarter", bias, probe, unit)
            count = prober.neurons[names[0]]
            share = count // 4 if count >= 4 else int(count > 1 and generator.random() < 0.5)
            chosen[unit] = frozenset(generator.sample(range(count), share))
            prober.silence(params, dict.fromkeys(names, chosen[unit]), bias)
        silenced.append(chosen)
        live.append(prober.live_axes(prober.gradients(params), prober.owners))
    return decode(silenced, live, _widths(prober, units), least=_LEAST)


def probe_zero_mean(prober: Prober, units: Mapping[str, Sequence[str]]) -> dict[Axis, AxisReaders]:
    """Silence half of each unit and make the rest opposite in pairs, and decode what the normalisations read.

    A normalisation subtracts the mean, so a silent neuron is not silent behind it, unless the mean is zero. In every
    four neurons two are silenced, so that it is zero in each group of a group normalisation too.

    Args:
        prober: The model.
        units: Groups of equal width that are silenced together, by unit.
    """
    silenced, live = [], []
    for probe in range(_ZERO_MEAN_PROBES):
        params, chosen = prober.draw(probe), {}
        for unit, names in units.items():
            chosen[unit], pairs = choose_zero_mean(prober, prober.neurons[names[0]], "pairs", probe, unit)
            for name in names:
                prober.oppose(params, name, pairs)
                prober.silence(params, {name: chosen[unit]})
        silenced.append(chosen)
        live.append(prober.live_axes(prober.gradients(params), prober.scales.values(), noise=ROUNDING))
    return decode(silenced, live, _widths(prober, units), least=_ZERO_MEAN_LEAST)


def choose_zero_mean(prober: Prober, count: int, *purpose: object) -> tuple[frozenset[int], list[tuple[int, int]]]:
    """Choose two in every four of ``count`` neurons to be silenced, and pair the other two."""
    silent, pairs = list(range(count - count % 4, count)), []
    for four, order in enumerate(prober.generator(*purpose).choices(_ORDERS_OF_FOUR, k=count // 4)):
        first, second, third, last = [4 * four + offset for offset in order]
        silent += [first, second]
        pairs.append((third, last))
    return frozenset(silent), pairs


def _widths(prober: Prober, units: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {unit: prober.neurons[names[0]] for unit, names in units.items()}


def is_vector(view: ParamView) -> bool:
    """Whether a parameter has one entry a neuron: a scale, a shift, a bias."""
    return set(view.parsed.names) <= {NEURON, STACK}
