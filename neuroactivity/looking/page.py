"""One HTML file that shows runs: it needs no network and no other file, and obeys nothing that a record says."""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from html import escape
from importlib import resources

import neuroactivity
from neuroactivity.escaping import printable
from neuroactivity.looking.figures import Page, arrange, figures, title
from neuroactivity.looking.forms import Group
from neuroactivity.looking.series import Run, Track, sums
from neuroactivity.looking.text import counted, percent, short, stepped

_BAR = (
    '<svg class="bar" viewBox="0 0 60 8" aria-hidden="true"><rect width="60" height="8"/>'
    '<rect width="{:.1f}" height="8"/></svg>'
)
_COLUMNS = ("run", "group", "neurons", "inactive", "share", "reset", "again", "lowest", "median", "highest", "remark")


def build_page(runs: Sequence[Run]) -> str:
    """Return the page of one run or more, as HTML.

    Args:
        runs: The runs; the first eight are shown.
    """
    page = arrange(runs)
    data = figures(page)
    style, script = _asset("page.css"), _asset("page.js")
    name = " · ".join(map(printable, page.lanes))
    parts = {
        "policy": f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'",
        "title": escape(name),
        "style": style,
        "facts": "".join(_facts(page, lane) for lane in range(len(page.lanes))),
        "table": _table(page),
        "figures": "".join(_section(*words) for words in _SECTIONS if _is_there(words[0], data)),
        "missing": "".join(f"<p>{left}</p>" for name, *_, left in _SECTIONS if left and not _is_there(name, data)),
        "notes": "".join(f"<li>{escape(printable(note, longest=400))}</li>" for note in page.notes),
        "version": neuroactivity.__version__,
        "data": _inert(json.dumps(data, allow_nan=False, separators=(",", ":"))),
        "script": script,
    }
    first, *rest = _asset("page.html").split("{{")
    pieces = [piece.split("}}", 1) for piece in rest]
    return first + "".join([parts[key] + text for key, text in pieces])


_SECTIONS = (
    (
        "curves",
        "Inactive neurons",
        "Share of neurons with a score of at most tau. Ticks below a panel mark measurements at which neurons were "
        "reset, a row of ticks for each run.",
        "",
    ),
    (
        "resets",
        "Reset, and reset again",
        "Neurons reset at each measurement (outline), and those of the previous reset that are inactive now (filled): "
        "their reset did not last.",
        "Resets are not drawn: the records hold none.",
    ),
    (
        "maps",
        "The score of every neuron",
        "A row is a neuron, those of the lowest scores on top; time goes from left to right. A ring is a reset.",
        "Maps and distributions of scores are left out: the records do not hold the score of each neuron, which "
        "<code>neuroactivity.JsonLines</code> records.",
    ),
    (
        "scores",
        "How scores are distributed",
        "Neurons by score at the chosen step, on a logarithmic scale; the mean of a group is 1. Hatched: at most tau. "
        "Heights go with the square root, so that single neurons are seen.",
        "",
    ),
    (
        "quadrants",
        "Two scores, four kinds",
        "Every neuron by its tau-dormant score (across) and its GraMa score (up) at the chosen step. Dotted lines are "
        "the thresholds; the figures in the corners count neurons.",
        "Quadrants are left out: they need the scores of both methods, GraMa and tau-dormant, of the same network at "
        "the same steps.",
    ),
)
"""Name, heading and caption of each section of figures, and what is said where there is nothing to draw."""


def _is_there(name: str, data: dict[str, object]) -> bool:
    """Whether there is something to draw."""
    lanes = [lane for section in data["sections"] for lane in section["lanes"]]  # type: ignore[attr-defined]
    return {
        "curves": True,
        "resets": any(any(lane["reset"]) for lane in lanes),
        "maps": any(lane["maps"] for lane in lanes),
        "scores": any(lane["maps"] for lane in lanes),
        "quadrants": bool(data["quadrants"]),
    }[name]


def _section(name: str, heading: str, caption: str, _: str) -> str:
    head = f'<h2 id="{name}-heading">{heading}</h2><p class="caption">{caption}</p>'
    body = f'<div class="legend" id="{name}-legend"></div><div class="panels" id="{name}"></div>'
    return f'<section aria-labelledby="{name}-heading">{head}{body}</section>'


