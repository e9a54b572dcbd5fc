"""What a measurement found, on the host: a report is made of it only if somebody reads one."""

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

import neuroactivity as na
from neuroactivity.report import build_report


class Joined(NamedTuple):
    """Tensors by group name, joined to a flat one on the host: what is done to all of them is done once."""

    flat: Tensor
    shapes: Mapping[str, torch.Size]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Joined":
        """Join tensors."""
        flat = [value.reshape(-1) for value in tensors.values()]
        shapes = {name: value.shape for name, value in tensors.items()}
        return cls(torch.cat(flat).cpu() if flat else torch.zeros(0, device="cpu"), shapes)

    def parts(self) -> dict[str, Tensor]:
        """Part them again."""
        parts = torch.split(self.flat, [shape.numel() for shape in self.shapes.values()])
        return {name: each.view(shape) for (name, shape), each in zip(self.shapes.items(), parts, strict=True)}


@dataclass(frozen=True)
class Measurement:
    """Scores, and what was made of them.

    Attributes:
        layout: The neuron groups.
        tau: The threshold.
        scores: Scores by group name.
        masks: Masks of the neurons that are reset; a group may be absent.
        before: Masks of those that the previous reset reset, of the same groups.
    """

    layout: na.Layout
    tau: float
    scores: Mapping[str, Tensor]
    masks: Joined
    before: Joined

    @cached_property
    def report(self) -> na.ActivityReport:
        """The report."""
        masks, before = self.masks.parts(), self.before.parts()
        return build_report(self.scores, self.layout, self.tau, masks=masks, reset_before=before)

    @cached_property
    def reset(self) -> dict[str, list[int]]:
        """The numbers of the neurons that are reset, by group, copies of a stack counted through."""
        found, first, places = {}, 0, self.masks.flat.nonzero().flatten().tolist()
        for name, shape in self.masks.shapes.items():
            own = places[: bisect_left(places, first + shape.numel())]
            if own:
                found[name] = [place - first for place in own]
            first, places = first + shape.numel(), places[len(own) :]
        return found

    @cached_property
    def total(self) -> na.GroupActivity:
        """How many neurons are reset in all, and how many of those that were reset last are inactive again."""
        reset, before = sum(map(len, self.reset.values())), self.before
        if before.shapes and tuple(self.scores) != tuple(before.shapes):  # some groups are not measured any more
            before = Joined.of({name: before.parts()[name] for name in self.scores})
        again = int((before.flat & (self._flat <= self.tau)).sum()) if before.shapes else 0
        return na.GroupActivity("total", len(self._flat), 0, reset=reset, reset_again=again)

    def judged(self, without: Collection[str]) -> na.ActivityReport:
        """Report on the groups that cannot be judged: their scores are all zero, or not finite in one member."""
        rows = [(n, score.shape[-1]) for n, score in self.scores.items() for _ in range(math.prod(score.shape[:-1]))]
        sizes = torch.tensor([size for _, size in rows], dtype=torch.int64, device="cpu")
        highest = torch.segment_reduce(self._flat, "max", lengths=sizes).tolist() if rows else ()
        ill = {name for (name, _), score in zip(rows, highest, strict=True) if not score > 0} - set(without)
        scores = {name: score for name, score in self.scores.items() if name in ill}
        return build_report(scores, self.layout, self.tau) if ill else na.ActivityReport(self.tau, ())

    @cached_property
    def _flat(self) -> Tensor:
        return Joined.of(self.scores).flat


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the host, at once what is on one device and of one dtype: each copy waits for the device."""
    kinds: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kinds.setdefault((value.device, value.dtype), {})[name] = value
    copied: dict[str, Tensor] = {}
    for (device, _), alike in kinds.items():
        copied |= alike if device.type == "cpu" else Joined.of(alike).parts()
    return {name: copied[name] for name in tensors}
