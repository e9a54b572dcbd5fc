"""What is true of a test model: each group's status and the entries it feeds, by rules written by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

import neuroactivity as na

Owner = Callable[[int, int], int]
"""From a position along an axis and the number of neurons to the neuron that feeds it, -1 for none."""


@dataclass(frozen=True)
class Feed:
    """Along which axis of a parameter neurons are read, and which neuron each position reads."""

    axis: int = 1
    owner: Owner = lambda position, neurons: position if position < neurons else -1
    stacked: bool = False

    def mask(self, shape: tuple[int, ...], chosen: np.ndarray) -> np.ndarray:
        """The entries of a parameter that the chosen neurons feed; ``chosen`` is ``(neurons,)`` or ``(stack, ...)``."""
        owners = [self.owner(position, chosen.shape[-1]) for position in range(shape[self.axis])]
        rows = np.stack([chosen[..., owner] & (owner >= 0) for owner in owners], axis=-1)
        thin = [1] * len(shape)
        thin[self.axis] = shape[self.axis]
        if self.stacked:
            thin[0] = shape[0]
        return np.broadcast_to(rows.reshape(thin), shape)


def at(offset: int, axis: int = 1) -> Feed:
    """Neuron ``i`` is read at position ``offset + i``, as behind a concatenation."""
    return Feed(axis, lambda p, n: p - offset if 0 <= p - offset < n else -1)


def flipped(offset: int) -> Feed:
    """Neurons are read last to first, behind ``offset`` other positions."""
    return Feed(1, lambda p, n: n - 1 - (p - offset) if 0 <= p - offset < n else -1)


def channels_first(pixels: int) -> Feed:
    """A flatten that leaves the pixels of a channel together."""
    return Feed(1, lambda p, n: p // pixels)


CHANNELS_LAST = Feed(1, lambda p, n: p % n)
ROWS = Feed(0)
STACKED = Feed(1, stacked=True)


@dataclass(frozen=True)
class Truth:
    """What is true of a group.

    Args:
        statuses: The statuses that are right; more than one where it is a matter of words.
        feeds: How the parameters that it feeds read it. For ``through_norm`` what the normalisation feeds.
        partners: The groups that it multiplies; ``None`` where that is a matter of words.
        instead: Other entries that do as well, where nothing can tell them from ``feeds``.
    """

    statuses: tuple[str, ...]
    feeds: Mapping[str, Feed] = field(default_factory=dict)
    partners: tuple[str, ...] | None = ()
    instead: tuple[Mapping[str, Feed], ...] = ()


Target = str | tuple[str, Feed]


def _feeds(targets: tuple[Target, ...]) -> dict[str, Feed]:
    """Read a layer's name as the columns of its weight."""
    pairs = [(f"{target}.weight", Feed()) if isinstance(target, str) else target for target in targets]
    return dict(pairs)


def exclusive(*targets: Target, partners: tuple[str, ...] | None = ()) -> Truth:
    """Feeds the targets and nothing else: layers by name, or ``(parameter, feed)``."""
    return Truth(("exclusive",), _feeds(targets), partners)


def through_norm(*targets: Target) -> Truth:
    """Read by a normalisation alone, which feeds the targets."""
    return Truth(("through_norm",), _feeds(targets))


def partner(*names: str) -> Truth:
    """Multiplied with other groups and read by nothing else."""
    return Truth(("partner",), partners=names)


HEAD, SHARED, UNPROVED = Truth(("head",)), Truth(("shared",)), Truth(("unproved",))
NOT_RESET = Truth(("head", "unproved"))


@dataclass(frozen=True)
class Example:
    """A model, what it is called with, and the truth of each of its groups."""

    name: str
    make: Callable[[], nn.Module]
    inputs: tuple[Any, ...]
    truth: Mapping[str, Truth]
    options: Mapping[str, Any] = field(default_factory=dict)

    def model(self, seed: int = 0) -> nn.Module:
        """Build the model with seeded values."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.make()


Masks = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's parameters."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def claimed_masks(group: na.NeuronGroup, shapes: Shapes, chosen: np.ndarray) -> Masks:
    """The entries that the layout says the chosen neurons feed: what a reset from ones to ones sets to zero."""
    ones = {name: np.ones(shape) for name, shape in shapes.items()}
    alone = na.NeuronGroup(**{**vars(group), "partners": ()})
    written = na.reset(ones, ones, {group.name: chosen}, na.Layout([alone]))
    return {name: value == 0 for name, value in written.items() if (value == 0).any()}


def true_masks(feeds: Mapping[str, Feed], shapes: Shapes, chosen: np.ndarray) -> Masks:
    """The entries that the chosen neurons feed in truth."""
    masks = {name: feed.mask(shapes[name], chosen) for name, feed in feeds.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def differences(claimed: Masks, true: Masks) -> list[str]:
    """Name the parameters of which other entries are claimed than are true."""
    return [
        name
        for name in sorted({*claimed, *true})
        if name not in claimed or name not in true or not np.array_equal(claimed[name], true[name])
    ]


def wrong_neurons(group: na.NeuronGroup, truth: Truth, shapes: Shapes) -> list[str]:
    """Name the neurons of which the layout claims other outgoing entries than the true ones, with the parameters."""
    wrong = []
    shape = group.bind(shapes).shape
    for place in np.ndindex(shape):
        chosen = np.zeros(shape, dtype=bool)
        chosen[place] = True
        claimed = claimed_masks(group, shapes, chosen)
        ways = [differences(claimed, true_masks(feeds, shapes, chosen)) for feeds in (truth.feeds, *truth.instead)]
        if all(ways):
            wrong.append(f"{group.name}{list(place)}: {', '.join(ways[0])}")
    return wrong


def contradictions(layout: na.Layout, truth: Mapping[str, Truth], shapes: Shapes) -> list[str]:
    """Say in what a layout and the truth differ, group by group."""
    found = [f"{name}: in one of the two only" for name in sorted(set(layout) ^ set(truth))]
    for name in [name for name in truth if name in layout]:
        group, true = layout[name], truth[name]
        if group.status not in true.statuses:
            found.append(f"{name}: {group.status} ({group.reason}), not {' or '.join(true.statuses)}")
        if true.partners is not None and set(group.partners) != set(true.partners):
            found.append(f"{name}: partners {group.partners}, not {true.partners}")
        if group.outgoing or group.status in ("exclusive", "through_norm"):
            found += wrong_neurons(group, true, shapes)[:3]
    return found
