"""Tables and the picture of the study's page, from its record."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from benchmarks.plasticity.compare import p_text
from benchmarks.plasticity.experiment import TAUS
from benchmarks.plasticity.settings import AGAIN, AGAIN_IN, METHODS, PLAN, RESULT, SWEPT, SWEPT_IN
from benchmarks.plasticity.statistics import holm, interquartile, middle, rank_correlation, sign_flip
from neuroactivity.tables import format_table
from reference_agents.activity import alive_share
from reference_agents.errors import UsageError

__all__ = ["draw", "draw_curves", "filled", "p_values", "same_order", "tables"]

Record = Mapping[str, Any]
Found = Mapping[str, Mapping[str, Any]]

PAIRS: Final = (
    ("regrama", "redo"),
    ("regrama_published", "redo_published"),
    ("regrama", "regrama_published"),
    ("redo", "redo_published"),
    ("regrama", "new_network"),
    ("regrama_batches", "regrama"),
    ("regrama_tuned", "redo_tuned"),
    *((other, "regrama") for other in ("l2_init", "shrink_perturb", "ccbp", "continual", "reborn")),
    ("regrama_weight_decay", "new_network"),
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
FIGURES: Final = ("return", "95 % interval", "inactive", "rank", "norm", "neurons reset", "alive")
MEASURES: Final = ("inactive", "rank", "norm")


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
    for one in record["thresholds"]:
        setting, usual = one["setting"], SWEPT[one["method"]][0]
        name = _title(one["method"], one["value"])
        tests[setting, name, usual] = sign_flip(one["returns"], of(record, setting)[usual]["returns"])
    corrected = holm(tests)
    return {names: corrected[names] for names in tests}


def tables(record: Record) -> dict[str, list[str]]:
    """Return the lines of every table of the page by name."""
    p = p_values(record)
    found = {setting: _methods(of(record, setting), setting, p) for setting in PLAN}
    others = {"pairs": _pairs(record, p), "thresholds": _thresholds(record, p), "measures": _measures(record)}
    return found | others | {"tuning": _tuning(record), "again": _again(record, p), "missing": _missing(record)}


def filled(text: str, found: Mapping[str, Sequence[str]]) -> str:
    """Write tables into a page: each into the block of text below ``<!-- its name -->``.

    Raises:
        UsageError: If the page has no place for a table.
    """
    for name, lines in found.items():
        pattern = rf"(<!-- {name} -->\n+```text\n).*?(```\n)"
        text, count = re.subn(pattern, lambda match: match[1] + "\n".join([*lines, match[2]]), text, flags=re.DOTALL)  # noqa: B023
        if count != 1:
            raise UsageError(f"the page: expected one block of text below <!-- {name} -->, found {count}")
    return text


def _methods(found: Found, setting: str, p: Mapping[tuple[str, str, str], float]) -> list[str]:
    header = ("method", *FIGURES, "p against none")
    rows = []
    for method, one in sorted(found.items(), key=lambda item: -middle(item[1]["returns"])):
        rows.append((_title(method, one["value"]), *_figures(one), _p(p.get((setting, method, "none")))))
    return format_table(header, rows, words=header[:1])


def _figures(one: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the return with its interval, the measures, neurons reset, and how many of them stayed alive."""
    estimate = interquartile(one["returns"])
    share = alive_share(one["measured_again"], one["reset_again"])
    return (
        f"{estimate.value:.3f}",
        f"{estimate.low:.3f} to {estimate.high:.3f}",
        f"{np.mean(one['inactive']):.1%}",
        f"{np.mean(one['rank']):.1f}",
        f"{np.mean(one['norm']):.0f}",
        f"{np.mean(one['resets']):.0f}" if any(one["resets"]) else "",
        "" if share is None else f"{share:.0%}",
    )


def _pairs(record: Record, p: Mapping[tuple[str, str, str], float]) -> list[str]:
    header = ("setting", "first", "second", "difference", "95 % interval", "p")
    rows = []
    for (setting, first, second), one in p.items():
        if second != "none" and first in METHODS:
            returns = [np.asarray(of(record, setting)[name]["returns"]) for name in (first, second)]
            names = [METHODS[name].title for name in (first, second)]
            found = interquartile(returns[0] - returns[1])
            figures = f"{found.value:+.3f}", f"{found.low:+.3f} to {found.high:+.3f}"
            rows.append((TITLES[setting], *names, *figures, _p(one)))
    return format_table(header, rows, words=header[:3])


