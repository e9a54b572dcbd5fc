"""What a run's records say over time."""

import bisect
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan
from typing import NamedTuple, TypeAlias

from neuroactivity.looking.forms import Group, Measurement
from neuroactivity.looking.text import RecordsError

KEPT = 240
"""Measurements whose scores are kept: at least so many where there are as many, and fewer than twice as many."""
LARGEST = 6_000_000
"""Scores of one network that are kept, so that memory is bounded."""
TRACKS, GROUPS, VALUES = 48, 10_000, 20_000_000
"""Networks and runs that are read of a file, groups of each, and counts that are kept of all groups over time."""

Key: TypeAlias = tuple[str, str, int | None]
"""Network, method and number of the run among several trained at once."""


class Moment(NamedTuple):
    """The counts of one measurement; the groups are those of the track, NaN for what is not known."""

    step: float
    fractions: "array[float]"
    reset: "array[float]"
    again: "array[float]"
    total: float
    total_reset: float
    total_again: float


@dataclass
class Column:
    """The scores of one measurement, and the neurons reset since the column before, by group."""

    place: int
    step: float
    tau: float
    scores: dict[str, "array[float]"]
    resets: dict[str, set[int]]


@dataclass
class Track:
    """The measurements of one network by one method.

    Attributes:
        latest: What was last found in each group, in the order in which they were first measured.
        moments: All measurements.
        columns: Measurements of which the scores are kept.
        replaced: Records that later ones have taken the place of.
    """

    key: Key
    latest: dict[str, Group] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    tau: float | None = None
    replaced: int = 0
    _stride: int = 1
    _last: Column | None = None
    _since: dict[str, set[int]] = field(default_factory=dict)
    _before: dict[str, set[int]] = field(default_factory=dict)
    _sums: tuple[float, float] = (0, 0)

    def add(self, found: Measurement) -> None:
        """Add a measurement; those of the same step and later ones are replaced by it.

        Raises:
            RecordsError: If a group has another number of neurons than before.
        """
        last = self.moments[-1].step if self.moments else 0
        step = last + 1 if found.step is None else found.step
        dropped = self._drop(step, replaced=not found.merges) if self.moments and step <= last else []
        for name, group in found.groups.items():
            if name in self.latest and self.latest[name].neurons != group.neurons:
                before = self.latest[name].neurons
                raise RecordsError(f"group {name!r}: expected {before} neurons, as before, got {group.neurons}")
        if found.merges:
            self._complete(found, dropped)
        self.latest |= found.groups
        if len(self.latest) > GROUPS:
            raise RecordsError(f"expected at most {GROUPS:,} groups of a network, got more")
        self.tau, self.absent = found.tau, found.absent
        self._keep(step, found)
        self.moments.append(self._moment(step, found))

    def _complete(self, found: Measurement, same_step: Sequence[Moment]) -> None:
        """Count the neurons that the latest reset reset and that are inactive again, and resets of the same step."""
        tau = found.tau or 0.0
        for name, group in found.groups.items():
            before = self._before.get(name, set()) if group.scores else set()
            group.again = sum(1 for place in before if (group.scores or ())[place] <= tau)
        if any(group.reset_neurons for group in found.groups.values()):
            self._before = {name: set(group.reset_neurons) for name, group in found.groups.items()}
        for moment in same_step:
            for name, reset, again in zip(self.latest, moment.reset, moment.again, strict=False):
                if name in found.groups and reset == reset and again == again:
                    group = found.groups[name]
                    group.reset, group.again = (group.reset or 0) + int(reset), (group.again or 0) + int(again)

    def _drop(self, step: float, *, replaced: bool) -> list[Moment]:
        """Remove the measurements from a step on, and return them."""
        place = bisect.bisect_left(self.moments, step, key=lambda moment: moment.step)
        dropped = self.moments[place:]
        self.replaced += len(dropped) * replaced
        del self.moments[place:]
        while self.columns and self.columns[-1].place >= place:
            column = self.columns.pop()
            if not replaced:
                _merge(self._since, column.resets)
        if self._last is not None and self._last.place >= place:
            self._last = None
        if replaced:
            self._since = {}
        if replaced and not place:  # the run starts anew, with other groups perhaps
            self.latest, self._before, self._sums, self._stride = {}, {}, (0, 0), 1
        return dropped

    def _keep(self, step: float, found: Measurement) -> None:
        """Keep the scores of one measurement in a few."""
        _merge(self._since, {name: set(group.reset_neurons) for name, group in found.groups.items()})
        scores = {name: array("d", group.scores) for name, group in found.groups.items() if group.scores}
        if not scores:
            return
        self._last = Column(len(self.moments), step, found.tau or 0.0, scores, self._since)
        if self._last.place % self._stride:
            return
        self.columns.append(self._last)
        self._since = {}
        most = min(2 * KEPT, max(8, LARGEST // sum(map(len, scores.values()))))
        if len(self.columns) >= most:
            self._stride *= 2
            self.columns = thinned(self.columns, self._stride)

    def kept(self, most: int) -> list[Column]:
        """Return at most so many measurements with scores, and the latest of all."""
        columns, stride = self.columns, self._stride
        while len(columns) >= most > 1:
            stride *= 2
            columns = thinned(self.columns, stride)
        latest = self.columns[-1:] if self._last is None else [self._last]
        return [*columns, *[column for column in latest if not columns or column.place > columns[-1].place]]

    def _moment(self, step: float, found: Measurement) -> Moment:
        groups = [found.groups.get(name) for name in self.latest]
        fractions, resets, agains = [
            array("d", [_or_nan(getattr(group, key, None)) for group in groups])
            for key in ("fraction", "reset", "again")
        ]
        reset, again = [sums([getattr(group, key) for group in found.groups.values()]) for key in ("reset", "again")]
        if found.whole_run:
            before = self._sums
            reset, again = [now - then for now, then in zip(found.whole_run, before, strict=True)]
            self._sums = found.whole_run
        return Moment(step, fractions, resets, agains, _total(found.groups), reset, again)


@dataclass
class Run:
    """A run: its tracks by network and method, and what is to be said about its records.

    Attributes:
        left_out: Measurements of more networks and runs than are read.
    """

    name: str
    tracks: dict[Key, Track] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: int = 0
    _values: int = 0

    def add(self, found: Measurement) -> None:
        """Add a measurement to its track.

        Raises:
            RecordsError: If it contradicts the earlier ones, or there are more than memory may hold.
        """
        key = (found.network, found.method, found.run)
        if key not in self.tracks and len(self.tracks) == TRACKS:
            self.left_out += 1
            return
        track = self.tracks.setdefault(key, Track(key))
        track.add(found)
        self._values += 20 + len(track.latest)
        if self._values > VALUES:
            raise RecordsError(f"expected at most {VALUES:,} values over time, got more; record fewer measurements")


def thinned(columns: Sequence[Column], stride: int) -> list[Column]:
    """Keep the measurements at the multiples of a stride; resets of those left out belong to the next that is kept."""
    kept: list[Column] = []
    since: dict[str, set[int]] = {}
    for column in columns:
        resets = {name: set(places) for name, places in column.resets.items()}
        _merge(since, resets)
        if column.place % stride == 0:
            kept.append(Column(column.place, column.step, column.tau, column.scores, since))
            since = {}
    return kept


def sums(counts: Sequence[float | None]) -> float:
    """Return the sum of what is known; NaN if nothing is."""
    known = [count for count in counts if count is not None]
    return float(sum(known)) if known else nan


def _total(groups: dict[str, Group]) -> float:
    """Return the fraction of all groups together; NaN if their sizes are not known."""
    inactive = sum(group.inactive or 0 for group in groups.values())
    judged = sum((group.neurons or 0) - group.nonfinite for group in groups.values())
    return inactive / judged if judged > 0 else nan


def _or_nan(value: float | None) -> float:
    return nan if value is None else float(value)


def _merge(sets: dict[str, set[int]], more: dict[str, set[int]]) -> None:
    for name, places in more.items():
        sets.setdefault(name, set()).update(places)
