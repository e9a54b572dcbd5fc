"""Run tests on mutants in forked processes, so that nothing is imported twice and no file is changed.

A mutant in a function is put into a process that has collected all tests: the function gets new code. One that shows
at import, and one that lived, are tried from the import on.
"""

import gc
import importlib.abc
import importlib.util
import itertools
import json
import os
import resource
import signal
import sys
import time
import traceback
import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import coverage
import pytest

from tests.mutation.mutants import OUT, ROOT, Mutant

T = TypeVar("T")

THREADED = ("jax", "tensorflow")
"""Libraries that work in threads, which a forked process does not have: it waits for ever once they have been used."""

PASSED, FAILED = 0, 1
MOST_SECONDS = 3.0
"""What the tests of one mutant may take together when nothing fails, without those in the file's own test files."""

THREADED_SECONDS = 15.0
"""The same for libraries whose tests are slower, and where importing alone takes longer than three seconds."""


def fork(run: Callable[[], int], seconds: float) -> str:
    """Run a function in a process of its own and return how that ended: ``lived``, ``killed`` or ``stuck``."""
    return next(ended for _, ended in fork_all([(None, run)], seconds))


def fork_all(runs: Iterable[tuple[T, Callable[[], int]]], seconds: float, jobs: int = 1) -> Iterator[tuple[T, str]]:
    """Run functions, each in a process of its own and so many at once; yield what each is for and how it ended."""
    begun: dict[int, T] = {}
    for what, run in runs:
        if len(begun) == jobs:
            yield _wait(begun)
        if (pid := os.fork()) == 0:
            _limit_and_exit(run, seconds)
        begun[pid] = what
    while begun:
        yield _wait(begun)


def _wait(begun: dict[int, T]) -> tuple[T, str]:
    pid, status = os.wait()
    ended = {PASSED: "lived", -signal.SIGALRM: "stuck"}.get(os.waitstatus_to_exitcode(status), "killed")
    return begun.pop(pid), ended


def _limit_and_exit(run: Callable[[], int], seconds: float) -> NoReturn:
    try:
        signal.alarm(int(8 * seconds))  # ends a deadlock, which says nothing
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds),) * 2)
        os._exit(run())
    except BaseException:
        traceback.print_exc()
        os._exit(FAILED)


