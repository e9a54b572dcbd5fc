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
from typing import Any, NamedTuple

from benchmarks.code_size import PARTS as CODE
from neuroactivity.tables import format_table
from tests.mutation.mutants import OUT, ROOT, Mutant, equivalents, mutants_of
from tests.mutation.running import Chosen, Functions, TestMap, draw_map, fork, session, try_from_import, try_in_place

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


CORE = _code("core", "neuroactivity/arrays/")
ARRAYS = [file for file in _code("core") if file not in CORE]
UNITS = "tests/neuroactivity"

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
    "arrays": Part(ARRAYS, [*_paths(UNITS, "arrays", "test_metrics.py", "test_masks.py", "test_resets.py"), *ARRAYS]),
    "wrapping": Part(
        _code("neuroactivity/wrapping"), [f"{UNITS}/wrapping", "tests/adapters/contract", "neuroactivity/wrapping"]
    ),
    "torch": Part(
        _paths("adapters/neuroactivity_torch", "resetter.py", "rows.py", "initializers.py", "schemes.py"),
        ["tests/adapters/torch", "tests/adapters/contract", "-k", "not jax and not tensorflow and not gpu"],
        ("torch",),
    ),
    "jax": Part(
        _paths("adapters/neuroactivity_jax", "resetter.py", "drawing.py", "initializers.py", "optimizers.py"),
        ["tests/adapters/jax", "tests/adapters/contract", "-k", "not torch and not tensorflow"],
        ("jax", "flax.linen", "flax.nnx", "optax", "haiku", "equinox"),
    ),
    "tensorflow": Part(
        _paths("adapters/neuroactivity_tensorflow", "resetter.py", "rows.py", "initializers.py", "slots.py"),
        ["tests/adapters/tensorflow", "tests/adapters/contract", "-k", "not torch and not jax"],
        ("tensorflow", "keras"),
    ),
}
"""Judged in this order."""


class Results:
    """What became of each mutant, also in a file."""

    def __init__(self, part: str) -> None:
        self._file = OUT / f"{part}.jsonl"

    def add(self, mutant: Mutant, ended: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**mutant.record(), "ended": ended}) + "\n")

    def clear(self) -> None:
        self._file.unlink(missing_ok=True)

    def read(self) -> dict[tuple[str, str, int], dict[str, Any]]:
        """The last result of each mutant by file, change and line."""
        lines = self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else []
        return {(entry["file"], entry["change"], entry["line"]): entry for entry in map(json.loads, lines)}

    def killed(self) -> set[tuple[str, str, int]]:
        return {key for key, entry in self.read().items() if entry["ended"] == "killed"}


def judge(name: str, mutants: Sequence[Mutant], *, resume: bool) -> None:
    """Try every mutant of a part: in place, and from the import on if it shows only there or has lived."""
    part, results, plan_file = PARTS[name], Results(name), OUT / f"{name}_map.json"
    for library in ("numpy", "hypothesis", "sybil", "array_api_strict", *part.libraries):
        importlib.import_module(library)
    if not resume:
        results.clear()
        plan_file.unlink(missing_ok=True)
    if not plan_file.exists():
        fork(partial(session, partial(draw_map, files=part.files, to=plan_file), part.tests), 1e5)
    plan = TestMap(plan_file)
    known = results.killed()
    left = [mutant for mutant in mutants if (mutant.file, mutant.change(), mutant.line) not in known]
    fork(partial(session, partial(_in_place, left, plan, results), part.tests), 1e5)
    known = results.killed()
    for mutant in left:
        if (mutant.file, mutant.change(), mutant.line) not in known:
            tests = plan.of(mutant, own=True)
            results.add(mutant, fork(partial(try_from_import, mutant, tests), 90) if tests else "lived")


def _in_place(mutants: Sequence[Mutant], plan: TestMap, results: Results, chosen: Chosen) -> None:
    functions = Functions({mutant.file for mutant in mutants})
    gc.freeze()
    for mutant in mutants:
        if not mutant.at_import:
            tests = plan.of(mutant)
            results.add(mutant, fork(partial(try_in_place, chosen, functions, mutant, tests), 60))


def summary(names: Iterable[str]) -> str:
    """A table of the parts, and what lives in them."""
    reasons, rows, alive = equivalents(), [], []
    for name in names:
        entries = list(Results(name).read().values())
        lived = [entry for entry in entries if entry["ended"] != "killed"]
        same = [entry for entry in lived if (entry["file"], entry["change"]) in reasons]
        killed = len(entries) - len(lived)
        share = f"{100 * killed / max(1, len(entries) - len(same)):.1f} %"
        rows.append((name, *map(str, (len(entries), killed, len(same), len(lived) - len(same))), share))
        alive += [f"{e['file']}:{e['line']}: {e['ended']}\n{e['change']}" for e in lived if e not in same]
    titles = ("part", "mutants", "killed", "equivalent", "alive", "killed of what differs")
    return "\n".join([*alive, "", *format_table(titles, rows, words=("part",))])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--resume", action="store_true", help="keep what was killed before")
    parser.add_argument("--sample", type=int, help="so many mutants of each part, drawn with a fixed seed")
    parser.add_argument("--files", default="", help="only files whose path holds this")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for name in options.parts:
        mutants = [mutant for file in PARTS[name].files if options.files in file for mutant in mutants_of(file)]
        if options.sample and options.sample < len(mutants):
            mutants = random.Random(0).sample(mutants, options.sample)
        fork(partial(_judge, name, mutants, options.resume), 1e6)  # which imports what the next part need not have
    print(summary(options.parts))


def _judge(name: str, mutants: Sequence[Mutant], resume: bool) -> int:
    judge(name, mutants, resume=resume)
    return 0


if __name__ == "__main__":
    sys.exit(main())
