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
        """A report with no more than what is warned of: groups that are silent, not finite or reset."""
        flat, groups, last = join(self.scores.values()), [], 0
        nothing = torch.zeros_like(flat, dtype=torch.bool)
        chosen = join([self.masks[name] for name in self.scores]) if self.masks else nothing
        before = join([self.before[name] for name in self.scores]) if self.before else nothing
        rows = {name: score.numel() // max(score.shape[-1], 1) for name, score in self.scores.items()}
        sizes = [score.shape[-1] for name, score in self.scores.items() for _ in range(rows[name])]
        counts = _counts(torch.stack([~flat.isfinite(), flat == 0, chosen, before & (flat <= self.tau)]), sizes)
        for name, score in self.scores.items():
            size, first, last = score.shape[-1], last, last + rows[name]
            own = [each for each in counts[first:last] if each[0] or each[1] == size or each[2] or each[3]]
            if own:
                silent = size * sum(not bad and zero == size for bad, zero, _, _ in own)
                ill, again = size * sum(bad > 0 for bad, _, _, _ in own), sum(each[3] for each in own if not each[0])
                known = {
                    "silent": silent,
                    "nonfinite": ill,
                    "reset": sum(each[2] for each in own),
                    "reset_again": again,
                }
                groups.append(na.GroupActivity(name, score.numel(), 0, **known))  # type: ignore[arg-type]
        return na.ActivityReport(self.tau, tuple(groups))


def _counts(marks: Tensor, sizes: Sequence[int]) -> list[list[int]]:
    """Count what is marked in parts of these sizes along the last axis: one list for each part."""
    ends = torch.tensor([0, *sizes], dtype=torch.int64, device="cpu").cumsum(0)
    counts: list[list[int]] = torch.nn.functional.pad(marks.cumsum(1), (1, 0))[:, ends].diff(dim=1).T.tolist()
    return counts


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
