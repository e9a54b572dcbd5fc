"""What a wrapper remembers between measurements: magnitudes that are added up, and when each neuron was reset."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neuroactivity import Layout
from neuroactivity.wrapping import NEVER, advance, reset_before
from neuroactivity_torch.measurements import Joined


@dataclass
class Memory:
    """Arrays by group name, one number for each neuron.

    Attributes:
        sums: Magnitudes, or a user's scores, of the batches of the next score that have been seen, added up.
        batches: How many batches each group's sum is of.
        since: Measurements since each neuron was reset, on the host, for the groups that were ever measured.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)
    since: Joined = field(default_factory=lambda: Joined.of({}))

    def added(self, new: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Return the sums with those of one more batch, and their numbers of batches; a group may be absent."""
        fitting = {name for name, value in new.items() if self._fits(name, value)}
        sums = {name: self.sums[name].to(value) + value if name in fitting else value for name, value in new.items()}
        batches = {name: 1 + (self.batches[name] if name in fitting else 0) for name in new}
        return {**self.sums, **sums}, {**self.batches, **batches}

    def clear(self) -> None:
        """Begin a new score."""
        self.sums, self.batches = {}, {}

    def _fits(self, name: str, value: Tensor) -> bool:
        return name in self.sums and self.sums[name].shape == value.shape

    def chosen(self, scores: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> list[Joined]:
        """Join the neurons of masks, for all groups at once.

        Args:
            scores: Scores of the groups that are measured, on the host like everything here.
            masks: Masks by group name; a group may be absent.

        Returns:
            Masks of the neurons to reset; of those that the previous reset reset; and ``since`` after this reset.
        """
        since = self.seen(scores)
        none = {n: torch.zeros(s, dtype=torch.bool, device="cpu") for n, s in since.shapes.items() if n not in masks}
        given = Joined.of({name: none[name] if name in none else masks[name] for name in since.shapes})
        ages, chosen = {"": since.flat}, {"": given.flat.bool()}  # of no group at all it has no type of its own
        found = (chosen, reset_before(ages), advance(ages, chosen))
        return [since._replace(flat=each[""]) for each in found]

    def seen(self, scores: Mapping[str, Tensor]) -> Joined:
        """Return ``since`` with the groups that are measured for the first time, or have another size now."""
        new = {n: score for n, score in scores.items() if self.since.shapes.get(n) != score.shape}
        if not new:
            return self.since
        return Joined.of(self.since.parts() | {n: torch.full_like(s, NEVER, dtype=torch.int32) for n, s in new.items()})

    def state(self, layout: Layout) -> dict[str, dict[str, Any]]:
        """Copy all of it, in the order of the layout."""
        arrays = {"sums": self.sums, "since": self.since.parts()}
        copies = {key: {name: own[name].clone() for name in layout if name in own} for key, own in arrays.items()}
        return {**copies, "batches": dict(self.batches)}


def read_arrays(state: Any, layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, Tensor]]:
    """Return a copy of what :meth:`Memory.state` returned; a state of an older version has none of it.

    Raises:
        ValueError: If it is something else, or does not fit the layout.
    """
    checked: dict[str, dict[str, Tensor]] = {"sums": {}, "since": {}}
    for key, own in checked.items():
        given = state.get(key, {})
        if not isinstance(given, Mapping):
            raise ValueError(f"state: {key}: expected tensors by group name, got {given!r}")
        for name, value in given.items():
            if name not in layout:
                raise ValueError(f"state: {key}: group {name!r} is not in the layout")
            expected = layout[name].bind(shapes).shape
            counts = key == "since"
            fits = isinstance(value, Tensor) and tuple(value.shape) == expected
            if not fits or (value.dtype != torch.int32 if counts else not value.is_floating_point()):
                kind = "int32" if counts else "floating-point"
                raise ValueError(f"state: {key} of group {name!r}: expected {kind} numbers of shape {expected}")
            if bool((value < 0).any()):
                raise ValueError(f"state: {key} of group {name!r}: expected no negative numbers")
            own[name] = value.detach().clone() if key == "sums" else value.detach().to("cpu", copy=True)
    return checked


def read_batches(state: Mapping[str, Any], sums: Mapping[str, Tensor]) -> dict[str, int]:
    """Return of how many batches each sum of a state is; a state of an older version, which does not say, of one.

    Raises:
        ValueError: If it says something else than a number for each sum.
    """
    found = state.get("batches", dict.fromkeys(sums, 1))
    if not isinstance(found, Mapping) or found.keys() != sums.keys() or not all(map(_is_count, found.values())):
        raise ValueError(f"state: batches: expected a number of 1 or more for each group of sums, got {found!r}")
    return dict(found)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
