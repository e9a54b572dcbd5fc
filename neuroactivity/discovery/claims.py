"""The words of a search: what the probes say of a group (:class:`Evidence`) and what is claimed of it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from neuroactivity.discovery.decoding import Axis, AxisReaders, Feeds
from neuroactivity.layout import Layout, NeuronGroup, ParamView

Status: TypeAlias = Literal["listed", "exclusive", "through_norm", "shared", "partner", "head", "unproved"]
"""How a group is read; :mod:`neuroactivity.discovery` says which file claims which status."""


class Claim(NamedTuple):
    """What a stage says of a group: how it is read, why, and what it feeds."""

    group: NeuronGroup
    status: Status
    reason: str
    outgoing: Sequence[ParamView] = ()


Claims: TypeAlias = Iterable[Claim]
"""What a stage returns; a stage that only probes returns none."""


@dataclass(frozen=True)
class Link:
    """Neurons of a group feed positions along an axis of a parameter.

    Attributes:
        view: The parameter in the group that it belongs to.
        axis: The axis.
        feeds: Which neuron feeds which position.
        undecided: Positions that could not be decided.
        one_to_one_with: The group whose neurons lie along that axis, as in a depthwise convolution; else empty.
    """

    view: ParamView
    axis: int
    feeds: Feeds
    undecided: frozenset[int]
    one_to_one_with: str = ""

    @property
    def where(self) -> Axis:
        """The parameter's name and the axis."""
        return self.view.param, self.axis


@dataclass
class Evidence:
    """What the probes say of a group.

    Attributes:
        links: What its neurons feed.
        norms: The groups of scales that its neurons feed one to one.
        parts: Those of which they feed a part, as in a concatenation: which neuron feeds which position.
        gates: The groups that lose weights and biases alike when its neurons are silent.
        complete: Whether everything that was read is written down above, and not too little to tell from chance.
    """

    links: list[Link] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    parts: dict[str, Feeds] = field(default_factory=dict)
    gates: set[str] = field(default_factory=set)
    complete: bool = True

    @property
    def one_to_one(self) -> list[str]:
        """The groups that its neurons feed one to one."""
        return [*self.norms, *[link.one_to_one_with for link in self.links if link.one_to_one_with]]


@dataclass
class Known:
    """What is known so far: stages that probe write the evidence, stages that claim read it.

    Attributes:
        layout: The groups as they were listed.
        evidence: What the probes say of each group.
        claims: The claims, by group.
        bias: The bias that silences neurons at present.
        center: Around which value the neurons in front of a normalisation lie at present.
        readers: What each axis reads, from the last probes that silenced every group independently.
        examined: The groups whose evidence the last probes have renewed.
        ambiguous: Groups of which it cannot be told what reads them, for want of biases.

    Example:
        >>> import neuroactivity as na
        >>> known = Known(na.Layout([na.dense(name, weight=(f"{name}.weight", "neuron in")) for name in ("q", "k")]))
        >>> known.evidence["q"].gates.add("k")
        >>> known.evidence["k"].gates.add("q")
        >>> known.accept([Claim(known.layout["q"], "partner", "multiplies k")])
        >>> known.open(), known.status("q"), known.partners("q")
        (['k'], 'partner', {'k'})
    """

    layout: Layout
    evidence: dict[str, Evidence] = field(default_factory=lambda: defaultdict(Evidence))
    claims: dict[str, Claim] = field(default_factory=dict)
    bias: float = 0.0
    center: float = 0.0
    readers: dict[Axis, AxisReaders] = field(default_factory=dict)
    examined: list[str] = field(default_factory=list)
    ambiguous: set[str] = field(default_factory=set)

    def accept(self, claims: Claims) -> None:
        """Write claims down one by one, so that a stage knows of each when it makes the next."""
        for claim in claims:
            self.claims[claim.group.name] = claim

    def open(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the groups of which nothing is claimed yet, of all or of the named ones."""
        return [name for name in (self.layout if names is None else names) if name not in self.claims]

    def status(self, name: str) -> Status | None:
        """Return the status that is claimed of a group, if any."""
        return self.claims[name].status if name in self.claims else None

    def partners(self, name: str) -> set[str]:
        """Return the groups that a group multiplies: each loses its weights and biases when the other is silent."""
        return {gated for gated in self.evidence[name].gates if name in self.evidence[gated].gates}


def name_some(names: Iterable[object], most: int = 4) -> str:
    """Name the first few of several.

    Example:
        >>> name_some(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    words = list(map(str, names))
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
