"""Writes that fail, interrupts and states in PyTorch."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from neuroactivity_torch import write
from neuroactivity_torch.rows import Entries
from tests.adapters.contract.faults_judged import compare, loaded
from tests.adapters.contract.faults_shared import (
    Scenario,
    at_write,
    each_write_fails,
    fail,
    failing_probe,
    interrupt,
    interrupted_at_each_write,
    made,
)
from tests.adapters.contract.network import DEAD, gradients, reset, weights
from tests.adapters.contract.torch_driver import TorchDriver

make = partial(made, TorchDriver)


def half(act: Callable[[], None]) -> Callable[..., None]:
    """Write something else before it happens."""
    put = Entries.put

    def written(entries: Entries, tensor: Tensor, values: Any) -> None:
        put(entries, tensor, 7.0)
        act()

    return written


def fails_at_each_write() -> str:
    plain, side = make(optimizer="adam")(None), make(optimizer="adam")("regrama")

    def undone(number: int) -> None:
        plain.step(gradients())
        compare(side.params(), plain.params())
        for one, other in zip(side.moments(), plain.moments(), strict=True):
            compare(one, other)
        assert (side.counts().measurements, side.report()) == (0, None)

    def done(number: int) -> None:
        plain.step(gradients())
        compare(side.params(), plain.params(), side.expected(plain.params(), DEAD))

    writes = partial(at_write, Entries, "put", act=half(fail))
    return each_write_fails(writes, lambda: side.step(gradients()), undone, done)


def interrupted() -> str:
    plain, side = make(optimizer="adam")(None), make(optimizer="adam")("regrama")

    def start() -> None:
        for each in (plain, side):
            write(each.model, each.native(weights()))

    def done(number: int) -> None:
        plain.step(gradients())
        compare(side.params(), plain.params(), side.expected(plain.params(), DEAD))
        for one, other in zip(side.moments(), plain.moments(), strict=True):
            compare(one, reset(other, DEAD, None))
        assert side.counts().resets == side.counts().steps == number

    writes = partial(at_write, Entries, "put", act=half(interrupt))
    return interrupted_at_each_write(writes, start, lambda: side.step(gradients()), done)


def older_state() -> str:
    saved = make()("regrama").state()
    for key in ("since", "sums", "batches", "clock", "layout"):
        del saved[2][key]
    return loaded(saved, make()("regrama"))


def damaged_state() -> str:
    saved = make()("regrama").state()
    saved[2]["steps"] = -5
    return loaded(saved, make()("regrama"))


SCENARIOS: Mapping[str, Scenario] = {
    "state of another version": older_state,
    "damaged state": damaged_state,
    "write fails": fails_at_each_write,
    "Ctrl-C": interrupted,
    "probe fails": partial(failing_probe, TorchDriver, TypeError),
}
