"""Tables and the picture of the study's page, from its record."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.plasticity.settings import AGAIN, AGAIN_IN, METHODS, PLAN, RESULT
from benchmarks.plasticity.statistics import holm, interquartile, middle, rank_correlation, sign_flip
from neuroactivity.tables import format_table
from reference_agents.activity import alive_share
from reference_agents.errors import UsageError

__all__ = ["draw", "filled", "p_values", "same_order", "tables"]

Record = Mapping[str, Any]
Found = Mapping[str, Mapping[str, Any]]

PAIRS: Final = (
    ("regrama", "redo"),
    ("regrama_published", "redo_published"),
    ("regrama", "regrama_published"),
    ("redo", "redo_published"),
    ("regrama", "new_network"),
    ("regrama_batches", "regrama"),
    *((f"regrama_{other}", alone) for other in ("l2_init", "weight_decay") for alone in ("regrama", other)),
)
"""What is compared beside each method against none."""
SHOWN: Final = {
    "none": "#8a8f98",
    "new_network": "#3a9679",
    "redo": "#d9822b",
    "regrama_published": "#8dbbe0",
    "regrama": "#1b6ca8",
}
"""Methods in the picture, and their colours."""
TITLES: Final = {
    "plain": "plain, ReLU",
    "residual": "harder: residual, ReLU",
    "layernorm": "harder: LayerNorm, ReLU",
    "tanh": "harder: plain, tanh",
    "healthy": "plain, tanh",
}
LEVEL: Final = 0.05


def of(record: Record, setting: str, seed: int = RESULT["seed"]) -> Found:
    """Return the results in a setting by method."""
    found = [one for one in record["results"] if (one["setting"], one["seed"]) == (setting, seed)]
    return {one["method"]: one for one in found}


def p_values(record: Record) -> dict[tuple[str, str, str], float]:
    """Return the p-value of each comparison (setting, first, second), all corrected together."""
    tests: dict[tuple[str, str, str], float] = {}
    for setting in PLAN:
        found = of(record, setting)
        against = [(method, "none") for method in found if method != "none"]
        for first, second in (*against, *PAIRS):
            if first in found and second in found:
                tests[setting, first, second] = sign_flip(found[first]["returns"], found[second]["returns"])
    corrected = holm(tests)
    return {names: corrected[names] for names in tests}


def tables(record: Record) -> dict[str, list[str]]:
    """Return the lines of every table of the page by name."""
    p = p_values(record)
    found = {setting: _methods(of(record, setting), setting, p) for setting in PLAN}
    others = {"pairs": _pairs(record, p), "inactive": _inactive(record), "tuning": _tuning(record)}
    return found | others | {"again": _again(record, p), "missing": _missing(record)}


def filled(text: str, found: Mapping[str, Sequence[str]]) -> str:
    """Write tables into a page: each into the block of text below ``<!-- its name -->``.

    Raises:
        UsageError: If the page has no place for a table.
    """
    for name, lines in found.items():
        pattern = rf"(<!-- {name} -->\n+```text\n).*?(```\n)"
        text, count = re.subn(pattern, lambda match: match[1] + "\n".join([*lines, match[2]]), text, flags=re.DOTALL)  # noqa: B023
        if count != 1:
            raise UsageError(f"plasticity.md: expected one block of text below <!-- {name} -->, found {count}")
    return text


def _methods(found: Found, setting: str, p: Mapping[tuple[str, str, str], float]) -> list[str]:
    header = ("method", "return", "95 % interval", "inactive", "neurons reset", "alive", "p against none")
    rows = []
    for method, one in sorted(found.items(), key=lambda item: -middle(item[1]["returns"])):
        estimate = interquartile(one["returns"])
        share = alive_share(one["measured_again"], one["reset_again"])
        rows.append(
            (
                _title(method, one["value"]),
                f"{estimate.value:.3f}",
                f"{estimate.low:.3f} to {estimate.high:.3f}",
                f"{np.mean(one['inactive']):.1%}",
                f"{np.mean(one['resets']):.0f}" if any(one["resets"]) else "",
                "" if share is None else f"{share:.0%}",
                _p(p.get((setting, method, "none"))),
            )
        )
    return format_table(header, rows, words=header[:1])


def _pairs(record: Record, p: Mapping[tuple[str, str, str], float]) -> list[str]:
    header = ("setting", "first", "second", "first - second", "p")
    rows = []
    for (setting, first, second), one in p.items():
        if second != "none":
            values = [middle(of(record, setting)[name]["returns"]) for name in (first, second)]
            names = [METHODS[name].title for name in (first, second)]
            rows.append((TITLES[setting], *names, f"{values[0] - values[1]:+.3f}", _p(one)))
    return format_table(header, rows, words=header[:3])


def _inactive(record: Record) -> list[str]:
    header = ("setting", "runs", "rank correlation")
    chosen = [(TITLES[setting], list(of(record, setting).values())) for setting in PLAN]
    chosen.append(("all", list(itertools.chain.from_iterable(found for _, found in chosen))))
    rows = []
    for title, found in filter(itemgetter(1), chosen):
        inactive, returns = (np.concatenate([one[name] for one in found]) for name in ("inactive", "returns"))
        rows.append((title, str(returns.size), f"{rank_correlation(inactive, returns):.2f}"))
    return format_table(header, rows, words=header[:1])


def _tuning(record: Record) -> list[str]:
    header = ("method", "its setting", "return with each value that was tried")
    rows = []
    for one in record["tuning"]:
        tried = ", ".join(f"{value:g}: {found:.3f}" for value, found in one["returns"])
        rows.append((METHODS[one["method"]].title, str(METHODS[one["method"]].tuned), tried))
    return format_table(header, rows, words=header)


def _again(record: Record, p: Mapping[tuple[str, str, str], float]) -> list[str]:
    columns = [of(record, AGAIN_IN), *(of(record, AGAIN_IN, seeds["seed"]) for seeds in AGAIN)]
    sizes = [RESULT, *AGAIN]
    header = ("method", *(f"seeds {size['seed']} to {size['seed'] + size['seeds'] - 1}" for size in sizes))
    rows = [
        (METHODS[method].title, *(f"{middle(found[method]['returns']):.3f}" for found in columns))
        for method in columns[-1]
        if all(method in found for found in columns)
    ]
    same, pairs = same_order(record, p)
    lines = format_table(header, rows, words=header[:1])
    return [*lines, "", f"{same} of {pairs} orders are the same, of the pairs that differ on the first seeds"]


def same_order(record: Record, p: Mapping[tuple[str, str, str], float]) -> tuple[int, int]:
    """Count the orders of pairs that are the same on seeds not used before, and those looked at.

    Pairs are those that differ at the level of 5 %.
    """
    base = of(record, AGAIN_IN)
    orders = []
    for seeds in AGAIN:
        found = of(record, AGAIN_IN, seeds["seed"])
        for (setting, first, second), value in p.items():
            if setting == AGAIN_IN and value <= LEVEL and first in found and second in found:
                signs = [np.sign(np.mean(x[first]["returns"]) - np.mean(x[second]["returns"])) for x in (base, found)]
                orders.append(signs[0] == signs[1])
    return sum(map(bool, orders)), len(orders)


def _missing(record: Record) -> list[str]:
    """Name what is planned and not in the record."""
    left = {
        setting: [METHODS[name].title for name in names if name not in of(record, setting)]
        for setting, names in PLAN.items()
    }
    return [f"{TITLES[setting]}: {'; '.join(names)}" for setting, names in left.items() if names] or ["nothing"]


def _title(method: str, value: float | None) -> str:
    own = "" if value is None else f" ({METHODS[method].tuned} {value:g})"
    return METHODS[method].title + own


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def draw(record: Record) -> Figure:
    """Plot the return by phase, one panel a setting: medians and interquartile ranges over seeds."""
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    shown = [setting for setting in PLAN if setting != "healthy" and of(record, setting)]
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, setting in zip(panels, shown, strict=True):
        for method, (low, median, high) in _lines(of(record, setting)):
            phases = np.arange(1, len(median) + 1)
            axes.fill_between(phases, low, high, color=SHOWN[method], alpha=0.18, linewidth=0)
            axes.plot(phases, median, color=SHOWN[method], label=METHODS[method].title, linewidth=2)
        axes.axhline(-0.6, color="#c9ccd1", linewidth=0.8, linestyle=":", zorder=0)
        axes.set(title=TITLES[setting], xlabel="phase", ylim=(-0.8, 1.03))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("return at the end of a phase")
    panels[0].text(1, -0.59, "random actions", color="#8a8f98", fontsize=8, va="bottom")
    handles, labels = max((axes.get_legend_handles_labels() for axes in panels), key=lambda found: len(found[1]))
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _lines(found: Found) -> Iterator[tuple[str, Sequence[Sequence[float]]]]:
    for method in SHOWN:
        if method in found:
            yield method, found[method]["by_phase"]
