"""Faults that all frameworks have in one form: gradients, wrappers, states, functions of the user that fail."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pytest

import neuroactivity as na
from tests.adapters.contract.faults_judged import compare, judge, loaded, rolled_back
from tests.adapters.contract.network import DEAD, FRESH, Values, gradients, layout, weights

Scenario: TypeAlias = Callable[[], str]
"""Makes the fault happen, and returns what came of it."""

Writes: TypeAlias = Callable[[int], AbstractContextManager[list[int]]]
"""Lets something happen at the write of this number."""

Checks: TypeAlias = Callable[[int], None]
"""Checks what came of a write of this number."""

HEALTHY, ALL = gradients({}, 3), list(range(7))
INFINITE = gradients() | {"out/bias": np.full(2, np.inf, "float32")}


def made(driver: Any, **options: Any) -> Callable[..., Any]:
    """Make networks whose neurons are measured at every step, unless the options say otherwise."""
    of_plain = ("optimizer", "prepare", "initial", "trained")

    def make(method: str | None, **more: Any) -> Any:
        given = {"optimizer": "sgd", **options, **more}
        if method is None:
            return driver(**{name: given[name] for name in of_plain if name in given})
        return driver(method, **{"every": 1, "tau": 0.0, **given})

    return make


def steps(*grads: Values) -> Callable[[Any], None]:
    """Take steps with these gradients."""

    def act(side: Any) -> None:
        for each in grads:
            side.step(each)

    return act


def then(change: Callable[[Any], None]) -> Callable[[Any], None]:
    """Take a step, change something, and take the step that finds dead neurons."""

    def act(side: Any) -> None:
        side.step(HEALTHY)
        change(side)
        side.step(gradients())

    return act


def with_entry(value: float) -> Values:
    """Gradients of which one neuron's are this."""
    grads = gradients()
    grads["first/kernel"][:, 0] = value
    return grads


def of_size(size: float) -> Values:
    """Gradients of one size, but for those of dead neurons."""
    return {name: (np.sign(value) * np.float32(size)).astype("float32") for name, value in gradients().items()}


class Fresh(dict[str, Any]):
    """Fresh values; while it is on, they are changed."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__(FRESH)
        self.change, self.on = change, False

    def set(self, on: bool) -> None:
        self.on = on

    def __getitem__(self, name: str) -> Any:
        return self.change(super().__getitem__(name)) if self.on else super().__getitem__(name)

    def items(self) -> Any:
        return {name: self[name] for name in self}.items()


def drawn_later(driver: Any, change: Callable[[Any], Any], error: type[Exception] = OSError) -> str:
    """The fresh values were right when the wrapper was made."""
    fresh = Fresh(change)
    return rolled_back(made(driver)(None), made(driver, initializer=fresh)("regrama"), fresh.set, error)


class Score:
    """GraMa's scores; while it is on, those of the first layer are changed."""

    def __init__(self, change: Callable[[Any], Any], *, on: bool = True) -> None:
        self.change, self.on = change, on

    def set(self, on: bool) -> None:
        self.on = on

    def __call__(self, grads: Any, layout: na.Layout) -> Any:
        scores = dict(na.grama(grads, layout))
        return {**scores, "first": self.change(scores["first"])} if self.on else scores


def failing_score(driver: Any) -> str:
    score = Score(fail, on=False)
    return rolled_back(made(driver)(None), made(driver, score=score)("regrama"), score.set)


def scored(driver: Any, change: Callable[[Any], Any]) -> str:
    return judge(made(driver, score=Score(change)), steps(gradients()))


def scored_later(driver: Any, change: Callable[[Any], Any]) -> str:
    """The score was right when the wrapper was made."""
    score = Score(change, on=False)

    def make(method: str | None) -> Any:
        score.set(False)
        return made(driver, score=score, every=2)(method)

    return judge(make, then(lambda side: score.set(True)))


def some_scores(driver: Any) -> str:
    def score(grads: Any, layout: na.Layout) -> Any:
        return {name: scores for name, scores in na.grama(grads, layout).items() if name != "first"}

    return judge(made(driver, score=score), steps(gradients()))


def drawn(driver: Any, change: Callable[[Any], Any]) -> str:
    fresh = FRESH | {"first/kernel": change(FRESH["first/kernel"])}
    return judge(made(driver, initializer=fresh), steps(gradients()))


def failing_report(driver: Any) -> str:
    """A report is passed on when everything is done; where a step returns its results, none of them are returned."""

    def on_report(report: na.ActivityReport) -> None:
        raise OSError("no disk")

    plain, side = made(driver)(None), made(driver, on_report=on_report)("regrama")
    plain.step(gradients())
    try:
        side.step(gradients())
    except OSError:
        whole = side.counts().resets == 1
        values = plain.params()
        compare(side.params(), values, side.expected(values, DEAD if whole else {}), side.rounding)
        if whole:
            check_sums(made(driver, batches=2, every=2), on_report)
        return "reset, then raised" if whole else "rolled back"
    return "nothing was raised"


