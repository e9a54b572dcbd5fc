"""From the neuron groups that an adapter lists to a whole layout: redraw the parameters, discover, apply the policy."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from neuroactivity.arrays import Array, Arrays, namespace
from neuroactivity.discovery.probes import GradientFunction, is_vector
from neuroactivity.discovery.search import discover_outgoing
from neuroactivity.errors import ActivityWarning, LayoutError
from neuroactivity.groups import NeuronGroup
from neuroactivity.layout import Layout
from neuroactivity.schedule import draw_key

__all__ = ["Normal", "SharedNeurons", "find_layout", "redraw"]

SharedNeurons: TypeAlias = Literal["incoming", "skip"]
"""What a reset does to neurons that are read only together with other groups."""

Normal: TypeAlias = Callable[[Array, int], Array]
"""From an array and a key to standard normal numbers of the array's shape and dtype."""

_DRAWS = 16


def find_layout(
    groups: Sequence[NeuronGroup],
    grad_fn: GradientFunction,
    params: Arrays,
    *,
    normal: Normal,
    shared: SharedNeurons = "incoming",
    seed: int = 0,
) -> Layout:
    """Find what the listed groups feed; the part of ``layout_of`` that no framework matters to.

    Args:
        groups: The groups with their incoming and restored parameters.
        grad_fn: As for :func:`neuroactivity.discover_outgoing`.
        params: The model's parameters by name.
        normal: The library's normal random numbers.
        shared: Whether neurons that are read only together with others are reset, incoming parameters only, or skipped.
        seed: Seed of the draws and the probes.

    Raises:
        LayoutError: If a group does not fit the parameters.
        ValueError: If ``shared`` is neither of the two.
    """
    if shared not in ("incoming", "skip"):
        raise ValueError(f"shared: expected 'incoming' or 'skip', got {shared!r}")
    listed = Layout(groups)
    draws = [redraw(params, listed, normal, number=number, seed=seed) for number in range(_DRAWS)]
    found = discover_outgoing(listed, grad_fn, draws, seed=seed)
    unreached = [name for name, group in found.items() if group.reason == "no gradient reaches it"]
    if unreached:
        warnings.warn(
            f"no gradient reaches {', '.join(unreached)} from what the model returns; if another method uses them, "
            "what they read is unknown, and the layout may be wrong",
            ActivityWarning,
            stacklevel=3,
        )
    if shared == "incoming":
        return found
    return Layout(
        [
            NeuronGroup(**{**vars(group), "resettable": group.resettable and group.status != "shared"})
            for group in found.values()
        ]
    )


def redraw(params: Arrays, layout: Layout, normal: Normal, *, number: int, seed: int) -> dict[str, Array]:
    """Draw parameters with which few neurons are dead by chance.

    Weights are normal with a variance of one over the number of entries a neuron, biases and shifts near one, scales of
    size 0.5 to 1 with either sign. Parameters of no group are moved by a little noise.
    """
    drawn: dict[str, Array] = {}
    kinds = _kinds(params, layout)
    for name, old in params.items():
        xp, noise = namespace(old), normal(old, draw_key(seed, number, name))
        if noise.shape != old.shape or noise.dtype != old.dtype:
            raise LayoutError(f"parameter {name!r}: expected noise like it, got {noise.dtype} of shape {noise.shape}")
        match kinds.get(name):
            case "scale":
                drawn[name] = xp.sign(noise) * (0.5 + 0.5 * xp.tanh(xp.abs(noise)))
            case "shift":
                drawn[name] = 1 + 0.1 * noise
            case int(entries):
                drawn[name] = noise / math.sqrt(entries)
            case _:
                drawn[name] = old + 0.1 * noise
    return drawn


def _kinds(params: Arrays, layout: Layout) -> dict[str, str | int]:
    """Say of each parameter in a group whether it is a scale, a shift, or a weight of so many entries a neuron."""
    kinds: dict[str, str | int] = {}
    for group in layout.values():
        fit = group.fit({name: tuple(value.shape) for name, value in params.items()})
        for role, view, bound in fit.views:
            if role == "incoming":
                owned = math.prod(fit.shape) if view.owners is None else len(view.owners.index)
                kinds[view.param] = "scale" if is_vector(view) else max(1, math.prod(bound.sizes) // owned)
            elif role == "restored":
                kinds.setdefault(view.param, "shift")
    return kinds
