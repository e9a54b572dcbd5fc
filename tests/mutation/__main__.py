"""Test the tests: ``python -m tests.mutation core`` puts small faults into the code and runs the tests on each.

What is found lies in ``build/mutants``; ``--resume`` tries again only what lived.
"""

import argparse
import gc
import importlib
import json
import random
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.code_size import PARTS as CODE
from neuroactivity.tables import format_table
from tests.mutation.mutants import OUT, ROOT, Mutant, equivalents, mutants_of
from tests.mutation.running import (
    PASSED,
    THREADED,
    THREADED_SECONDS,
    Chosen,
    Functions,
    TestMap,
    draw_map,
    fork,
    fork_all,
    session,
    try_from_import,
    try_in_place,
)

NUMPY_ONLY = ("-k", "not torch and not jax and not tensorflow and not strict")


class Part(NamedTuple):
    """Some files, the tests that judge them, and what these import."""

    files: Sequence[str]
    tests: Sequence[str]
    libraries: Sequence[str] = ("torch", "jax", "tensorflow")


def _code(part: str, *without: str) -> list[str]:
    files = [str(file.relative_to(ROOT)) for file in CODE[part]]
    return [file for file in files if not file.startswith(without)]


def _paths(folder: str, *names: str) -> list[str]:
    return [f"{folder}/{name}" for name in names]


def _tests(framework: str, *names: str) -> list[str]:
    return [f"tests/adapters/{framework}/test_{name}.py" for name in names]


CORE = _code("core", "neuroactivity/arrays/")
ARRAYS = [file for file in _code("core") if file not in CORE]
UNITS = "tests/neuroactivity"

CONTRACT = _paths(
    "tests/adapters/contract",
    *(f"test_{name}.py" for name in ("resets", "draws", "history", "clock", "score", "measuring")),
)
ALL_FRAMEWORKS = ("torch", "jax", "optax", "flax.linen", "flax.nnx", "haiku", "equinox", "tensorflow", "keras")
"""What the contract imports."""

PARTS = {
    "core": Part(
        CORE,
        [
            *NUMPY_ONLY,
            *(str(file.relative_to(ROOT)) for file in sorted((ROOT / UNITS).glob("test_*.py"))),
            *_paths(UNITS, "layout", "wrapping/test_history.py"),
            *CORE,
        ],
    ),
    "arrays": Part(
        ARRAYS,
        [
            *("-k", "not jax and not XLA"),
            *_paths(
                f"{UNITS}/arrays",
                *(f"test_{name}.py" for name in ("libraries", "magnitudes", "shards", "tensorflow")),
            ),
            *_paths(UNITS, "test_metrics.py", "test_masks.py", "test_resets.py"),
            *ARRAYS,
        ],
        ("torch", "tensorflow"),
    ),
    "wrapping": Part(
        _code("neuroactivity/wrapping"),
        ["-k", "not jax and not tensorflow", f"{UNITS}/wrapping", f"{UNITS}/test_resets.py", "neuroactivity/wrapping"],
    ),
    "analysis": Part(
        _code("neuroactivity/analysis"), [*NUMPY_ONLY, f"{UNITS}/analysis", "neuroactivity/analysis"], ("torch", "jax")
    ),
    "torch": Part(
        _paths("adapters/neuroactivity_torch", "resetter.py", "rows.py", "initializers.py", "schemes.py"),
        [
            *("-k", "not jax and not tensorflow"),
            *_tests(
                "torch",
                "resetter",
                "resetter_steps",
                "reset_rows",
                "rows",
                "initializers",
                "initializers_seeded",
                "initializers_stacks",
                "schemes",
                "states",
                "failures",
                "clock",
                "changes",
            ),
            *_tests("torch", "compared_ranks", "wrapped_optimizers"),
            *CONTRACT,
        ],
        ("torch",),
    ),
    "jax": Part(
        _paths("adapters/neuroactivity_jax", "resetter.py", "drawing.py", "initializers.py", "optimizers.py"),
        [
            *("-k", "not torch and not tensorflow"),
            *_tests("jax", "resetter", "initializers", "drawing", "optimizers", "frozen", "history", "score", "state"),
            *CONTRACT,
        ],
        ALL_FRAMEWORKS,
    ),
    "tensorflow": Part(
        _paths("adapters/neuroactivity_tensorflow", "resetter.py", "rows.py", "initializers.py", "slots.py"),
        [
            *("-k", "not torch and not jax"),
            *_tests("tensorflow", "resetter", "options", "rows", "initializers", "optimizers", "atomic"),
            *_tests("tensorflow", "memory", "constraints", "multi_optimizer", "wrappers", "state", "clock"),
            *_tests("tensorflow", "initializers_named", "score"),
            *CONTRACT,
        ],
        ALL_FRAMEWORKS,
    ),
}
"""Judged in this order."""

MASKS = Part(["neuroactivity/masks.py"], [*NUMPY_ONLY, f"{UNITS}/test_masks.py", "neuroactivity/masks.py"], ())
"""A file of the core and its tests, for a run of seconds."""

NAMED = {**PARTS, "masks": MASKS}

LEAST = {"core": 95, "arrays": 95, "masks": 95}
"""How many of a hundred mutants must be killed, where that is not 90."""


