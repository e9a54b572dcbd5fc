"""Probe a model through its gradient function: silence neurons, cut what they feed, see which gradients vanish."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from typing import TypeAlias

from neuroactivity.arrays import Array, Arrays, asarray_like, magnitude_sum, namespace, to_list
from neuroactivity.discovery.decoding import Axis, AxisReaders, Chosen, decode
from neuroactivity.errors import LayoutError
from neuroactivity.layout import BoundPattern, Layout, ParamView, Role
from neuroactivity.layout.patterns import NEURON, STACK, expand_mask, neuron_sums
from neuroactivity.wrapping import derive_key

SILENCING_BIASES = (0.0, -1e4, 1e4)
"""The biases that silence a neuron: with relu or tanh, with sigmoid or softplus, with log-sigmoid."""

CENTERS = (0.0, 16.0, -16.0)
"""Around which value neurons in front of a normalisation lie: an activation function is odd or linear around one."""

ROUNDING = 1e-4
"""A gradient below this fraction of its array's largest is zero but for rounding."""

_PROBES, _LEAST = 128, 32  # one neuron in four is silenced; a chance match has odds of (3/4)^32 = 1e-4
_ZERO_MEAN_PROBES, _ZERO_MEAN_LEAST = 64, 22  # one neuron in two is silenced; odds of (1/2)^22 = 2e-7
_OTHER = -1.75  # times the old value: neither odd nor even functions take it for the same
_ORDERS_OF_FOUR = list(permutations(range(4)))

Params: TypeAlias = dict[str, Array]
"""Parameters by name."""

Grads: TypeAlias = Mapping[str, Array | None]
"""Gradients by parameter name; ``None`` where there is none."""

GradientFunction: TypeAlias = Callable[[Params], Grads]
"""From parameters by name to the gradients of some scalar of the model's outputs, by name."""

OutputFunction: TypeAlias = Callable[[Params], Sequence[Array]]
"""From parameters by name to all floating-point outputs of the model, in evaluation and in training mode."""

Entries: TypeAlias = tuple[Role, ParamView, BoundPattern]
"""The entries of a parameter that belong to a group: their role, the view, its pattern bound to the shape."""

Units: TypeAlias = Mapping[str, Sequence[str]]
"""Groups of equal width that are silenced or cut off together, by the name of the unit."""


