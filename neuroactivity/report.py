"""What a measurement found, for a person, a logger or a file."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from neuroactivity.arrays import Arrays
from neuroactivity.counts import Rows, count_again, count_neurons, mask_rows, rows_of
from neuroactivity.errors import ActivityWarning, LayoutError
from neuroactivity.layout import Layout
from neuroactivity.tables import format_table

_WORDS = ("group", "status", "remark")
_SUMMED = ("neurons", "inactive", "silent", "nonfinite")


@dataclass(frozen=True)
class GroupActivity:
    """What a measurement found in one neuron group, all members of a stack together.

    Attributes:
        name: Name of the group.
        neurons: Number of neurons.
        inactive: Neurons with a score of at most tau.
        reset: Neurons that the mask selected; ``None`` if there was no mask.
        lowest: Lowest score; ``None`` if no score is finite.
        median: Median of the finite scores; ``None`` if there is none.
        highest: Highest score; ``None`` if no score is finite.
        silent: Neurons in groups (or stack members) whose scores are all zero. They count as inactive.
        nonfinite: Neurons in groups (or stack members) whose scores are not finite. They count as neither.
        status: How the group's outgoing parameters are known; ``None`` for a layout written by hand.
        reason: Why it has that status.
        reset_again: Neurons that the previous reset reset and that are inactive now, so that it did not last; ``None``
            if it is not known which.
        scores: Each neuron's score, in one row for each member of the stack (one row where there is no stack).
        mask: Which neurons were reset, in such rows; ``None`` if there was no mask.
    """

    name: str
    neurons: int
    inactive: int
    reset: int | None = None
    lowest: float | None = None
    median: float | None = None
    highest: float | None = None
    silent: int = 0
    nonfinite: int = 0
    status: str | None = None
    reason: str = ""
    reset_again: int | None = None
    scores: Rows[float] = field(default=(), repr=False, compare=False)
    mask: Rows[bool] | None = field(default=None, repr=False, compare=False)

    @property
    def inactive_fraction(self) -> float:
        """Inactive neurons over those that could be judged; NaN where none could."""
        judged = self.neurons - self.nonfinite
        return self.inactive / judged if judged else math.nan

    @property
    def alert(self) -> str:
        """What keeps the group, or members of its stack, from being judged; empty if nothing does."""
        alerts = []
        for count, what in ((self.silent, "silent: all scores zero"), (self.nonfinite, "not finite: NaN or Inf")):
            if count:
                alerts.append(what if count == self.neurons else f"{what} in {count} of {self.neurons} neurons")
        return "; ".join(alerts)


@dataclass(frozen=True)
class ActivityReport(Mapping[str, GroupActivity]):
    """What a measurement found in every neuron group.

    ``str(report)`` is a table for a person, :meth:`scalars` a flat dictionary for any logger, :meth:`to_dict` JSON. It
    is a mapping of group name to what was found there, as in ``report["fc1"]`` or ``report.items()``.

    Attributes:
        tau: Threshold at or below which a neuron counts as inactive.
        groups: The groups that were measured, in the order of the layout.
        absent: Names of the layout's groups that were not measured: frozen, unused, or trained by another optimizer.
        run: Number of the run among several that are trained at once; ``None`` for one alone.
    """

    tau: float
    groups: tuple[GroupActivity, ...]
    absent: tuple[str, ...] = ()
    run: int | None = None

    def __getitem__(self, name: str) -> GroupActivity:
        return {group.name: group for group in self.groups}[name]

    def __iter__(self) -> Iterator[str]:
        return iter([group.name for group in self.groups])

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def total(self) -> GroupActivity:
        """All groups together."""
        sums: dict[str, Any] = {key: sum(getattr(group, key) for group in self.groups) for key in _SUMMED}
        for key in ("reset", "reset_again"):
            known = [getattr(group, key) for group in self.groups if getattr(group, key) is not None]
            sums[key] = sum(known) if known else None
        return GroupActivity("total", **sums)

    @property
    def alerts(self) -> dict[str, str]:
        """What keeps groups from being judged, by group name; empty if all is well."""
        return {group.name: group.alert for group in self.groups if group.alert}

    def scalars(self, prefix: str = "neuroactivity") -> dict[str, float]:
        """Return a flat dictionary for any logger.

        Args:
            prefix: What every key begins with.

        Returns:
            ``{prefix}/{group}/inactive_fraction`` for every measured group (NaN where it could not be judged), and the
            totals ``{prefix}/inactive_fraction``, ``/neurons``, ``/inactive``, ``/silent``, ``/nonfinite`` and, where
            they are known, ``/reset`` and ``/reset_again``.

        Example:
            >>> report = ActivityReport(tau=0.0, groups=(GroupActivity("fc", neurons=4, inactive=1),))
            >>> report.scalars("actor")["actor/fc/inactive_fraction"]
            0.25
        """
        values = {f"{prefix}/{group.name}/inactive_fraction": group.inactive_fraction for group in self.groups}
        total = self.total
        values[f"{prefix}/inactive_fraction"] = total.inactive_fraction
        counts = {key: getattr(total, key) for key in (*_SUMMED, "reset", "reset_again")}
        return values | {f"{prefix}/{key}": float(count) for key, count in counts.items() if count is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values: ``None``, never NaN."""
        groups = {group.name: _record(group) for group in self.groups}
        record = {"tau": self.tau, "groups": groups, "total": _record(self.total), "absent": list(self.absent)}
        return record if self.run is None else record | {"run": self.run}

    def __str__(self) -> str:
        shown = {"reset": "reset"} | ({} if self.total.reset_again is None else {"reset_again": "again"})
        counts, scores = ("neurons", "inactive", "", *shown.values()), ("lowest", "median", "highest")
        header = ("group", *counts, *scores, "status", "remark")
        remarks = [f"! {group.alert}" if group.alert else group.reason for group in self.groups]
        rows = [_row(group, tuple(shown), remark) for group, remark in zip(self.groups, remarks, strict=True)]
        rows.append(_row(self.total, tuple(shown), ""))
        *lines, total = format_table(header, rows, words=_WORDS)
        notes = [f"inactive: score <= {self.tau:g}"]
        if self.total.reset_again is not None:
            notes.append("again: reset before, and inactive now")
        if self.run is not None:
            notes.append(f"run: {self.run}")
        if self.absent:
            notes.append(f"not measured: {', '.join(self.absent)}")
        return "\n".join([*lines, lines[1], total, *notes])