def _thresholds(record: Record, p: Mapping[tuple[str, str, str], float]) -> list[str]:
    words = ("setting", "method")
    header = (*words, "tau", *FIGURES, "p against the usual")
    rows = []
    for setting, (method, (usual, _)) in itertools.product(SWEPT_IN, SWEPT.items()):
        tried = [one for one in record["thresholds"] if (one["setting"], one["method"]) == (setting, method)]
        taus = {one["value"]: one for one in tried} | {TAUS[usual]: of(record, setting)[usual]}
        for tau, one in sorted(taus.items()) if tried else ():
            tested = "usual" if tau == TAUS[usual] else _p(p[setting, _title(method, tau), usual])
            rows.append((TITLES[setting], METHODS[usual].title, f"{tau:g}", *_figures(one), tested))
    return format_table(header, rows, words=words)


def _measures(record: Record) -> list[str]:
    """Correlate the measures with the return over all runs that differ, and inactive neurons within a method, too."""
    header = ("setting", "runs", *MEASURES, "inactive, within a method")
    chosen = [(TITLES[setting], list(of(record, setting).values())) for setting in PLAN]
    chosen.append(("all", list(itertools.chain.from_iterable(found for _, found in chosen))))
    rows = []
    for title, found in filter(itemgetter(1), chosen):
        found = list({tuple(one["returns"]): one for one in found}.values())  # a tuned method may be the usual one
        returns = np.concatenate([one["returns"] for one in found])
        over_all = [rank_correlation(np.concatenate([one[name] for one in found]), returns) for name in MEASURES]
        within = np.nanmean([rank_correlation(one["inactive"], one["returns"]) for one in found])
        rows.append((title, str(returns.size), *(f"{value:+.2f}" for value in (*over_all, within))))
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
    return "" if value is None else p_text(value)


def draw(record: Record) -> Figure:
    """Plot the return by phase, one panel a setting: medians and interquartile ranges over seeds."""

    def plot(axes: Axes, found: Found) -> None:
        for method, (low, median, high) in _shown(found, "by_phase"):
            phases = np.arange(1, len(median) + 1)
            axes.fill_between(phases, low, high, color=SHOWN[method], alpha=0.18, linewidth=0)
            axes.plot(phases, median, color=SHOWN[method], label=METHODS[method].title, linewidth=2)
        axes.set_xlabel("phase")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _panels(record, plot, "return at the end of a phase")


def draw_curves(record: Record) -> Figure:
    """Plot the return within the last phase, one panel a setting, and that within the first: medians over seeds."""

    def plot(axes: Axes, found: Found) -> None:
        for method, (first, last) in _shown(found, "curves"):
            times = (np.arange(len(last)) + 0.5) / len(last)
            if method == "none":
                axes.plot(times, first, color="#3c4148", label="first phase", linewidth=1.2, linestyle="--")
            axes.plot(times, last, color=SHOWN[method], label=METHODS[method].title, linewidth=2)
        axes.set_xlabel("part of the phase")
        axes.xaxis.set_major_formatter(PercentFormatter(1))

    return _panels(record, plot, "return within the last phase")


def _panels(record: Record, plot: Callable[[Axes, Found], None], ylabel: str) -> Figure:
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    shown = [setting for setting in PLAN if setting != "healthy" and of(record, setting)]
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, setting in zip(panels, shown, strict=True):
        plot(axes, of(record, setting))
        axes.axhline(-0.6, color="#c9ccd1", linewidth=0.8, linestyle=":", zorder=0)
        axes.set(title=TITLES[setting], ylim=(-0.8, 1.03))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(ylabel)
    panels[0].text(panels[0].get_xlim()[0], -0.62, " random actions", color="#8a8f98", fontsize=8, va="top")
    handles, labels = max((axes.get_legend_handles_labels() for axes in panels), key=lambda found: len(found[1]))
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _shown(found: Found, name: str) -> Iterator[tuple[str, Sequence[Sequence[float]]]]:
    for method in SHOWN:
        if method in found:
            yield method, found[method][name]