def _facts(page: Page, lane: int) -> str:
    """Return what is to be known of a run at a glance."""
    tracks = {section: tracks[lane] for section, tracks in page.sections.items() if lane in tracks}
    cards = "".join(_card(title(section), track) for section, track in tracks.items())
    swatch = f'<svg class="swatch" data-run="{lane}" aria-hidden="true"></svg>'
    return f'<article class="run"><h2>{swatch}{escape(printable(page.lanes[lane]))}</h2>{cards}</article>'


def _card(name: str, track: Track) -> str:
    """Return the facts of one network by one method."""
    last = track.moments[-1]
    groups = list(track.latest.values())
    neurons = sum(group.neurons or 0 for group in groups)
    reset, again = [sums([_known(getattr(m, key)) for m in track.moments]) for key in ("total_reset", "total_again")]
    sizes = f"of {counted(neurons, 'neuron')} in {counted(len(groups), 'group')}" if neurons else "sizes not recorded"
    facts = [("inactive", percent(_known(last.total)), sizes)]
    facts.append(("reset", f"{reset:,.0f}" if reset > 0 else "none", "neurons in all"))
    if reset > 0 and again == again:
        facts.append(("reset again", f"{again:,.0f}", "inactive soon after"))
    span = f"{stepped(track.moments[0].step)} to {stepped(last.step)}"
    facts.append(("measured", f"{len(track.moments):,}", f"times, steps {span}"))
    facts.append(("tau", "n/a" if track.tau is None else f"{track.tau:g}", "inactive at or below"))
    items = "".join(f"<div><dt>{what}</dt><dd>{value}</dd><dd>{more}</dd></div>" for what, value, more in facts)
    absent = escape(printable(", ".join(track.absent), longest=400))
    note = f'<p class="caption">Not measured: {absent}</p>' if absent else ""
    return (f"<h3>{escape(name)}</h3>" if name else "") + f"<dl>{items}</dl>{note}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _table(page: Page) -> str:
    """Return the table of groups at the last measurement of each run, without columns of which nothing is known."""
    parts: dict[str, list[list[str]]] = {}
    for section, tracks in page.sections.items():
        rows = parts.setdefault(title(section), [])
        for group in page.groups(section):
            for lane, track in tracks.items():
                if group in track.latest:
                    run = page.lanes[lane] if len(page.lanes) > 1 else ""
                    rows.append(_cells(run, group, track.latest[group]))
    every = [row for rows in parts.values() for row in rows]
    shown = [place for place, name in enumerate(_COLUMNS) if name == "group" or any(row[place] for row in every)]
    head = "".join(f'<th scope="col"{_word(place)}>{_COLUMNS[place]}</th>' for place in shown)
    body = []
    for name, rows in parts.items():
        if name:
            body.append(f'<tr class="part"><th colspan="{len(shown)}" scope="rowgroup">{escape(name)}</th></tr>')
        body += [f"<tr>{''.join(_cell(place, row[place]) for place in shown)}</tr>" for row in rows]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _cells(run: str, name: str, group: Group) -> list[str]:
    """Return the cells of a group."""
    bar = "" if group.fraction is None else _BAR.format(60 * group.fraction)
    share = f'{bar}<span class="share">{percent(group.fraction)}</span>'
    counts, resets = [_whole(group.neurons), _whole(group.inactive)], [_whole(group.reset), _whole(group.again)]
    run, name = escape(printable(run)), escape(printable(name))
    remark = escape(printable("; ".join(filter(None, (group.status, group.remark))), longest=400))
    return [run, name, *counts, share, *resets, *map(short, (group.lowest, group.median, group.highest)), remark]


def _cell(place: int, text: str) -> str:
    element = 'th scope="row"' if _COLUMNS[place] == "group" else "td"
    return f"<{element}{_word(place)}>{text}</{element[:2]}>"


def _word(place: int) -> str:
    """Return what sets the cells of a column to the left, where it holds words."""
    return ' class="word"' if _COLUMNS[place] in ("run", "group", "remark") else ""


def _whole(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _asset(name: str) -> str:
    return resources.files("neuroactivity.looking").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the hash by which a browser knows the one style and the one script that the page may use."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _inert(text: str) -> str:
    """Return JSON that cannot end the element that it stands in."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
