"""Probe a model through its gradient function: silence neurons, cut what they feed, see which gradients vanish."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from neuroactivity.arrays import Array, Arrays, asarray_like, magnitude_sum, namespace, to_list
from neuroactivity.errors import LayoutError
from neuroactivity.layout import Layout
from neuroactivity.layout.groups import BoundGroup, ParamView
from neuroactivity.layout.patterns import NEURON, STACK, BoundPattern, broadcastable_mask, neuron_sums
from neuroactivity.wrapping import derive_key

__all__ = ["LEVELS", "Axis", "Chosen", "GradientFunction", "Prober", "is_vector"]

LEVELS = (0.0, -1e4, 1e4)
"""The biases that silence a neuron: with relu or tanh, with sigmoid or softplus, with log-sigmoid."""

GradientFunction: TypeAlias = Callable[[dict[str, Array]], Mapping[str, Array | None]]
"""From parameters by name to the gradients of some scalar of the model's outputs, by name."""

Chosen: TypeAlias = Mapping[str, frozenset[int]]
"""Neurons by group name."""

Axis: TypeAlias = tuple[str, int]
"""A parameter's name and one of its axes."""


class Prober:
    """A model under examination: its groups, its gradient function, and the parameter values to examine it with.

    Args:
        layout: The neuron groups with their incoming and unscored parameters.
        grad_fn: From parameters to gradients.
        draws: Parameter mappings; their values differ, the model's structure does not.
        seed: Seed of the choice of neurons.
    """

    def __init__(self, layout: Layout, grad_fn: GradientFunction, draws: Sequence[Arrays], *, seed: int) -> None:
        if not draws:
            raise LayoutError("draws: expected at least one parameter mapping, got none")
        for draw in draws:
            layout.validate(draw)
        self.layout, self._grad_fn, self._draws, self._seed = layout, grad_fn, draws, seed
        self.shapes = {name: tuple(value.shape) for name, value in draws[0].items()}
        self.fits: dict[str, BoundGroup] = {name: group.bind(self.shapes) for name, group in layout.items()}
        self.neurons = {name: fit.shape[-1] for name, fit in self.fits.items()}
        self.owners: dict[str, list[tuple[str, ParamView, BoundPattern]]] = {}
        for name, fit in self.fits.items():
            for role, view, bound in fit.views:
                if role != "outgoing":
                    self.owners.setdefault(view.param, []).append((name, view, bound))

        self._live: dict[str, list[list[bool]]] | None = None

    def replace(self, layout: Layout) -> "Prober":
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

    def silence(self, params: dict[str, Array], chosen: Chosen, level: float = 0.0) -> None:
        """Set the chosen neurons' incoming parameters to zero and their unscored ones to ``level``."""
        for name, neurons in chosen.items():
            own = [(view, bound, role) for role, view, bound in self.fits[name].views if role != "outgoing"]
            self._fill(
                params, name, neurons, [(v, bound, level if role == "unscored" else 0.0) for v, bound, role in own]
            )

    def cut(self, params: dict[str, Array], chosen: Chosen, outgoing: Mapping[str, Sequence[ParamView]]) -> None:
        """Set the entries that the chosen neurons feed to zero."""
        for name, neurons in chosen.items():
            views = outgoing.get(name, ())
            bounds = [self.layout[name].bind_view(view, self.shapes[view.param], self.neurons[name]) for view in views]
            self._fill(params, name, neurons, [(view, bound, 0.0) for view, bound in zip(views, bounds, strict=True)])

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
            xp = namespace(old)
            filled = xp.where(
                broadcastable_mask(mask, bound, view.owners),
                asarray_like(value, like=old, dtype=old.dtype),
                xp.reshape(old, bound.sizes),
            )
            params[view.param] = xp.reshape(filled, tuple(old.shape))

    def oppose(self, params: dict[str, Array], name: str, pairs: Iterable[tuple[int, int]]) -> None:
        """Make the second neuron of each pair the opposite of the first, so that the two add up to zero.

        A scale multiplies what differs from neuron to neuron, so it is set to zero and leaves the opposite shifts.
        """
        source, sign = list(range(self.neurons[name])), [1] * self.neurons[name]
        for first, second in pairs:
            source[second], sign[second] = first, -1
        for role, view, bound in self.fits[name].views:
            if role == "outgoing" or view.owners is not None:
                continue
            old = params[view.param]
            xp, axis = namespace(old), bound.names.index(NEURON)
            if role == "incoming" and is_vector(view):
                params[view.param] = xp.zeros_like(old)
                continue
            rows = xp.take(
                xp.reshape(old, bound.sizes), asarray_like(tuple(source), like=old, dtype=xp.int32), axis=axis
            )
            thin = tuple([size if i == axis else 1 for i, size in enumerate(bound.sizes)])
            signs = xp.reshape(xp.astype(asarray_like(tuple(sign), like=old, dtype=xp.int32), old.dtype), thin)
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
                others = tuple(i for i in range(len(gradient.shape)) if i != axis)
                live[param, axis] = to_list(magnitude_sum(gradient, others) != 0)
        return live

    def live_neurons(self, grads: Mapping[str, Array | None], name: str) -> list[bool]:
        """For each neuron of a group: is any gradient of its incoming or unscored parameters nonzero?"""
        live = [False] * self.neurons[name]
        for role, view, bound in self.fits[name].views:
            gradient = grads.get(view.param)
            if role == "outgoing" or gradient is None:
                continue
            sums, _ = neuron_sums(gradient, bound, view.owners, self.neurons[name])
            xp = namespace(sums)
            present = to_list(sums > 0 if sums.ndim == 1 else xp.any(sums > 0, axis=0))
            live = [a or b for a, b in zip(live, present, strict=True)]
        return live

    def live_by_draw(self, name: str) -> list[list[bool]]:
        """For each draw and neuron of a group: is there a gradient when nothing is silenced or cut?"""
        if self._live is None:
            self._live = {group: [] for group in self.layout}
            for probe in range(len(self._draws)):
                grads = self.gradients(self.draw(probe))
                for group, by_draw in self._live.items():
                    by_draw.append(self.live_neurons(grads, group))
        return self._live[name]

    def ever_live(self, name: str) -> list[bool]:
        """For each neuron of a group: has it a gradient in any draw, when nothing is silenced or cut?"""
        return [any(draws) for draws in zip(*self.live_by_draw(name), strict=True)]


def is_vector(view: ParamView) -> bool:
    """Whether a parameter has one entry a neuron: a scale, a shift, a bias."""
    return set(view.parsed.names) <= {NEURON, STACK}
