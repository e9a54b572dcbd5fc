"""The numbers that a page draws, thinned so that their size is bounded, whatever the runs'."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuroactivity.escaping import printable
from neuroactivity.looking.encoding import ACTIVE, UNKNOWN, base64_of, base64_of_shares, codes, histogram, score_map
from neuroactivity.looking.series import Column, Moment, Run, Track
from neuroactivity.looking.text import counted

LANES, PANELS = 8, 800
"""Runs on a page, and groups of all runs together."""
POINTS, CELLS, SCORES, PAIRS = 60_000, 1_200_000, 2_500_000, 200_000
"""On a page: points of all curves, cells of all maps, scores that are read for them, points of all quadrants."""
METHODS = {"regrama": "GraMa score", "redo": "tau-dormant score", "": "score"}


@dataclass
class Page:
    """What a page shows.

    Attributes:
        lanes: Names of the runs.
        sections: For each network and method, its tracks by the number of the run.
        notes: What was left out or thinned.
    """

    lanes: list[str]
    sections: dict[tuple[str, str], dict[int, Track]]
    notes: list[str] = field(default_factory=list)

    def groups(self, section: tuple[str, str]) -> list[str]:
        """Return the groups of a section that are shown."""
        names = dict.fromkeys(name for track in self.sections[section].values() for name in track.latest)
        tracks = sum(map(len, self.sections.values()))
        return list(names)[: max(1, PANELS // tracks)]


def arrange(runs: Sequence[Run]) -> Page:
    """Bring the tracks of all runs together by network and method."""
    places: dict[tuple[int, int | None], int] = {}
    page = Page([], {}, [note for run in runs for note in run.notes])
    left_out = set()
    for number, run in enumerate(runs):
        for (network, method, index), track in run.tracks.items():
            if (number, index) not in places and len(places) == LANES:
                left_out.add((number, index))
                continue
            lane = places.setdefault((number, index), len(places))
            if lane == len(page.lanes):
                page.lanes.append(_unlike(run.name if index is None else f"{run.name}, run {index}", page.lanes))
            page.sections.setdefault((network, method), {})[lane] = track
            if track.replaced:
                records = counted(track.replaced, "record")
                page.notes.append(f"{page.lanes[lane]}: {records} replaced by later records of the same steps.")
    if left_out:
        page.notes.append(f"A page shows {LANES} runs; left out: {counted(len(left_out), 'run')}.")
    page.sections = dict(sorted(page.sections.items(), key=lambda item: _rank(item[0], list(page.sections))))
    for section, tracks in page.sections.items():
        shown, there = len(page.groups(section)), len({name for track in tracks.values() for name in track.latest})
        if shown < there:
            page.notes.append(f"{title(section) or 'All groups'}: the first {shown} of {there} groups are shown.")
    return page


def _rank(section: tuple[str, str], sections: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """Keep the order of the networks, and let the GraMa score come first in each."""
    networks = [network for network, _ in sections]
    return networks.index(section[0]), list(METHODS).index(section[1]) if section[1] in METHODS else len(METHODS)


def title(section: tuple[str, str]) -> str:
    """Return the name of a network and of a method's score, as far as they are known."""
    network, method = section
    return " · ".join(filter(None, (printable(network), METHODS.get(method, printable(method)) if method else "")))


