"""What may go wrong in a run, and what then happens in each framework: the table that tests and documentation share."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import neuroactivity as na
from tests.adapters.contract.network import DEAD, Values, reset

FRAMEWORKS = {"torch": "PyTorch", "jax": "JAX", "tensorflow": "Keras"}

OUTCOMES = {
    "right": "Exactly the inactive neurons are reset; all else is bit for bit what the plain optimizer makes of it.",
    "left alone": "What is concerned is not reset, and named in the report or a warning; all else is right.",
    "refused": "One error when the wrapper is made (in JAX by `init`); nothing is changed.",
    "refused at the step": "One error at the first step at which it can be told; nothing of a reset is written.",
    "refused at loading": "One error when the state is given to the wrapper; nothing is changed.",
    "rolled back": "The error is raised, and all is as the optimizer's step left it; the next reset is a whole one.",
    "reset, then raised": "The reset is whole and counted, then the error is raised; training can go on.",
}
"""What may happen. Never a reset that is wrong and says nothing, nor half of one."""


class Fault(NamedTuple):
    """Something that may go wrong.

    Attributes:
        name: Its name among the scenarios.
        what: What it is, for the documentation.
        outcomes: By framework one of :data:`OUTCOMES`; or ``-`` and why there is no such thing.
    """

    name: str
    what: str
    torch: str
    jax: str
    tensorflow: str


class Judged(NamedTuple):
    """What was seen: an outcome, and what the wrapper said."""

    outcome: str
    said: str


def judge(
    make: Callable[[str | None], Any],
    act: Callable[[Any], None],
    *,
    dead: Mapping[str, list[int]] = DEAD,
    moments: bool = False,
    rounding: float | None = None,
) -> Judged:
    """Do the same with a plain and with a wrapped optimizer, and say what became of the dead neurons.

    Args:
        make: Makes the network, with the plain optimizer if it is given ``None``.
        act: Trains it; only the last step finds dead neurons.
        dead: The neurons that a reset resets.
        moments: Whether moments are compared too.
        rounding: How far what a reset writes may be from that, in a framework that rounds it.
    """
    plain = make(None)
    act(plain)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", na.ActivityWarning)
        try:
            side = make("regrama")
        except ValueError as error:
            return Judged("refused", str(error))
        try:
            act(side)
        except ValueError as error:
            compare(side.params(), plain.params())
            assert side.counts().resets == 0
            return Judged("refused at the step", str(error))
        report = side.report()
    said = [str(each.message) for each in caught if issubclass(each.category, na.ActivityWarning)]
    counted = {group.name: group.reset for group in report.groups}
    done = {name: neurons for name, neurons in dead.items() if counted.get(name)}
    assert counted == {name: len(done.get(name, [])) for name in counted}
    assert side.counts().neurons_reset == sum(map(len, done.values()))
    compare(side.params(), plain.params(), side.expected(plain.params(), done), rounding or side.rounding)
    for one, other in zip(side.moments(), plain.moments(), strict=True) if moments else ():
        compare(one, reset(other, done, None))
    named = {group.name for group in report.groups if group.silent or group.nonfinite} | set(report.absent)
    silently = [name for name in dead if name not in {*done, *named} and not any(name in text for text in said)]
    assert not silently, f"left alone in silence: {silently}"
    return Judged("right" if done == dead else "left alone", "; ".join([*said, *sorted(named)]))


def compare(found: Values, plain: Values, expected: Values | None = None, rounding: float = 0.0) -> None:
    """Check what was made of values: what a reset wrote is as expected, and the rest are the plain optimizer's bits."""
    expected = plain if expected is None else expected
    assert found.keys() == plain.keys()
    for name, value in found.items():
        kept = (plain[name] == expected[name]) | np.isnan(plain[name])
        np.testing.assert_array_equal(value[kept], plain[name][kept], err_msg=name)
        np.testing.assert_allclose(value[~kept], expected[name][~kept], rtol=rounding, atol=rounding, err_msg=name)
