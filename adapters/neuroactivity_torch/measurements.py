"""What a measurement found, on the host: a report is made of it only if somebody reads one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

import neuroactivity as na
from neuroactivity.report import build_report, outline


@dataclass(frozen=True)
class Measurement:
    """Scores, and what was made of them.

    Attributes:
        layout: The neuron groups.
        tau: The threshold.
        scores: Scores by group name.
        masks: Masks of the neurons that are reset; a group may be absent.
        before: Masks of those that the previous reset reset; a group may be absent.
    """

    layout: na.Layout
    tau: float
    scores: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    before: Mapping[str, Tensor]

    @cached_property
    def report(self) -> na.ActivityReport:
        """The report."""
        return build_report(self.scores, self.layout, self.tau, masks=self.masks, reset_before=self.before)

    @cached_property
    def outline(self) -> na.ActivityReport:
        """A report with no more than the counts that warnings are made of."""
        again: dict[str, Tensor] = {}
        if self.before and self.scores:
            low = join([scores <= self.tau for scores in self.scores.values()])
            again = part(low & join([self.before[name] for name in self.scores]), self.scores)
        counted = [{name: rows(value) for name, value in of.items()} for of in (self.scores, self.masks, again)]
        return outline(*counted)


def rows(tensor: Tensor) -> Any:
    """Return one row for each member of a stack, one where there is none."""
    return tensor.tolist() if tensor.ndim == 2 else [tensor.tolist()]


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the host, at once what is on one device and of one dtype: each copy waits for the device."""
    kinds: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kinds.setdefault((value.device, value.dtype), {})[name] = value
    copied: dict[str, Tensor] = {}
    for (device, _), alike in kinds.items():
        copied |= alike if device.type == "cpu" else part(join(alike.values()).cpu(), alike)
    return {name: copied[name] for name in tensors}


def join(tensors: Iterable[Tensor]) -> Tensor:
    """Join tensors to a flat one."""
    return torch.cat([value.reshape(-1) for value in tensors])


def part(flat: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Part what was joined from tensors of these shapes."""
    parts = torch.split(flat, [value.numel() for value in like.values()])
    return {name: each.view(value.shape) for (name, value), each in zip(like.items(), parts, strict=True)}