class Chosen:
    """A pytest plugin that gives the collected tests to a function instead of running them."""

    def __init__(self, loop: Callable[["Chosen"], None]) -> None:
        self._loop = loop
        self.items: dict[str, Any] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            return True
        session.config.pluginmanager.unregister(name="terminalreporter")
        self.items = {item.nodeid: item for item in session.items}
        self._loop(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def run(self, names: Sequence[str]) -> int:
        """Run tests until one fails; one that is not there any more kills nothing."""
        items = [self.items[name] for name in names if name in self.items]
        for item, following in itertools.zip_longest(items, items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return FAILED
        return PASSED


class TestMap:
    """Which tests run which lines, how long each takes, and which of them fail unless all run."""

    __test__ = False

    def __init__(self, file: Path) -> None:
        content = json.loads(file.read_text())
        self.seconds: dict[str, float] = content["seconds"]
        self._tests: dict[str, dict[str, list[int]]] = content["lines"]
        self._names: list[str] = content["names"]

    def of(self, mutant: Mutant, *, own: bool = False, seconds: float | None = None) -> list[str]:
        """The tests that run the mutant's statement, and those in the file's own test files, the quickest first.

        Those may run the statement unseen, since what ``torch.compile`` traces is not recorded.

        Args:
            mutant: The mutant.
            own: Take the tests in its own test files alone, if there are any.
            seconds: Take those that run the statement alone, as many as end within so many seconds.
        """
        lines, chosen = self._tests.get(mutant.file, {}), range(mutant.first, mutant.last + 1)
        numbers = {n for line, ran in lines.items() if own or int(line) in chosen for n in ran}
        stem = Path(mutant.file).stem
        mirrored = {name for name in self._names if name.startswith(mutant.file) or f"/test_{stem}" in name}
        found = {self._names[n] for n in numbers} | (mirrored if seconds is None else set())
        tests = sorted(found, key=lambda name: self.seconds[name])
        if own and mirrored:
            return [name for name in tests if name in mirrored]
        ends = itertools.accumulate(self.seconds[name] for name in tests)
        if seconds is not None:
            return [name for name, end in zip(tests, ends, strict=True) if end <= seconds]
        return [name for name, end in zip(tests, ends, strict=True) if end <= MOST_SECONDS or name in mirrored]


def draw_map(chosen: Chosen, files: Iterable[str], to: Path) -> int:
    """Run all tests once and write down which lines each runs, but for tests that fail."""
    recorder = coverage.Coverage(data_file=None, include=[str(ROOT / file) for file in files], config_file=False)
    seconds = {}
    with recorder.collect():
        for name, item in chosen.items.items():
            recorder.switch_context(name)
            start = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            seconds[name] = time.process_time() - start
    passed = [name for name in seconds if name not in chosen.failed]
    numbers = {name: number for number, name in enumerate(passed)}
    data = recorder.get_data()
    lines = {
        file: {
            line: [numbers[name] for name in names if name in numbers]
            for line, names in data.contexts_by_lineno(str(ROOT / file)).items()
        }
        for file in files
    }
    to.write_text(json.dumps({"seconds": seconds, "names": passed, "lines": lines, "failed": sorted(chosen.failed)}))
    return PASSED


class Functions:
    """All functions of some files that exist in this process, to change their code."""

    def __init__(self, files: Iterable[str]) -> None:
        wanted = {str(ROOT / file) for file in files}
        self._functions = defaultdict(list)
        self._caches = []
        gc.unfreeze()  # what is frozen is not found
        for thing in gc.get_objects():
            if type(thing) is types.FunctionType and thing.__code__.co_filename in wanted:
                self._functions[thing.__code__.co_filename].append(thing)
            elif type(thing).__name__ == "_lru_cache_wrapper" and hasattr(thing, "cache_clear"):
                self._caches.append(thing)

    def change(self, mutant: Mutant) -> None:
        """Give the functions of the mutant's file the mutant's code, and forget what they returned before."""
        path = str(ROOT / mutant.file)
        codes = defaultdict(list)
        for code in _codes(compile(mutant.source(), path, "exec")):
            codes[_place(code)].append(code)
        for function in self._functions[path]:
            (function.__code__,) = codes[_place(function.__code__)]
        for cached in self._caches:
            if getattr(cached, "__module__", "").startswith("neuroactivity"):
                cached.cache_clear()


def _place(code: types.CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _codes(code: types.CodeType) -> Iterable[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


class Mutated(importlib.abc.SourceLoader, importlib.abc.MetaPathFinder):
    """Import a file's module with a mutant in it."""

    def __init__(self, mutant: Mutant) -> None:
        self._path = str(ROOT / mutant.file)
        self._source = mutant.source()
        inside = Path(mutant.file.removeprefix("adapters/")).with_suffix("")
        self._name = ".".join(inside.parts).removesuffix(".__init__")

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self._name:
            return None
        folders = [str(Path(self._path).parent)] if self._path.endswith("__init__.py") else None
        return importlib.util.spec_from_file_location(name, self._path, loader=self, submodule_search_locations=folders)

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_data(self, path: str) -> bytes:
        return self._source.encode()


def session(loop: Callable[[Chosen], None], options: Sequence[str]) -> int:
    """Collect tests and give them to a function; 0 if that went well. What pytest writes goes to a file."""
    os.dup2(os.open(OUT / f"pytest.{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    quiet = ["-q", "-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider"]
    return int(pytest.main([*quiet, "-m", "(sampled or not slow) and not gpu", *options], plugins=[Chosen(loop)]))


def try_from_import(mutant: Mutant, tests: Sequence[str]) -> int:
    """Import everything with the mutant in it, and run tests."""
    if not tests:
        return PASSED
    for name in [name for name in sys.modules if name.startswith(("neuroactivity", "benchmarks"))]:
        del sys.modules[name]
    sys.meta_path.insert(0, Mutated(mutant))
    ended = [FAILED]
    wanted = list(dict.fromkeys(name.partition("::")[0] for name in tests))

    def loop(chosen: Chosen) -> None:
        ended[0] = chosen.run(tests)

    session(loop, wanted)
    return ended[0]


def try_in_place(chosen: Chosen, functions: Functions, mutant: Mutant, tests: Sequence[str]) -> int:
    """Put the mutant into the functions that are there, and run the tests that need no threads of JAX."""
    try:
        functions.change(mutant)
    except (ValueError, SyntaxError):  # two lambdas on a line, or another closure: tried from the import on
        return PASSED
    return chosen.run([name for name in tests if "jax" not in name])
