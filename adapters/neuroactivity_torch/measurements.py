"""What a measurement found, on the host: a report is made of it only if somebody reads one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

import neuroactivity as na
from neuroactivity.report import build_report


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
        """A report with no more than what is warned of: what is silent, not finite, reset and reset again."""
        if not self.scores:
            return na.ActivityReport(self.tau, ())
        flat, rows = (
            join(self.scores.values()),
            {name: len(score.view(-1, score.shape[-1])) for name, score in self.scores.items()},
        )
        marks = {"bad": ~flat.isfinite(), "heard": flat != 0}
        if self.masks:
            marks["reset"] = join([self.masks[name] for name in rows])
        if self.before:
            marks["again"] = (flat <= self.tau) & join([self.before[name] for name in rows])
        sizes = [self.scores[name].shape[-1] for name, members in rows.items() for _ in range(members)]
        counts = dict(zip(marks, _counts(torch.stack(list(marks.values())), sizes), strict=True))
        groups, first = [], 0
        for name, members in rows.items():
            bad, heard, reset, again = [
                counts.get(mark, [0] * len(sizes))[first : first + members]
                for mark in ("bad", "heard", "reset", "again")
            ]
            first, size = first + members, self.scores[name].shape[-1]
            groups.append(
                na.GroupActivity(
                    name,
                    neurons=members * size,
                    inactive=0,
                    reset=sum(reset),
                    silent=size * sum(not a and not b for a, b in zip(bad, heard, strict=True)),
                    nonfinite=size * sum(map(bool, bad)),
                    reset_again=sum(a for a, b in zip(again, bad, strict=True) if not b),
                )
            )
        return na.ActivityReport(self.tau, tuple(groups))


def _counts(marks: Tensor, sizes: Sequence[int]) -> list[list[int]]:
    """Count what is marked in parts of these sizes along the last axis."""
    ends = torch.tensor(sizes, device="cpu").cumsum(0)
    upto = torch.nn.functional.pad(marks.cumsum(1), (1, 0))[:, ends]
    return [list(row) for row in upto.diff(dim=1, prepend=upto.new_zeros(len(marks), 1)).tolist()]


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
    flat = [value.reshape(-1) for value in tensors]
    return torch.cat(flat) if flat else torch.zeros(0, device="cpu")


def part(flat: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Part what was joined from tensors of these shapes."""
    parts = torch.split(flat, [value.numel() for value in like.values()])
    return {name: each.view(value.shape) for (name, value), each in zip(like.items(), parts, strict=True)}
