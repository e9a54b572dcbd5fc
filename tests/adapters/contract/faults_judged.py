"""Do the same with a plain and with a wrapped optimizer, and say what happened."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import neuroactivity as na
from tests.adapters.contract.network import DEAD, Values, gradients, reset


def judge(
    make: Callable[[str | None], Any],
    act: Callable[[Any], None],
    *,
    dead: Mapping[str, list[int]] = DEAD,
    moments: bool = False,
    rounding: float | None = None,
) -> str:
    """Do the same with a plain and with a wrapped optimizer, and say what became of the dead neurons.

    Args:
        make: Makes the network, with the plain optimizer if it is given ``None``.
        act: Trains it; only the last step finds dead neurons.
        dead: The neurons that a reset resets.
        moments: Whether moments are compared too.
        rounding: How far what a reset writes may be from that, in a framework that rounds it.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", na.ActivityWarning)
        try:
            side = make("regrama")
        except ValueError:
            return "refused"
        plain = make(None)
        act(plain)
        try:
            act(side)
        except ValueError:
            compare(side.params(), plain.params())
            assert side.counts().resets == 0
            return "refused at the step"
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
    return "right" if done == dead else "left alone"


def compare(found: Values, plain: Values, expected: Values | None = None, rounding: float = 0.0) -> None:
    """Check what was made of values: what a reset wrote is as expected, and the rest are the plain optimizer's bits."""
    expected = plain if expected is None else expected
    assert found.keys() == plain.keys()
    for name, value in found.items():
        kept = (plain[name] == expected[name]) | np.isnan(plain[name])
        np.testing.assert_array_equal(value[kept], plain[name][kept], err_msg=name)
        np.testing.assert_allclose(value[~kept], expected[name][~kept], rtol=rounding, atol=rounding, err_msg=name)


def rolled_back(plain: Any, side: Any, fail: Callable[[bool], None], error: type[BaseException] = OSError) -> str:
    """Let something fail in the middle of a due step, then no more."""
    fail(True)
    with pytest.raises(error):
        side.step(gradients())
    plain.step(gradients())
    compare(side.params(), plain.params())
    assert (side.counts().measurements, side.counts().resets, side.report()) == (0, 0, None)
    fail(False)
    for each in (plain, side):
        each.step(gradients())
    compare(side.params(), plain.params(), side.expected(plain.params(), DEAD), side.rounding)
    assert (side.counts().measurements, side.counts().resets) == (1, 1)
    return "rolled back"


def loaded(saved: Any, side: Any) -> str:
    """Give a wrapper a state, and take a due step."""
    before, counts = side.params(), side.counts()
    try:
        side.resume(saved)
    except ValueError:
        compare(side.params(), before)
        assert side.counts() == counts
        return "refused at loading"
    try:
        side.step(gradients())
    except ValueError:
        compare(side.params(), before)
        return "refused at the step"
    compare(side.params(), before, side.expected(before, DEAD), side.rounding)
    return "right"
