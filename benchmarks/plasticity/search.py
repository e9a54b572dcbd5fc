"""What was tried to find the harder form, on seeds of its own: ``python -m benchmarks.plasticity.search``."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.plasticity import study
from benchmarks.plasticity.experiment import Experiment, Outcome
from benchmarks.plasticity.page import filled
from benchmarks.plasticity.statistics import at_the_end
from neuroactivity.tables import format_table
from reference_agents.commandline import parse, tell
from reference_agents.running.files import write_text

__all__ = ["tables", "worlds"]

SIZE: Final[Mapping[str, Any]] = {
    "width": 32, "steps_per_phase": 750, "phases": 24, "every": 400, "seeds": 4, "seed": 500
}  # fmt: skip
RATES: Final[Sequence[Mapping[str, Any]]] = (
    {"width": 64},
    {"width": 64, "steps_per_phase": 1000},
    {},
    {"steps_per_phase": 500},
    {"width": 64, "learning_rate": 0.01},
    {"network": "residual", "learning_rate": 0.01},
    {"network": "layernorm", "learning_rate": 0.01},
    {"activation": "tanh", "learning_rate": 0.01},
)
"""Networks, lengths of a phase and learning rates, without resets."""
NETWORKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "residual": {"network": "residual"},
    "LayerNorm": {"network": "layernorm"},
    "tanh": {"activation": "tanh"},
}
WORLDS: Final[Mapping[str, tuple[Mapping[str, Any], bool]]] = {
    "as it is, 2 updates a step": ({}, True),
    "4 updates a step": ({"updates": 4}, True),
    "8 updates a step": ({"updates": 8}, False),
    "board of 6 x 5": ({"rows": 6}, False),
    "board of 15 x 7": ({"rows": 15, "columns": 7}, True),
    "50 pixels of noise": ({"distractors": 50}, True),
    "200 pixels of noise": ({"distractors": 200}, False),
}
"""What was tried at the plain learning rate, and whether with resets, too."""
RESETS: Final = ("none", "new_network", "regrama", "redo")

Runs = Mapping[Experiment, Outcome | None]


@dataclass(frozen=True, kw_only=True)
class Command(study.Command):
    """Run what was tried to find the harder form of the study, and write its two tables."""

    runs: Path = Path("runs/plasticity/search")
    """Folder for the results of each experiment."""


def rates() -> Iterator[Experiment]:
    """Yield the experiments on learning rates."""
    for options in RATES:
        yield Experiment(**{**SIZE, **options}, reset="none")


def worlds() -> Iterator[tuple[str, str, dict[str, Experiment]]]:
    """Yield networks and worlds, each with its experiments by method."""
    for network, own in NETWORKS.items():
        for world, (options, with_resets) in WORLDS.items():
            methods = RESETS if with_resets else RESETS[:1]
            yield network, world, {name: Experiment(**{**SIZE, **own, **options, "reset": name}) for name in methods}


def tables(found: Runs) -> dict[str, list[str]]:
    """Return the lines of both tables by name."""
    header = ("network", "width", "steps a phase", "learning rate", "return", "inactive")
    rows = []
    for one in rates():
        network = f"{one.network}, {one.activation}"
        rows.append((network, str(one.width), str(one.steps_per_phase), f"{one.learning_rate:g}", *_ends(found[one])))
    header_worlds = ("network", "world", "first phase", "none", "inactive", "new network", "ReGraMa", "ReDo")
    rows_worlds = []
    for network, world, by_method in worlds():
        none, *others = (found[by_method[name]] if name in by_method else None for name in RESETS)
        first = "" if none is None else f"{none.returns[:, 0].mean():.2f}"
        rows_worlds.append((network, world, first, *_ends(none), *(_ends(one)[0] for one in others)))
    return {
        "rates": format_table(header, rows, words=header[:1]),
        "worlds": format_table(header_worlds, rows_worlds, words=header_worlds[:2]),
    }


def _ends(outcome: Outcome | None) -> tuple[str, str]:
    """Return the mean return and the fraction of inactive neurons in the last quarter of the phases."""
    if outcome is None:
        return "", ""
    return f"{at_the_end(outcome.returns).mean():.2f}", f"{np.mean(at_the_end(outcome.inactive)):.0%}"


def path_of(runs: Path, one: Experiment) -> Path:
    """Return the file of an experiment's results, named by what differs from the plain form."""
    plain = Experiment(**SIZE, reset="none")
    differs = [f"{name}_{value}" for name, value in vars(one).items() if value != getattr(plain, name)]
    return runs / f"{'_'.join(differs) or 'plain'}.json"


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m benchmarks.plasticity.search")))


def _run(command: Command) -> None:
    page = study.page_of(command, "plasticity.md")
    planned = [*rates(), *(one for _, _, by_method in worlds() for one in by_method.values())]
    planned = list(dict.fromkeys(planned))
    with study.finishing(command.jobs, only_finished=command.only_finished) as finish:
        found = tables(dict(zip(planned, finish((path_of(command.runs, one), one) for one in planned), strict=True)))
    write_text(page, filled(page.read_text(), found))
    for name, lines in found.items():
        print("\n".join([name, *lines, ""]))


if __name__ == "__main__":
    sys.exit(main())