def figures(page: Page) -> dict[str, Any]:
    """Return everything that is drawn, as JSON values, and say in the notes what was thinned."""
    panels = sum(len(page.groups(section)) * len(tracks) for section, tracks in page.sections.items())
    neurons = sum(group.neurons or 0 for tracks in page.sections.values() for track in tracks.values()
                  for group in track.latest.values())  # fmt: skip
    cells = CELLS // max(panels, 1)
    columns = min(240, max(24, math.isqrt(cells)), max(12, SCORES // max(neurons, 1)))
    sizes = {"points": min(300, max(40, POINTS // max(panels, 1))), "columns": columns, "rows": cells // columns}
    sizes["rows"] = max(8, min(256, sizes["rows"]))
    sections, thinned = [], dict.fromkeys(("points", "columns", "rows"), False)
    for section, tracks in page.sections.items():
        names = page.groups(section)
        lanes = [_lane(lane, track, names, sizes, thinned) for lane, track in tracks.items()]
        sections.append({"title": title(section), "groups": list(map(printable, names)), "lanes": lanes})
    page.notes += _notes(sizes, thinned)
    return {"runs": page.lanes, "sections": sections, "quadrants": _quadrants(page, columns, max(panels, 1))}


def _notes(sizes: Mapping[str, int], thinned: Mapping[str, bool]) -> list[str]:
    """Say what was thinned."""
    texts = {
        "points": "Curves have at most {} points: a point is the mean of several measurements, and a band around the "
        "curve goes from the lowest to the highest of them.",
        "columns": "Maps and distributions show at most {} measurements, the last one among them.",
        "rows": "Maps have at most {} rows: in larger groups a row is the median of several neurons alike in score.",
    }
    return [text.format(sizes[key]) for key, text in texts.items() if thinned[key]]


def _lane(
    lane: int, track: Track, names: Sequence[str], sizes: Mapping[str, int], thinned: dict[str, bool]
) -> dict[str, Any]:
    """Return what is drawn of one run."""
    bins = _bins(track.moments, sizes["points"])
    thinned["points"] |= len(bins) < len(track.moments)
    order = {name: place for place, name in enumerate(track.latest)}
    columns = track.kept(sizes["columns"])
    thinned["columns"] |= 0 < len(columns) < len(track.moments)
    maps = {}
    for number, name in enumerate(names):
        at = [column for column in columns if name in column.scores]
        if at:
            maps[number] = _map(at, name, sizes["rows"])
            thinned["rows"] |= maps[number]["rows"] < maps[number]["neurons"]
    return {
        "run": lane,
        "tau": track.tau,
        "steps": [_number(moments[-1].step) for moments in bins],
        "total": _curve([[moment.total for moment in moments] for moments in bins]),
        "reset": [_sum([moment.total_reset for moment in moments]) for moments in bins],
        "again": [_sum([moment.total_again for moment in moments]) for moments in bins],
        "groups": {n: _group(bins, order[name]) for n, name in enumerate(names) if name in order},
        "maps": maps,
    }


def _bins(moments: Sequence[Moment], most: int) -> list[Sequence[Moment]]:
    """Share measurements out among bins, one after the other."""
    count = min(len(moments), most)
    return [moments[i * len(moments) // count : (i + 1) * len(moments) // count] for i in range(count)]


def _group(bins: Sequence[Sequence[Moment]], place: int) -> dict[str, Any]:
    """Return the curve of a group, and the neurons of it that were reset."""

    def at(values: Sequence[float]) -> float:
        return values[place] if place < len(values) else math.nan

    curve = _curve([[at(moment.fractions) for moment in moments] for moments in bins])
    return curve | {"reset": [_sum([at(moment.reset) for moment in moments]) for moments in bins]}


def _curve(bins: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return the mean of each bin, and where a bin has several values the lowest and the highest."""
    known = [[value for value in values if value == value] for values in bins]
    curve = {"y": [round(math.fsum(values) / len(values), 6) if values else None for values in known]}
    if any(len(values) > 1 for values in bins):
        curve["low"] = [round(min(values), 6) if values else None for values in known]
        curve["high"] = [round(max(values), 6) if values else None for values in known]
    return curve


def _map(columns: Sequence[Column], name: str, most: int) -> dict[str, Any]:
    """Return the scores of a group's neurons: a map, and a histogram for each measurement."""
    coded = [codes(column.scores[name], column.tau) for column in columns]
    drawn = score_map(coded, [column.resets.get(name, set()) for column in columns], most)
    shares = [share for column in coded for share in histogram(column)]
    steps = [_number(column.step) for column in columns]
    return drawn | {"neurons": len(coded[0]), "steps": steps, "bins": base64_of_shares(shares)}


def _quadrants(page: Page, most: int, panels: int) -> list[dict[str, Any]]:
    """Return, for each network of which both scores are recorded, every neuron by its two scores."""
    drawn = []
    for network in dict.fromkeys(network for network, _ in page.sections):
        by_gradient = page.sections.get((network, "regrama"), {})
        by_activation = page.sections.get((network, "redo"), {})
        pairs = {
            lane: _common(by_activation[lane].kept(most), track.kept(most))
            for lane, track in by_gradient.items()
            if lane in by_activation
        }
        for name in page.groups((network, "regrama")) if any(pairs.values()) else ():
            label = " · ".join(filter(None, (printable(network), printable(name))))
            for lane, columns in pairs.items():
                both = [(x, y) for x, y in columns if len(x.scores.get(name, ())) == len(y.scores.get(name, ())) > 0]
                if both:
                    values = {"title": label, "run": lane, "tau": [both[-1][0].tau, both[-1][1].tau]}
                    drawn.append(values | _pairs(both, name, PAIRS // panels))
    return drawn


def _common(activation: Sequence[Column], gradient: Sequence[Column]) -> list[tuple[Column, Column]]:
    """Return the scores of both methods at the steps at which both were measured."""
    columns = {column.step: column for column in activation}
    return [(columns[column.step], column) for column in gradient if column.step in columns]


def _pairs(both: Sequence[tuple[Column, Column]], name: str, room: int) -> dict[str, Any]:
    """Return neurons by both scores at a few measurements, and how many of all are of each kind."""
    neurons = len(both[0][1].scores[name])
    points = min(neurons, 160)
    few = min(len(both), max(1, room // points))
    shown = [both[(i + 1) * len(both) // few - 1] for i in range(few)]
    picked = [i * neurons // points for i in range(points)]
    at, xs, ys, kinds = [], bytearray(), bytearray(), []
    for column_x, column_y in shown:
        x, y = codes(column_x.scores[name], column_x.tau), codes(column_y.scores[name], column_y.tau)
        at.append(_number(column_y.step))
        xs += bytes([x[i] for i in picked])
        ys += bytes([y[i] for i in picked])
        kinds.append([0, 0, 0, 0])
        for a, b in zip(x, y, strict=True):
            if UNKNOWN not in (a, b):
                kinds[-1][2 * (a < ACTIVE) + (b < ACTIVE)] += 1
    return {"steps": at, "points": points, "neurons": neurons, "x": base64_of(xs), "y": base64_of(ys), "kinds": kinds}


def _unlike(name: str, others: Sequence[str]) -> str:
    """Return a name that no other run has."""
    names = (name, *(f"{name} ({number})" for number in range(2, LANES + 2)))
    return next(each for each in names if each not in others)


def _sum(values: Sequence[float]) -> int | None:
    known = [value for value in values if value == value]
    return round(sum(known)) if known else None


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value
