"""What one line of a file means: a record of :class:`JsonLines`, or of the reference agents."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuroactivity.escaping import printable
from neuroactivity.looking.text import RecordsError
from neuroactivity.looking.writing import VERSION

METHODS = {"inactive": "regrama", "dormant": "redo"}
"""How the reference agents name the two scores."""


@dataclass
class Group:
    """What a measurement says of a group. Whatever a record does not say is ``None``.

    Attributes:
        fraction: Inactive neurons over those that could be judged.
        scores: Score of every neuron, members of a stack one after the other; NaN where it is not finite.
        reset_neurons: Places of the neurons that were reset.
    """

    fraction: float | None
    neurons: int | None = None
    inactive: int | None = None
    nonfinite: int = 0
    reset: int | None = None
    again: int | None = None
    lowest: float | None = None
    median: float | None = None
    highest: float | None = None
    status: str = ""
    remark: str = ""
    scores: Sequence[float] | None = None
    reset_neurons: Sequence[int] = ()


@dataclass
class Measurement:
    """What a record says.

    Attributes:
        step: ``None`` where the record does not say.
        whole_run: Numbers of neurons reset, and reset again, since the run began, where that is what is recorded;
            NaN for what is not.
        merges: Whether another record of the same step belongs to it, and does not take its place.
    """

    groups: dict[str, Group]
    tau: float | None = None
    step: float | None = None
    network: str = ""
    method: str = ""
    run: int | None = None
    whole_run: tuple[float, float] | None = None
    merges: bool = False
    absent: list[str] = field(default_factory=list)


def read_record(record: Any) -> list[Measurement]:
    """Return the measurements that a record holds.

    Raises:
        RecordsError: If it is not of a known form.
    """
    if not isinstance(record, dict):
        raise RecordsError(f"expected a JSON object, got {type(record).__name__}")
    check_version(record)
    if isinstance(record.get("groups"), dict):
        return [_report(record)]
    if isinstance(record.get("scores"), dict) and "kind" in record:
        return [_scores(record)]
    if any(key.split("/")[0] in METHODS and key.count("/") > 1 for key in record):
        return _metrics(record)
    keys = ", ".join(printable(key, longest=30) for key in list(record)[:6])
    raise RecordsError(f"expected the record of a report, as ActivityReport.to_dict makes it, got the keys {keys}")


def check_version(record: Mapping[str, Any]) -> None:
    """Raise unless a record is of a version that is known; one that does not say is of the first."""
    version = record.get("version", VERSION)
    if version != VERSION:
        raise RecordsError(f"expected records of version {VERSION}, got {printable(repr(version), longest=20)}; "
                           "a newer neuroactivity may read them")  # fmt: skip


def _report(record: Mapping[str, Any]) -> Measurement:
    groups = {name: _group(_mapping(values, f"group {name!r}"), name) for name, values in record["groups"].items()}
    run = record.get("run")
    absent = record.get("absent") or []
    if not isinstance(absent, list) or not all(isinstance(name, str) for name in absent):
        raise RecordsError("absent: expected a list of names")
    return Measurement(
        groups,
        tau=_within(record.get("tau"), "tau", least=0),
        step=_within(record.get("step"), "step"),
        network=_text(record.get("network"), "network"),
        method=_text(record.get("method"), "method"),
        run=None if run is None else _count(run, "run"),
        absent=absent,
    )


def _group(values: Mapping[str, Any], name: str) -> Group:
    """Read a group of a report."""
    where = f"group {name!r}"
    neurons, inactive, nonfinite = [_count(values.get(key, 0), f"{where}, {key}") for key in
                                    ("neurons", "inactive", "nonfinite")]  # fmt: skip
    if inactive + nonfinite > neurons:
        raise RecordsError(f"{where}: expected at most {neurons} inactive neurons, got {inactive}")
    silent = _count(values.get("silent", 0), f"{where}, silent")
    alerts = [f"{count} {what}" for count, what in ((silent, "silent"), (nonfinite, "not finite")) if count]
    rows, places = values.get("scores"), values.get("reset_neurons")
    lengths = [neurons]
    scores: list[float] | None = None
    if rows is not None:
        members = [_numbers(row, f"{where}, scores") for row in _list(rows, f"{where}, scores")]
        scores, lengths = [score for row in members for score in row], [len(row) for row in members]
        if len(scores) != neurons:
            raise RecordsError(f"{where}: expected {neurons} scores, got {len(scores)}")
    counts = {key: None if values.get(key) is None else _count(values[key], f"{where}, {key}") for key in
              ("reset", "reset_again")}  # fmt: skip
    most = max([count for count in counts.values() if count is not None], default=0)
    if "neurons" in values and most > neurons:
        raise RecordsError(f"{where}: expected at most {neurons} neurons reset, got {most}")
    return Group(
        fraction=inactive / (neurons - nonfinite) if neurons > nonfinite else None,
        neurons=neurons,
        inactive=inactive,
        nonfinite=nonfinite,
        reset=counts["reset"],
        again=counts["reset_again"],
        status=_text(values.get("status"), f"{where}, status"),
        remark="; ".join(alerts) or _text(values.get("reason"), f"{where}, reason"),
        scores=scores,
        reset_neurons=_flat(places, lengths, f"{where}, reset_neurons") if places is not None and scores else (),
        **{key: _number(values.get(key), f"{where}, {key}") for key in ("lowest", "median", "highest")},
    )


def _scores(record: Mapping[str, Any]) -> Measurement:
    """Read a line of scores.jsonl of the reference agents."""
    tau = _within(record.get("tau"), "tau", least=0) or 0.0
    resets = _mapping(record.get("reset", {}), "reset")
    groups = {}
    for name, rows in record["scores"].items():
        where = f"group {name!r}, scores"
        members = [_numbers(row, where) for row in _list(rows, where)]
        sound = sorted(score for row in members if all(map(math.isfinite, row)) for score in row)
        neurons, inactive = sum(map(len, members)), sum(score <= tau for score in sound)
        places = _flat(resets.get(name, []), list(map(len, members)), f"group {name!r}, reset")
        groups[name] = Group(
            fraction=inactive / len(sound) if sound else None,
            neurons=neurons,
            inactive=inactive,
            nonfinite=neurons - len(sound),
            reset=len(places),
            lowest=sound[0] if sound else None,
            median=statistics.median(sound) if sound else None,
            highest=sound[-1] if sound else None,
            scores=[score for row in members for score in row],
            reset_neurons=places,
        )
    network, kind = _text(record.get("network"), "network"), _text(record["kind"], "kind")
    step = _within(record.get("step"), "step")
    return Measurement(groups, tau, step, network, METHODS.get(kind, kind), merges=True)


def _metrics(record: Mapping[str, Any]) -> list[Measurement]:
    """Read a line of metrics.jsonl of the reference agents, which has fractions and sums only."""
    found: dict[tuple[str, str], dict[str, Group]] = {}
    for key, value in record.items():
        kind, _, rest = key.partition("/")
        network, _, name = rest.partition("/")
        if kind in METHODS and name:
            fraction = _number(value, key)
            if fraction is not None and not 0 <= fraction <= 1:
                raise RecordsError(f"{key!r}: expected a fraction, got {fraction}")
            found.setdefault((network, METHODS[kind]), {})[name] = Group(fraction)
    resetting = dict(found.keys())  # the last method of each network is the one that resets
    step, measurements = _within(record.get("step"), "step"), []
    for (network, method), groups in found.items():
        keys = (f"neurons_reset/{network}", f"reset_again/{network}")
        sums = [_count(record[key], key) if key in record else math.nan for key in keys]
        measured = any(group.fraction is not None for group in groups.values())
        whole = (sums[0], sums[1]) if resetting[network] == method else None
        if measured:
            measurements.append(Measurement(groups, None, step, network, method, whole_run=whole))
    return measurements


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RecordsError(f"{what}: expected a JSON object, got {type(value).__name__}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise RecordsError(f"{what}: expected a list, got {type(value).__name__}")
    return value


def _text(value: Any, what: str) -> str:
    if value is not None and not isinstance(value, str):
        raise RecordsError(f"{what}: expected a text, got {type(value).__name__}")
    return value or ""


def _count(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise RecordsError(f"{what}: expected a whole number, got {printable(repr(value), longest=30)}")
    return value


def _number(value: Any, what: str) -> float | None:
    """Return a number, and ``None`` for one that is not finite."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or (isinstance(value, int) and abs(value) > 2**53):
        raise RecordsError(f"{what}: expected a number, got {printable(repr(value), longest=30)}")
    return float(value) if math.isfinite(value) else None


def _within(value: Any, what: str, least: float = -(2**52)) -> float | None:
    """Return a step or a threshold, which are of a size that can be drawn."""
    number = _number(value, what)
    if number is not None and not least <= number <= 2**52:  # one more can still be told from it
        raise RecordsError(f"{what}: expected a number from {least:g} to {2**52:g}, got {number:g}")
    return number


def _numbers(row: Any, what: str) -> list[float]:
    """Return the scores of one row, NaN for those that are not finite."""
    values = [_number(value, what) for value in _list(row, what)]
    return [math.nan if value is None else value for value in values]


def _flat(rows: Any, lengths: Sequence[int], what: str) -> list[int]:
    """Return places in rows as places in all rows, one after the other."""
    if len(_list(rows, what)) not in (0, len(lengths)):
        raise RecordsError(f"{what}: expected {len(lengths)} rows, got {len(rows)}")
    flat, before = [], 0
    for row, length in zip(rows, lengths, strict=False):
        for place in _list(row, what):
            if _count(place, what) >= length:
                raise RecordsError(f"{what}: expected places below {length}, got {place}")
            flat.append(before + place)
        before += length
    return flat
