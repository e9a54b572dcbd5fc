"""Probe a model through its gradient function: silence neurons, cut what they feed, see which gradients vanish."""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from neuroactivity.arrays import Array, Arrays, is_finite, magnitude_sum, namespace, to_list
from neuroactivity.discovery.decoding import Axis, AxisReaders, Chosen
from neuroactivity.discovery.gradients import GradientFunction, GradientStream, OutputFunction
from neuroactivity.discovery.values import FreshDraws, Params, Values
from neuroactivity.errors import LayoutError
from neuroactivity.layout import BoundPattern, Layout, NeuronGroup, ParamView, Role
from neuroactivity.layout.patterns import NEURON, STACK, neuron_sums
from neuroactivity.wrapping import derive_key

SILENCING_BIASES = (0.0, -1e4, 1e4)
"""The biases that silence a neuron: with relu or tanh, with sigmoid or softplus, with log-sigmoid."""

CENTERS = (0.0, 16.0, -16.0)
"""Around which value neurons in front of a normalisation lie: an activation function is odd or linear around one."""

ROUNDING = 1e-4
"""A gradient below this fraction of its array's largest is zero but for rounding."""

_OTHER = -1.75  # times the old value: neither odd nor even functions take it for the same

Entries: TypeAlias = tuple[Role, ParamView, BoundPattern]
"""The entries of a parameter that belong to a group: their role, the view, its pattern bound to the shape."""


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
        zero_mean: What :func:`.probes.probe_zero_mean` has found, by units and center.
        owners: For each parameter that groups own, the groups to which it is incoming, each with its view.
        bare: The shapes of the parameters of no group.
        without_gradient: Groups found to reach an output on a path without gradient.
        never_again: Groups whose outgoing entries have no gradient where they are zero.
        not_finite: Groups whose gradients were not finite in some probe of a proof, which says nothing of them then.
    """

    def __init__(
        self,
        layout: Layout,
        grad_fn: GradientFunction,
        draws: Sequence[Arrays],
        *,
        output_fn: OutputFunction | None = None,
        seed: int,
        values: Values | None = None,
    ) -> None:
        if not draws:
            raise LayoutError("draws: expected at least one parameter mapping, got none")
        self._values, self._still = values or Values(draws), dict[str, float]()
        self.layout, self.outputs, self._draws, self._seed = layout, output_fn, draws, seed
        self.gradients = GradientStream.of(grad_fn)
        for draw in [self.draw(0)] if isinstance(draws, FreshDraws) else draws:
            layout.validate(draw)
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(value.shape) for name, value in self.draw(0).items()}
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
        self.never_again: set[str] = set()
        self.not_finite: set[str] = set()
        self.zero_mean: dict[object, dict[Axis, AxisReaders]] = {}
        self._spreads: list[float] = []
        self._live: dict[str, list[frozenset[int]]] = {}
        self._alike: dict[frozenset[int], frozenset[int]] = {}  # each set once, of which most are those of all neurons

    def with_coarser(self, groups: Mapping[str, NeuronGroup], coarse: Mapping[str, Sequence[int]]) -> "Prober":
        """Return a prober of the same model in which some groups have coarser neurons.

        Args:
            groups: The groups that take the place of those of the same name.
            coarse: For each of them the coarse neuron that each of its neurons belongs to.
        """
        layout = Layout([groups.get(name, group) for name, group in self.layout.items()])
        values, outputs = self._values, self.outputs
        trial = Prober(layout, self.gradients, self._draws, output_fn=outputs, seed=self._seed, values=values)
        trial._live = {name: self.live_by_draw(name) for name in self.layout}
        for name, part_of in coarse.items():
            trial._live[name] = [frozenset([part_of[neuron] for neuron in live]) for live in self.live_by_draw(name)]
        return trial

    def holding(self, still: Mapping[str, float]) -> "Prober":
        """Return a prober of the same groups that holds whole parameters at a value."""
        outputs, values = self.outputs, self._values
        prober = Prober(self.layout, self.gradients, self._draws, output_fn=outputs, seed=self._seed, values=values)
        prober._still = {**self._still, **still}
        return prober

    def output_spreads(self) -> list[float]:
        """Return by how much each output varies at most from one draw to another, where it is finite."""
        if self.outputs and not self._spreads:
            first, second = [self.outputs(self.draw(draw)) for draw in range(2)]
            self._spreads = [_spread(old, new) for old, new in zip(first, second, strict=True)]
        return self._spreads

    def size(self, where: Axis) -> int:
        """Return the size of an axis."""
        return self.shapes[where[0]][where[1]]

    def draw(self, probe: int) -> Params:
        """Return the parameters of a probe; those of the probe before are not to be used any more."""
        params = self._values.turn_to(probe % len(self._draws))
        for name, value in self._still.items():
            params[name] = namespace(params[name]).full_like(params[name], value)
        return params

    def draws(self, start: int, stop: int) -> list[int]:
        """Return the draws of some probes or rounds of probes, all of one draw together, since each may cost."""
        return sorted([number % len(self._draws) for number in range(start, stop)])

    def in_order(self, probes: int) -> list[int]:
        """Return the numbers of probes in the order of their draws."""
        return sorted(range(probes), key=lambda probe: probe % len(self._draws))

    def generator(self, *purpose: object) -> random.Random:
        """Return a generator that depends on the seed and the purpose alone."""
        return random.Random(derive_key(self._seed, 0, "/".join(map(str, purpose))))

    def silence(self, params: Params, chosen: Chosen, bias: float = 0.0) -> None:
        """Set the chosen neurons' incoming parameters to zero and their unscored ones to ``bias``."""
        for name, neurons in chosen.items():
            for entries in self.made_by[name]:
                self._fill(params, neurons, entries, bias if entries[0] == "unscored" else 0.0)

    def cut(self, params: Params, name: str, neurons: frozenset[int], outgoing: Iterable[ParamView]) -> None:
        """Set the entries that the chosen neurons of a group feed to zero."""
        for view in outgoing:
            self._fill(params, neurons, self.bind(name, view), 0.0)

    def bind(self, name: str, view: ParamView) -> Entries:
        """Return the entries that the neurons of a group feed by a view."""
        return "outgoing", view, self.layout[name].bind_view(view, self.shapes[view.param], self.neurons[name])

    def zero(self, params: Params, names: Iterable[str]) -> None:
        """Set whole parameters to zero."""
        self._values.zero(params, names)

    def _fill(
        self, params: Params, neurons: frozenset[int], entries: Entries, value: float, *, times: bool = False
    ) -> None:
        """Set the entries of one parameter that belong to the chosen neurons to a value, or to so many times theirs."""
        _, view, bound = entries
        if view.owners is None:
            positions: Iterable[int] = neurons
        else:
            owned = view.owners.positions
            positions = [place for neuron in neurons if neuron < len(owned) for place in owned[neuron]]
        if positions:
            self._values.fill(params, view.param, sorted(positions), bound, value, times=times)

    def change(self, params: Params, chosen: Chosen, factor: float = _OTHER) -> None:
        """Give the chosen neurons other incoming and unscored parameters: so many times theirs."""
        for name, neurons in chosen.items():
            for entries in self.made_by[name]:
                self._fill(params, neurons, entries, factor, times=True)

    def balance(
        self, params: Params, name: str, silent: frozenset[int], pairs: Sequence[tuple[int, int]], center: float
    ) -> None:
        """Silence neurons and make the rest opposite in pairs around a center, so that all have it as their mean."""
        self._oppose(params, name, pairs)
        self.silence(params, {name: silent})
        for role, view, _ in self.made_by[name] if center else ():
            if role == "unscored":
                params[view.param] = params[view.param] + center

    def _oppose(self, params: Params, name: str, pairs: Sequence[tuple[int, int]]) -> None:
        """Make the second neuron of each pair the opposite of the first, so that the two add up to zero.

        A scale multiplies what differs from neuron to neuron, so it is set to zero and leaves the opposite shifts.
        """
        for role, view, bound in self.made_by[name]:
            if role == "incoming" and is_vector(view) and view.owners is None:
                self.zero(params, [view.param])
            elif view.owners is None:
                self._values.oppose(params, view.param, pairs, bound)

    def live_axes(self, params: Params, names: Iterable[str], *, noise: float = 0.0) -> dict[Axis, bytes]:
        """For each position along each axis: is any gradient there above ``noise`` times the parameter's largest?"""
        live: dict[str, list[bytes]] = {name: [] for name in names}

        def take(name: str, gradient: Array) -> None:
            if noise:
                xp = namespace(gradient)
                gradient = xp.astype(xp.abs(gradient) > noise * xp.max(xp.abs(gradient)), xp.float32)
            live[name] = [bytes(to_list(sums > 0)) for sums in _sums_by_axis(gradient)]  # NaN says nothing

        self.gradients.each(params, list(live), take)
        return {(name, axis): alive for name, by_axis in live.items() for axis, alive in enumerate(by_axis)}

    def live_neurons(
        self, params: Params, names: Iterable[str], *, spoiled: set[str] | None = None
    ) -> dict[str, set[int]]:
        """Return the neurons of each named group with a nonzero gradient in any incoming or unscored parameter.

        Groups of which some gradient is not finite, so that nothing can be said of them, are added to ``spoiled``.
        """
        found = self.live_entries(params, {name: self.made_by[name] for name in names}, spoiled=spoiled)
        return {name: set().union(*by_param.values()) for name, by_param in found.items()}

    def live_entries(
        self, params: Params, entries: Mapping[str, Sequence[Entries]], *, spoiled: set[str] | None = None
    ) -> dict[str, dict[str, set[int]]]:
        """Return the neurons of each group with a nonzero gradient in some of its entries, by parameter."""
        live: dict[str, dict[str, set[int]]] = {name: defaultdict(set) for name in entries}
        wanted: defaultdict[str, list[tuple[str, Entries]]] = defaultdict(list)
        for name, of_one in [(name, of_one) for name, several in entries.items() for of_one in several]:
            wanted[of_one[1].param].append((name, of_one))

        def take(param: str, gradient: Array) -> None:
            if spoiled is not None and not is_finite(gradient):
                spoiled.update([name for name, _ in wanted[param]])
            for name, (_, view, bound) in wanted[param]:
                sums, _ = neuron_sums(gradient, bound, view.owners, self.neurons[name])
                alive = to_list(sums > 0 if sums.ndim == 1 else namespace(sums).any(sums > 0, axis=0))
                live[name][param].update([neuron for neuron, is_alive in enumerate(alive) if is_alive])

        self.gradients.each(params, wanted, take)
        return live

    def live_by_draw(self, name: str) -> list[frozenset[int]]:
        """Return for each draw the neurons of a group that have a gradient when nothing is silenced or cut."""
        if not self._live:
            self._live = {group: [] for group in self.layout}
            for draw in range(len(self._draws)):
                for group, live in self.live_neurons(self.draw(draw), self.layout).items():
                    self._live[group].append(self._alike.setdefault(frozenset(live), frozenset(live)))
        return self._live[name]

    def ever_live(self, name: str) -> set[int]:
        """Return the neurons of a group that have a gradient in any draw, when nothing is silenced or cut."""
        return set().union(*self.live_by_draw(name))