class Prober:
    """A model under examination: its groups, its gradient function, and the parameter values to examine it with.

    Args:
        layout: The neuron groups with their incoming and unscored parameters.
        grad_fn: From parameters to gradients.
        output_fn: From parameters to outputs, if they can be had.
        draws: Parameter mappings; their values differ, the model's structure does not.
        seed: Seed of the choice of neurons.

    Attributes:
        gradients: The gradient function.
        outputs: The output function, if there is one.
        shapes: The shape of each parameter.
        bound: Each group bound to these shapes.
        neurons: The number of neurons of each group.
        scales: For each group that is a normalisation's scale, its parameter.
        made_by: For each group its incoming and unscored views, with their roles and bound patterns.
        owners: For each parameter that groups own, the groups to which it is incoming, each with its view.
        bare: The shapes of the parameters of no group.
        without_gradient: Groups found to reach an output on a path without gradient.
    """

    def __init__(
        self,
        layout: Layout,
        grad_fn: GradientFunction,
        draws: Sequence[Arrays],
        *,
        output_fn: OutputFunction | None = None,
        seed: int,
    ) -> None:
        if not draws:
            raise LayoutError("draws: expected at least one parameter mapping, got none")
        for draw in draws:
            layout.validate(draw)
        self.layout, self.gradients, self.outputs, self._draws, self._seed = layout, grad_fn, output_fn, draws, seed
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(value.shape) for name, value in draws[0].items()}
        self.bound = {name: group.bind(self.shapes) for name, group in layout.items()}
        self.neurons = {name: bound.shape[-1] for name, bound in self.bound.items()}
        self.scales = {name: group.incoming[0].param for name, group in layout.items() if is_vector(group.incoming[0])}
        self.made_by: dict[str, list[Entries]] = {}
        self.owners: dict[str, list[tuple[str, ParamView]]] = {}
        for name, bound in self.bound.items():
            self.made_by[name] = [entry for entry in bound.views if entry[0] != "outgoing"]
            for role, view, _ in self.made_by[name]:
                self.owners.setdefault(view.param, []).extend([(name, view)] if role == "incoming" else [])
        self.bare = {name: shape for name, shape in self.shapes.items() if name not in self.owners}
        self.without_gradient: set[str] = set()
        self._still: dict[str, float] = {}
        self._live: dict[str, list[set[int]]] = {}

    def with_layout(self, layout: Layout) -> "Prober":
        """Return a prober for other groups of the same model."""
        return Prober(layout, self.gradients, self._draws, output_fn=self.outputs, seed=self._seed)

    def holding(self, still: Mapping[str, float]) -> "Prober":
        """Return a prober of the same groups that holds whole parameters at a value."""
        prober = self.with_layout(self.layout)
        prober._still = {**self._still, **still}
        return prober

    def size(self, where: Axis) -> int:
        """Return the size of an axis."""
        return self.shapes[where[0]][where[1]]

    def draw(self, probe: int) -> Params:
        """Return the parameters of a probe."""
        params = dict(self._draws[probe % len(self._draws)])
        for name, value in self._still.items():
            params[name] = namespace(params[name]).full_like(params[name], value)
        return params

    def generator(self, *purpose: object) -> random.Random:
        """Return a generator that depends on the seed and the purpose alone."""
        return random.Random(derive_key(self._seed, 0, "/".join(map(str, purpose))))

    def silence(self, params: Params, chosen: Chosen, bias: float = 0.0) -> None:
        """Set the chosen neurons' incoming parameters to zero and their unscored ones to ``bias``."""
        for name, neurons in chosen.items():
            for entries in self.made_by[name]:
                self._fill(params, name, neurons, entries, bias if entries[0] == "unscored" else 0.0)

    def cut(self, params: Params, name: str, neurons: frozenset[int], outgoing: Iterable[ParamView]) -> None:
        """Set the entries that the chosen neurons of a group feed to zero."""
        for view in outgoing:
            bound = self.layout[name].bind_view(view, self.shapes[view.param], self.neurons[name])
            self._fill(params, name, neurons, ("outgoing", view, bound), 0.0)

    def zero(self, params: Params, names: Iterable[str]) -> None:
        """Set whole parameters to zero."""
        params |= {name: namespace(params[name]).zeros_like(params[name]) for name in names}

    def _fill(self, params: Params, name: str, neurons: frozenset[int], entries: Entries, value: float) -> None:
        """Set those of a group's entries that belong to the chosen neurons to a value."""
        if neurons:
            _, view, bound = entries
            old = params[view.param]
            xp = namespace(old)
            chosen = asarray_like(tuple([i in neurons for i in range(self.neurons[name])]), like=old, dtype=xp.bool)
            mask = expand_mask(chosen, old.shape, bound, view.owners)
            params[view.param] = xp.where(mask, asarray_like(value, like=old, dtype=old.dtype), old)

    def change(self, params: Params, chosen: Chosen) -> None:
        """Give the chosen neurons other incoming and unscored parameters."""
        for name, neurons in chosen.items():
            for _, view, bound in self.made_by[name]:
                old = params[view.param]
                xp = namespace(old)
                changed = asarray_like(
                    tuple([i in neurons for i in range(self.neurons[name])]), like=old, dtype=xp.bool
                )
                params[view.param] = xp.where(expand_mask(changed, old.shape, bound, view.owners), _OTHER * old, old)

    def balance(
        self, params: Params, name: str, silent: frozenset[int], pairs: Iterable[tuple[int, int]], center: float
    ) -> None:
        """Silence neurons and make the rest opposite in pairs around a center, so that all have it as their mean."""
        self._oppose(params, name, pairs)
        self.silence(params, {name: silent})
        for role, view, _ in self.made_by[name] if center else ():
            if role == "unscored":
                params[view.param] = params[view.param] + center

    def _oppose(self, params: Params, name: str, pairs: Iterable[tuple[int, int]]) -> None:
        """Make the second neuron of each pair the opposite of the first, so that the two add up to zero.

        A scale multiplies what differs from neuron to neuron, so it is set to zero and leaves the opposite shifts.
        """
        opposite = {second: first for first, second in pairs}
        source = tuple([opposite.get(neuron, neuron) for neuron in range(self.neurons[name])])
        negative = tuple([neuron in opposite for neuron in range(self.neurons[name])])
        for role, view, bound in self.made_by[name]:
            if role == "incoming" and is_vector(view) and view.owners is None:
                self.zero(params, [view.param])
            elif view.owners is None:
                old = params[view.param]
                xp, shape = namespace(old), tuple(old.shape)
                order = asarray_like(source, like=old, dtype=xp.int32)
                rows = xp.take(xp.reshape(old, bound.sizes), order, axis=bound.names.index(NEURON))
                mask = expand_mask(asarray_like(negative, like=old, dtype=xp.bool), shape, bound, None)
                params[view.param] = xp.where(mask, -xp.reshape(rows, shape), xp.reshape(rows, shape))

    def live_axes(self, grads: Grads, params: Iterable[str], *, noise: float = 0.0) -> dict[Axis, list[bool]]:
        """For each position along each axis: is any gradient there above ``noise`` times the parameter's largest?"""
        live: dict[Axis, list[bool]] = {}
        for param in params:
            gradient = grads.get(param)
            if gradient is None:
                continue
            if noise:
                xp = namespace(gradient)
                gradient = xp.astype(xp.abs(gradient) > noise * xp.max(xp.abs(gradient)), xp.float32)
            axes = range(len(gradient.shape))
            for axis in axes:
                rest = tuple(i for i in axes if i != axis)
                live[param, axis] = to_list(magnitude_sum(gradient, rest) != 0)
        return live

    def live_neurons(self, grads: Grads, name: str) -> set[int]:
        """Return the neurons of a group with a nonzero gradient in any incoming or unscored parameter."""
        return set().union(*[self.live_entries(grads, name, entries) for entries in self.made_by[name]])

    def live_entries(self, grads: Grads, name: str, entries: Entries) -> set[int]:
        """Return the neurons of a group with a nonzero gradient in its entries of one parameter."""
        _, view, bound = entries
        gradient = grads.get(view.param)
        if gradient is None:
            return set()
        sums, _ = neuron_sums(gradient, bound, view.owners, self.neurons[name])
        alive = to_list(sums > 0 if sums.ndim == 1 else namespace(sums).any(sums > 0, axis=0))
        return {neuron for neuron, is_alive in enumerate(alive) if is_alive}

    def live_by_draw(self, name: str) -> list[set[int]]:
        """Return for each draw the neurons of a group that have a gradient when nothing is silenced or cut."""
        if not self._live:
            self._live = {group: [] for group in self.layout}
            for probe in range(len(self._draws)):
                grads = self.gradients(self.draw(probe))
                for group, by_draw in self._live.items():
                    by_draw.append(self.live_neurons(grads, group))
        return self._live[name]

    def ever_live(self, name: str) -> set[int]:
        """Return the neurons of a group that have a gradient in any draw, when nothing is silenced or cut."""
        return set().union(*self.live_by_draw(name))