def _record(group: GroupActivity) -> dict[str, Any]:
    """One group as JSON values, without its name and what is known of each neuron."""
    fraction = group.inactive_fraction
    left_out = ("name", "scores", "mask")
    record = {item.name: getattr(group, item.name) for item in fields(group) if item.name not in left_out}
    return record | {"inactive_fraction": None if math.isnan(fraction) else fraction}


def _row(group: GroupActivity, shown: Sequence[str], remark: str) -> tuple[str, ...]:
    """One group as the cells of a table, with the counts of resets that are ``shown`` and a remark."""
    fraction = group.inactive_fraction
    share = "n/a" if math.isnan(fraction) else f"{100 * fraction:.1f}%"
    resets = ["" if (count := getattr(group, name)) is None else str(count) for name in shown]
    scores = ["" if score is None else f"{score:.3g}" for score in (group.lowest, group.median, group.highest)]
    return (group.name, str(group.neurons), str(group.inactive), share, *resets, *scores, group.status or "", remark)


def summarize(
    scores: Arrays,
    layout: Layout,
    tau: float = 0.01,
    *,
    masks: Arrays | None = None,
    reset_before: Arrays | None = None,
) -> ActivityReport:
    """Summarize scores, and the masks made of them, for a person, a logger or a file.

    This copies the scores to the host. It warns of groups that are silent or not finite, in one
    :class:`neuroactivity.ActivityWarning`.

    Args:
        scores: Scores by group name.
        layout: The neuron groups. Those without scores are named as absent.
        tau: Threshold at or below which a neuron counts as inactive.
        masks: Masks by group name, to count resets. A group that is not resettable counts none.
        reset_before: Masks by group name of the previous reset, to count those of its neurons that are inactive again.

    Returns:
        The report.

    Raises:
        LayoutError: If scores or masks name a group that the layout does not have.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> layout = na.Layout([na.dense("fc", weight=("fc.weight", "neuron in"))])
        >>> na.summarize({"fc": np.array([0.0, 2.0, 0.005, 1.995])}, layout)["fc"].inactive
        2
    """
    report = build_report(scores, layout, tau, masks=masks, reset_before=reset_before)
    warn_of_alerts(report, set(), stacklevel=2)
    return report


def build_report(
    scores: Arrays,
    layout: Layout,
    tau: float,
    *,
    masks: Arrays | None = None,
    reset_before: Arrays | None = None,
) -> ActivityReport:
    """Do what :func:`summarize` does, without a warning."""
    unknown = [name for name in (*scores, *(masks or ()), *(reset_before or ())) if name not in layout]
    if unknown:
        raise LayoutError(f"group {unknown[0]!r} is not in the layout; there are {', '.join(list(layout)[:8])}")
    groups = []
    for name, group in layout.items():
        if name not in scores:
            continue
        rows, low = rows_of(scores[name]), rows_of(scores[name] <= float(tau))
        mask, before = [mask_rows(given, group, rows) for given in (masks, reset_before)]
        groups.append(
            GroupActivity(
                name=name,
                reset=None if mask is None else sum(map(sum, mask)),
                reset_again=None if before is None else count_again(rows, low, before),
                status=group.status,
                reason=group.reason,
                scores=rows,
                mask=mask,
                **count_neurons(rows, low),
            )
        )
    return ActivityReport(float(tau), tuple(groups), tuple(name for name in layout if name not in scores))


def latest_scalars(report: ActivityReport | None, layout: Layout, prefix: str) -> dict[str, float]:
    """Return a report's scalars, with NaN for groups and totals that it does not tell, or everything without one."""
    totals = ("inactive_fraction", *_SUMMED, "reset", "reset_again")
    names = [*(f"{name}/inactive_fraction" for name in layout), *totals]
    return {f"{prefix}/{name}": math.nan for name in names} | ({} if report is None else report.scalars(prefix))


def warn_of_alerts(report: ActivityReport, warned: set[str], *, stacklevel: int) -> None:
    """Warn of the groups that could not be judged and have not been ``warned`` of, and add them to these."""
    alerts = {name: why for name, why in report.alerts.items() if name not in warned}
    warned |= set(alerts)
    if alerts:
        what = ", ".join(f"{name} ({why})" for name, why in alerts.items())
        warnings.warn(f"neurons could not be judged: {what}", ActivityWarning, stacklevel=stacklevel + 1)
