"""PPO and SAC on worlds that change: ``python -m benchmarks.plasticity.worlds`` writes the tables of their page."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.plasticity import compare, study
from benchmarks.plasticity.experiment import Experiment, Outcome
from benchmarks.plasticity.page import filled
from benchmarks.plasticity.record import picture
from benchmarks.plasticity.statistics import holm, interquartile, sign_flip
from neuroactivity.tables import format_table
from reference_agents.commandline import parse, tell
from reference_agents.running.files import replacing, write_text

__all__ = ["TABLES", "Table", "lines", "tuned"]

Options = Mapping[str, Any]
Found = Mapping[str, tuple[Experiment, Outcome]]

NONE: Final = "none"
NEW: Final = {"new network at each phase": {"reset": "new_network"}}
TRIAL: Final = {"seed": 1000, "seeds": 4}
DECAY: Final = {"strength": 0.1}


@dataclass(frozen=True)
class Table:
    """Methods that are compared on one world."""

    folder: str
    """Where its runs are kept; tables that share runs share it."""
    options: Options
    methods: Mapping[str, Options]
    """Options by the title of a method; beside these it is run without resets."""
    tuned: Mapping[str, tuple[str, tuple[float, ...]]] = field(default_factory=dict)
    """Setting of a method and the values that are tried."""
    pairs: tuple[tuple[str, str], ...] = ()
    first: int = 2
    """First phase that counts."""
    failed: float | None = None

    def experiment(self, title: str, **own: Any) -> Experiment:
        """Return the experiment of a method."""
        return Experiment(**{**self.options, "reset": "none", **self.methods.get(title, {}), **own})


REGRAMA: Final = {"ReGraMa": {"reset": "regrama"}}
CLOCKS: Final = {**REGRAMA, "ReGraMa, published clock": {"reset": "regrama", "clock": "run"}, "ReDo": {"reset": "redo"}}
PERIODS: Final = (250, 1000, 3000)
PPO: Final = {"agent": "ppo", "width": 64, "learning_rate": 1e-3, "seeds": 20, "phases": 10}
SAC: Final = {
    "world": "mujoco",
    "agent": "sac",
    "task": "InvertedDoublePendulum-v5",
    "sensors": "rewired",
    "width": 64,
    "updates": 4,
    "steps_per_phase": 1500,
    "phases": 10,
    "learning_rate": 0.01,
    "seeds": 20,
}
TABLES: Final[Mapping[str, Table]] = {
    "ppo": Table(
        "ppo",
        PPO,
        {
            **NEW,
            **CLOCKS,
            "ReGraMa, 20 batches": {"reset": "regrama", "batches": 20},
            "ReGraMa, tuned": {"reset": "regrama"},
            "ReDo, tuned": {"reset": "redo"},
            "new last layer": {"reset": "last_layer"},
            "Adam restarted": {"reset": "restart_adam"},
            "L2 init": {"reset": "l2_init"},
            "weight decay (AdamW)": {"reset": "weight_decay"},
            "shrink and perturb": {"reset": "shrink_perturb"},
            "ReGraMa and weight decay": {"reset": "regrama_weight_decay", **DECAY},
        },
        tuned={
            "ReGraMa, tuned": ("tau", (0.01, 0.03, 0.1)),
            "ReDo, tuned": ("tau", (0.025, 0.1, 0.25)),
            "new last layer": ("every", PERIODS),
            "Adam restarted": ("every", PERIODS),
            "L2 init": ("strength", (1e-4, 1e-3, 1e-2)),
            "weight decay (AdamW)": ("strength", (0.01, 0.1, 1.0)),
            "shrink and perturb": ("strength", (0.03, 0.1, 0.3)),
        },
        pairs=(
            ("ReGraMa", "ReDo"),
            ("ReGraMa", "ReGraMa, published clock"),
            ("ReGraMa, 20 batches", "ReGraMa"),
            ("ReGraMa and weight decay", "weight decay (AdamW)"),
        ),
        failed=0.5,
    ),
    "entropy": Table(
        "entropy", PPO | {"entropy": 0.1, "learning_rate": 3e-3, "seeds": 8, "phases": 20}, NEW | REGRAMA, failed=0.5
    ),
    "entropy_fast": Table(
        "entropy_fast", PPO | {"entropy": 0.1, "learning_rate": 0.01, "seeds": 10}, NEW | REGRAMA, failed=0.5
    ),
    "fast": Table("fast", PPO | {"learning_rate": 3e-3, "seeds": 8}, NEW | REGRAMA, failed=0.5),
    "small_batches": Table(
        "small_batches",
        PPO | {"batch": 8, "every": 40, "phases": 1, "steps_per_phase": 2000},
        REGRAMA | {"ReGraMa, 40 batches": {"reset": "regrama", "batches": 40}},
        pairs=(("ReGraMa, 40 batches", "ReGraMa"),),
        first=1,
    ),
    "sac": Table(
        "sac",
        SAC,
        {
            **NEW,
            **CLOCKS,
            "weight decay (AdamW)": {"reset": "weight_decay", **DECAY},
            "ReGraMa and weight decay": {"reset": "regrama_weight_decay", **DECAY},
        },
        pairs=(
            ("ReGraMa", "ReDo"),
            ("ReGraMa", "ReGraMa, published clock"),
            ("ReGraMa", "new network at each phase"),
            ("ReGraMa and weight decay", "ReGraMa"),
            ("ReGraMa and weight decay", "weight decay (AdamW)"),
        ),
        first=6,
    ),
    "reset_in": Table(
        "sac",
        SAC,
        {
            **REGRAMA,
            "ReGraMa in the critics": {"reset": "regrama", "reset_in": "critics"},
            "ReGraMa in the actor": {"reset": "regrama", "reset_in": "actor"},
        },
        pairs=(
            ("ReGraMa", "ReGraMa in the critics"),
            ("ReGraMa", "ReGraMa in the actor"),
            ("ReGraMa in the critics", "ReGraMa in the actor"),
        ),
        first=6,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Command(study.Command):
    """Run PPO and SAC on worlds that change, and write the tables and pictures of their page."""

    runs: Path = Path("runs/plasticity/worlds")
    """Folder for the results of each experiment."""


def tuned(table: Table, folder: Path, finish: study.Finish) -> dict[str, dict[float, float]]:
    """Return the return with each value that is tried for each method, on seeds of their own."""
    trials = {
        (title, value): table.experiment(title, **{name: value}, **TRIAL)
        for title, (name, values) in table.tuned.items()
        for value in values
    }
    paths = [folder / "tuning" / f"{_slug(title)}_{value:g}.json" for title, value in trials]
    found: dict[str, dict[float, float]] = {}
    for (title, value), outcome in zip(trials, finish(zip(paths, trials.values(), strict=True)), strict=True):
        if outcome is not None:
            found.setdefault(title, {})[value] = round(float(compare.by_seed(outcome, table.first).mean()), 3)
    return {title: tried for title, tried in found.items() if len(tried) == len(table.tuned[title][1])}


def run(table: Table, tried: Mapping[str, Mapping[float, float]], folder: Path, finish: study.Finish) -> dict[str, Any]:
    """Return experiments and outcomes by title, with the value that was best where one was chosen."""
    planned = {}
    for title in (NONE, *table.methods):
        if title not in table.tuned:
            planned[title] = table.experiment(title)
        elif title in tried:
            name, best = table.tuned[title][0], max(tried[title], key=lambda value: tried[title][value])
            planned[f"{title} ({name} {best:g})"] = table.experiment(title, **{name: best})
    paths = [folder / f"{_slug(title)}.json" for title in planned]
    outcomes = finish(zip(paths, planned.values(), strict=True))
    found = zip(planned.items(), outcomes, strict=True)
    return {title: (one, outcome) for (title, one), outcome in found if outcome is not None}


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "_", title.lower()).strip("_")


def lines(table: Table, found: Found) -> tuple[list[str], list[str]]:
    """Return the table of methods and that of pairs; all p-values of both are corrected together."""
    means = {title: compare.by_seed(outcome, table.first) for title, (_, outcome) in found.items()}
    named = {re.sub(r" \((every|tau|strength) .*", "", title): title for title in means}
    pairs = [(named[a], named[b]) for a, b in table.pairs if a in named and b in named]
    others = [title for title in means if title != NONE]
    tests = [*((title, NONE) for title in others), *pairs]
    p = holm({(a, b): sign_flip(means[a], means[b]) for a, b in tests})
    order = [NONE, *sorted(others, key=lambda title: -interquartile(means[title]).value)]
    against = {title: p[title, NONE] for title in others}
    methods = compare.table({title: found[title] for title in order}, table.first, table.failed, p=against)
    places, rows = 3 if max(abs(mean).max() for mean in means.values()) < 10 else 0, []
    for a, b in pairs:
        estimate = interquartile(means[a] - means[b])
        value, low, high = (f"{one:+.{places}f}" for one in (estimate.value, estimate.low, estimate.high))
        rows.append((a, b, value, f"{low} to {high}", compare.p_text(p[a, b])))
    header = ("first", "second", "difference", "95 % interval", "p")
    return methods, format_table(header, rows, words=header[:2])


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m benchmarks.plasticity.worlds")))


def _run(command: Command) -> None:
    page = study.page_of(command, "plasticity_worlds.md")
    blocks: dict[str, list[str]] = {}
    with study.finishing(command.jobs, only_finished=command.only_finished) as finish:
        for name, table in TABLES.items():
            folder = command.runs / table.folder
            tried = tuned(table, folder, finish)
            found = run(table, tried, folder, finish)
            if NONE not in found:
                continue
            blocks[name], pairs = lines(table, found)
            if table.pairs:
                blocks[f"{name}_pairs"] = pairs
            if tried:
                blocks[f"{name}_tuning"] = _tuning(table, tried)
            _draw(name, found, command.out)
            print("\n".join([name, *blocks[name], "", *pairs, ""]), flush=True)
    write_text(page, filled(page.read_text(), blocks))


def _tuning(table: Table, tried: Mapping[str, Mapping[float, float]]) -> list[str]:
    header = ("method", "its setting", "return with each value that was tried")
    rows = [
        (title, table.tuned[title][0], ", ".join(f"{value:g}: {found:.3f}" for value, found in one.items()))
        for title, one in tried.items()
    ]
    return format_table(header, rows, words=header)


def _draw(name: str, found: Found, out: Path) -> None:
    """Draw what the page shows: PPO without resets, and the methods of SAC."""
    if name == "ppo":
        picture(*found[NONE], out / "plasticity_ppo.png")
    elif name == "sac":
        with replacing(out / "plasticity_sac.png") as file:
            compare.draw(found).savefig(file, format="png", dpi=130)


if __name__ == "__main__":
    sys.exit(main())
