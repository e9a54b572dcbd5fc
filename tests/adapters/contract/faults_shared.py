"""Faults that are the same in all frameworks: gradients that are missing or not finite, precision, sizes, options."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from tests.adapters.contract.faults import Judged, judge
from tests.adapters.contract.network import DEAD, FRESH, Values, gradients, weights

Scenario: TypeAlias = Callable[[], Judged]


def made(driver: Any, **options: Any) -> Callable[[str | None], Any]:
    """Make networks whose neurons are measured at every step, unless the options say otherwise."""

    def make(method: str | None) -> Any:
        given = {"optimizer": "sgd", **options}
        wrapping = {"every": 1, "tau": 0.0, **given}
        plain = {name: value for name, value in given.items() if name in ("optimizer", "prepare", "initial", "trained")}
        return driver(method, **wrapping) if method else driver(None, **plain)

    return make


def steps(*grads: Values) -> Callable[[Any], None]:
    """Take steps with these gradients."""

    def act(side: Any) -> None:
        for each in grads:
            side.step(each)

    return act


def with_entries(name: str, value: float | None) -> Values:
    """Gradients of which one entry is this, or one parameter has none."""
    grads = gradients(DEAD)
    if value is None:
        return grads | {name: None}
    grads[name][..., 0] = value
    return grads


def scaled(factor: float, dead=DEAD) -> Values:
    """Gradients, times a factor, of the same sign and size for all that are not dead."""
    return {name: (np.sign(value) * np.float32(factor)).astype("float32") for name, value in gradients(dead).items()}


def shared(driver: Any) -> dict[str, Scenario]:
    """The scenarios of a framework, by the names of faults."""
    run = partial(judge, made(driver))
    return {
        "no gradient": lambda: run(steps(with_entries("first/kernel", None))),
        "no gradient of a reader": lambda: run(steps(with_entries("value/kernel", None))),
        "no gradient at all": lambda: run(steps(dict.fromkeys(gradients()))),
        "NaN": lambda: run(steps(with_entries("first/kernel", np.nan))),
        "Inf": lambda: run(steps(with_entries("first/kernel", np.inf))),
        "overflow": lambda: run(steps(with_entries("first/kernel", 3e38))),
        "large gradients": lambda: run(steps(scaled(1e30))),
        "small gradients": lambda: run(steps(scaled(1e-30))),
        "underflow": lambda: run(steps(scaled(1e-42))),
        "underflow of one neuron": lambda: judge(
            made(driver, tau=0.01),
            steps(with_entries("first/kernel", 1e-42)),
            dead={**DEAD, "first": [0, 1, 4]},
        ),
        "silent": lambda: judge(
            made(driver, initial=weights({"first": list(range(7))})),
            steps(gradients({"first": list(range(7))})),
            dead={"first": list(range(7))},
        ),
        "one neuron": lambda: None,
    }