class Results:
    """How each mutant of a part ended, kept in a file."""

    def __init__(self, part: str) -> None:
        self._file = OUT / f"{part}.jsonl"

    def add(self, mutant: Mutant, ended: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([mutant.key, ended]) + "\n")

    def clear(self) -> None:
        self._file.unlink(missing_ok=True)

    def read(self) -> dict[str, str]:
        """How mutants ended at last, by their keys."""
        lines = self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else []
        return dict(map(json.loads, lines))


def judge(name: str, mutants: Sequence[Mutant], *, resume: bool, jobs: int) -> None:
    """Try every mutant of a part: in place, and from the import on if that cannot be, or it has lived."""
    part, results, plan_file = NAMED[name], Results(name), OUT / f"{name}_map.json"
    for library in ("numpy", "hypothesis", "sybil", "array_api_strict", *part.libraries):
        importlib.import_module(library)
    if not resume:
        results.clear()
    if not plan_file.exists() or plan_file.stat().st_mtime < max(file.stat().st_mtime for file in _python_files()):
        fork(partial(session, partial(draw_map, files=part.files, to=plan_file), part.tests), 1e5)
    plan = TestMap(plan_file)
    left = _left(mutants, results)
    threaded = name in THREADED
    if not threaded:
        fork(partial(session, partial(_in_place, left, plan, results, jobs), part.tests), 1e5)
    chosen = {
        mutant: plan.of(mutant, seconds=THREADED_SECONDS)
        if threaded and not mutant.at_import
        else plan.of(mutant, own=True)
        for mutant in _left(left, results)
    }
    runs = ((mutant, partial(try_from_import, mutant, tests)) for mutant, tests in chosen.items())
    for mutant, ended in fork_all(runs, 60, jobs):
        results.add(mutant, ended)


def _left(mutants: Iterable[Mutant], results: Results) -> list[Mutant]:
    """Those that were not killed, without equivalents that have lived as they should."""
    known, reasons = results.read(), equivalents()
    tried = [mutant for mutant in mutants if mutant.key in known]
    done = {each for each in tried if known[each.key] == "killed" or (each.file, each.change()) in reasons}
    return [mutant for mutant in mutants if mutant not in done]


def _python_files() -> Iterable[Path]:
    return (file for folder in ("neuroactivity", "adapters", "tests") for file in (ROOT / folder).rglob("*.py"))


def _in_place(mutants: Sequence[Mutant], plan: TestMap, results: Results, jobs: int, chosen: Chosen) -> None:
    functions = Functions({mutant.file for mutant in mutants})
    gc.freeze()
    runs = (
        (mutant, partial(try_in_place, chosen, functions, mutant, plan.of(mutant)))
        for mutant in mutants
        if not mutant.at_import
    )
    for mutant, ended in fork_all(runs, 30, jobs):
        results.add(mutant, ended)


def summary(names: Iterable[str]) -> tuple[str, bool]:
    """A table of the parts and what lives in them, and whether enough was killed."""
    reasons, rows, shown, enough = equivalents(), [], [], True
    for name in names:
        known = Results(name).read()
        every = [mutant for file in NAMED[name].files for mutant in mutants_of(file)]
        mutants = [mutant for mutant in every if mutant.key in known]
        lived = [mutant for mutant in mutants if known[mutant.key] != "killed"]
        alive = [mutant for mutant in lived if (mutant.file, mutant.change()) not in reasons]
        same, killed = len(lived) - len(alive), len(mutants) - len(lived)
        share = 100 * killed / max(1, len(mutants) - same)
        enough &= share >= LEAST.get(name, 90)
        rows.append((name, *map(str, (len(every), len(mutants), killed, same, len(alive))), f"{share:.1f} %"))
        shown += [f"{mutant.file}:{mutant.line}: {known[mutant.key]}\n{mutant.change()}" for mutant in alive]
    titles = ("part", "mutants", "tried", "killed", "equivalent", "alive", "killed of what differs")
    return "\n".join([*shown, "", *format_table(titles, rows, words=("part",))]), enough


def main() -> int:
    """The command; 1 if too many live."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(NAMED))
    parser.add_argument("--resume", action="store_true", help="keep what was killed before")
    parser.add_argument("--sample", type=int, help="so many mutants of each part, drawn with a fixed seed")
    parser.add_argument("--jobs", type=int, default=2, help="so many processes at once")
    parser.add_argument("--files", default="", help="only files whose path holds this")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for name in options.parts:
        mutants = [mutant for file in NAMED[name].files if options.files in file for mutant in mutants_of(file)]
        if options.sample and options.sample < len(mutants):
            mutants = random.Random(0).sample(mutants, options.sample)
        # in a process of its own, since it imports what the next part need not have
        fork(partial(_judge, name, mutants, resume=options.resume, jobs=options.jobs), 1e6)
    text, enough = summary(options.parts)
    print(text)
    return int(not enough)


def _judge(name: str, mutants: Sequence[Mutant], *, resume: bool, jobs: int) -> int:
    judge(name, mutants, resume=resume, jobs=jobs)
    return PASSED


if __name__ == "__main__":
    sys.exit(main())
