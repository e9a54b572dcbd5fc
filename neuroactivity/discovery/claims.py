"""What a search has found out so far: the evidence of each group, and the claims that have been made."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from neuroactivity.discovery.decoding import Axis, AxisReaders
from neuroactivity.discovery.links import Evidence
from neuroactivity.layout import Layout
from neuroactivity.layout.groups import NeuronGroup, ParamView

__all__ = ["Claim", "Known", "Status", "name_some"]

Status: TypeAlias = Literal["exclusive", "through_norm", "shared", "partner", "head", "unproved"]
"""How a group is read; :mod:`neuroactivity.discovery` says which file claims which status."""


class Claim(NamedTuple):
    """What a stage says of a group: how it is read, why, and what it feeds."""

    group: NeuronGroup
    status: Status
    reason: str
    outgoing: Iterable[ParamView] = ()


@dataclass
class Known:
    """What is known so far: probing stages write the evidence, the others read it and make claims.

    Attributes:
        layout: The groups as they were listed.
        evidence: What the probes say of each group.
        claims: The claims, by group.
        bias: The bias that silences neurons at present.
        readers: What each axis reads, from the last probes that silenced every group independently.
        examined: The groups whose evidence the last probing stage has renewed.
        ambiguous: Groups of which it cannot be told what reads them, for want of biases.
    """

    layout: Layout
    evidence: dict[str, Evidence]
    claims: dict[str, Claim] = field(default_factory=dict)
    bias: float = 0.0
    readers: dict[Axis, AxisReaders] = field(default_factory=dict)
    examined: list[str] = field(default_factory=list)
    ambiguous: set[str] = field(default_factory=set)

    def accept(self, claims: Iterable[Claim]) -> None:
        """Write claims down one by one, so that a stage knows of each when it makes the next."""
        for claim in claims:
            self.claims[claim.group.name] = claim

    def open(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the groups of which nothing is claimed yet, of all or of the named ones."""
        return [name for name in (self.layout if names is None else names) if name not in self.claims]

    def status(self, name: str) -> Status | None:
        """Return the status that is claimed of a group, if any."""
        return self.claims[name].status if name in self.claims else None


def name_some(names: Iterable[object], most: int = 4) -> str:
    """Name the first few of several.

    Example:
        >>> name_some(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    words = list(map(str, names))
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