def check_sums(make: Callable[..., Any], on_report: Callable[[na.ActivityReport], None]) -> None:
    """What was added up is forgotten once it is scored, though the report could not be passed on."""
    sides = [make("regrama", on_report=function) for function in (None, on_report)]
    for seed in range(4):
        for side in sides:
            with suppress(OSError):
                side.step(gradients(seed=seed))
    one, other = (side.report() for side in sides)
    assert one == other
    assert sides[1].counts().measurements == 2


@contextmanager
def at_write(owner: type, method: str, number: int, act: Callable[..., None]) -> Iterator[list[int]]:
    """Let something happen in one of the writes by a method, counted from 1; yield what was written."""
    written: list[int] = []
    write = getattr(owner, method)

    def counted(*args: Any, **options: Any) -> Any:
        written.append(number)
        if len(written) == number:
            act(*args)
        return write(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, counted)
        yield written


def fail(*args: Any) -> None:
    raise OSError("no space")


def interrupt(*args: Any) -> None:
    signal.raise_signal(signal.SIGINT)


def each_write_fails(writes: Writes, reset: Callable[[], None], undone: Checks, done: Checks) -> str:
    """Let each write of a reset fail in turn, moments and all: what came before is undone, until none fails."""
    for number in range(1, 99):
        with writes(number) as written:
            try:
                reset()
            except OSError:
                undone(number)
                continue
        done(number)
        assert len(written) == number - 1 > 20
        return "rolled back"
    return "never whole"


def interrupted_at_each_write(
    writes: Writes, start: Callable[[], None], reset: Callable[[], None], done: Checks
) -> str:
    """Press Ctrl-C at each write of a reset in turn: all the others are made, and then it is raised."""
    for number in range(1, 99):
        start()
        with writes(number) as written:
            try:
                reset()
            except KeyboardInterrupt:
                done(number)
                continue
        assert len(written) == number - 1 > 6
        return "reset, then raised"
    return "never interrupted"


def failing_probe(driver: Any, error: type[Exception]) -> str:
    """A probe that no model takes."""
    plain, side = made(driver)(None), made(driver)("redo")
    probe = side.probe

    def set_probe(fails: bool) -> None:
        side.probe = "no batch" if fails else probe

    return rolled_back(plain, side, set_probe, error=error)


def two_wrappers(driver: Any) -> str:
    def make(method: str | None) -> Any:
        side = made(driver)(method)
        if method:
            side.wrap_again()
        return side

    return judge(make, steps(gradients()))


def other_layout(driver: Any) -> str:
    only = na.Layout([layout()["first"]])
    return loaded(made(driver, groups=only)("regrama").state(), made(driver)("regrama"))


def shared(driver: Any) -> Mapping[str, Scenario]:
    """The scenarios of a framework, by the names of faults."""
    run, silent = partial(judge, made(driver)), weights({"first": ALL})
    return {
        "no gradient": lambda: run(steps(gradients() | {"first/kernel": None})),
        "no gradient of a reader": lambda: run(steps(gradients() | {"value/kernel": None})),
        "no gradient in one batch": lambda: judge(
            made(driver, batches=2, every=2), steps(gradients() | {"first/kernel": None}, gradients())
        ),
        "no gradient at all": lambda: run(steps(dict.fromkeys(gradients()))),
        "NaN": lambda: run(steps(with_entry(np.nan))),
        "Inf": lambda: run(steps(with_entry(np.inf))),
        "overflow": lambda: run(steps(with_entry(3e38))),
        "large gradients": lambda: run(steps(of_size(1e30))),
        "small gradients": lambda: run(steps(of_size(1e-30))),
        "underflow": lambda: run(steps(of_size(1e-42))),
        "underflow of one neuron": lambda: judge(
            made(driver, tau=0.01), steps(with_entry(1e-42)), dead={**DEAD, "first": [0, 1, 4]}
        ),
        "silent layer": lambda: judge(
            made(driver, initial=silent), steps(gradients({"first": ALL})), dead={"first": ALL}
        ),
        "frozen": lambda: judge(made(driver, trained=["value", "gate", "out"]), steps(gradients())),
        "frozen reader": lambda: judge(made(driver, trained=["first", "gate", "out"]), steps(gradients())),
        "unknown optimizer": lambda: judge(made(driver, optimizer="unknown"), steps(gradients())),
        "two wrappers": partial(two_wrappers, driver),
        "state of another layout": partial(other_layout, driver),
        "score of another shape": partial(scored, driver, lambda scores: scores[:-1]),
        "score of some layers": partial(some_scores, driver),
        "score of NaN": partial(scored, driver, lambda scores: scores * np.nan),
        "score of NaN later": partial(scored_later, driver, lambda scores: scores * np.nan),
        "fresh values of another shape": partial(drawn, driver, lambda values: values[:-1]),
        "fresh values of NaN": partial(drawn, driver, lambda values: values * np.nan),
        "fresh values of NaN later": partial(drawn_later, driver, lambda values: values * np.nan, ValueError),
        "score fails": partial(failing_score, driver),
        "initializer fails": partial(drawn_later, driver, fail),
        "on_report fails": partial(failing_report, driver),
    }