def probe_independent(prober: Prober, units: Units, bias: float) -> dict[Axis, AxisReaders]:
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


def probe_zero_mean(prober: Prober, units: Units, center: float) -> dict[Axis, AxisReaders]:
    """Silence half of each unit and make the rest opposite in pairs, and decode what the normalisations read.

    A normalisation subtracts the mean, so a silent neuron is not silent behind it, unless the mean is zero. In every
    four neurons two are silenced, so that it is zero in each group of a group normalisation too.

    Args:
        prober: The model.
        units: Groups of equal width that are silenced together, by unit.
        center: What is zero for an activation function in front of the normalisation.
    """
    silenced, live = [], []
    for probe in range(_ZERO_MEAN_PROBES):
        params, chosen = prober.draw(probe), {}
        for unit, names in units.items():
            chosen[unit], pairs = choose_zero_mean(prober, prober.neurons[names[0]], "pairs", probe, unit)
            for name in names:
                in_stream = name in prober.scales and len(names) > 1  # where shifts are to be linear themselves
                prober.balance(params, name, chosen[unit], pairs, 0.0 if in_stream else center)
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


def _widths(prober: Prober, units: Units) -> dict[str, int]:
    return {unit: prober.neurons[names[0]] for unit, names in units.items()}


def neuron_axis(view: ParamView) -> Axis:
    """Return the axis of a vector that counts neurons: the other axes of it count copies."""
    return view.param, next(axis for axis, names in enumerate(view.parsed.axes) if NEURON in names)


def is_vector(view: ParamView) -> bool:
    """Whether a parameter has one entry a neuron: a scale, a shift, a bias."""
    return set(view.parsed.names) <= {NEURON, STACK}