def _sums_by_axis(x: Array) -> list[Array]:
    """Sum magnitudes along each axis, the first two axes first, which leaves little to read of a convolution's kernel.

    Example:
        >>> import numpy as np
        >>> [sums.tolist() for sums in _sums_by_axis(-np.ones((2, 3, 1)))]
        [[3.0, 3.0], [2.0, 2.0, 2.0], [6.0]]
    """
    axes = tuple(range(len(x.shape)))
    if len(axes) <= 2:
        return [magnitude_sum(x, axes[:axis] + axes[axis + 1 :]) for axis in axes]
    return _sums_by_axis(magnitude_sum(x, axes[2:])) + _sums_by_axis(magnitude_sum(x, axes[:2]))


def _spread(old: Array, new: Array) -> float:
    """Return the largest finite difference of two outputs; constants, as masked logits have, differ by nothing."""
    xp = namespace(old)
    if not old.size or not xp.isdtype(old.dtype, "real floating"):
        return 0.0
    sizes = xp.abs(old if old.shape != new.shape else old - new)
    return float(xp.max(xp.where(xp.isfinite(sizes), sizes, xp.zeros_like(sizes))))


def neuron_axis(view: ParamView) -> Axis:
    """Return the axis of a vector that counts neurons: the other axes of it count copies."""
    return view.param, next(axis for axis, names in enumerate(view.parsed.axes) if NEURON in names)


def is_vector(view: ParamView) -> bool:
    """Whether a parameter has one entry a neuron: a scale, a shift, a bias."""
    return set(view.parsed.names) <= {NEURON, STACK}
