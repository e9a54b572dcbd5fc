"""Writes that fail, interrupts and states in PyTorch."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from torch import Tensor

from neuroactivity_torch import write
from neuroactivity_torch.rows import Entries
from tests.adapters.contract.faults_judged import compare, loaded, rolled_back
from tests.adapters.contract.faults_shared import Scenario, made
from tests.adapters.contract.network import DEAD, gradients, weights
from tests.adapters.contract.torch_driver import TorchDriver

make = partial(made, TorchDriver)


@contextmanager
def at_write(number: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """Let something happen in the middle of one of the writes of rows, counted from 1; yield what was written."""
    written: list[int] = []
    put = Entries.put

    def counted(entries: Entries, tensor: Tensor, values: Any) -> None:
        written.append(number)
        if len(written) == number:
            put(entries, tensor, 7.0)
            act()
        put(entries, tensor, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Entries, "put", counted)
        yield written


def fail() -> None:
    raise OSError("no space")


def each_write_fails() -> str:
    """Of all writes of a reset, those of moments too."""
    plain, side = make(optimizer="adam")(None), make(optimizer="adam")("regrama")
    for number in range(1, 99):
        with at_write(number, fail) as written:
            try:
                side.step(gradients())
            except OSError:
                plain.step(gradients())
                compare(side.params(), plain.params())
                for one, other in zip(side.moments(), plain.moments(), strict=True):
                    compare(one, other)
                assert (side.counts().measurements, side.report()) == (0, None)
                continue
        plain.step(gradients())
        compare(side.params(), plain.params(), side.expected(plain.params(), DEAD))
        assert len(written) == number - 1 > 20
        return "rolled back"
    return "never whole"


def interrupted_at_each_write() -> str:
    side = make()("regrama")
    for number in range(1, 99):
        write(side.model, side.native(weights()))
        with at_write(number, lambda: signal.raise_signal(signal.SIGINT)) as written:
            try:
                side.step(gradients())
            except KeyboardInterrupt:
                compare(side.params(), weights(), side.expected(weights(), DEAD))
                assert side.counts().resets == side.counts().steps == number
                continue
        assert len(written) == number - 1 > 6
        return "reset, then raised"
    return "never interrupted"


def failing_probe() -> str:
    plain, side = make()(None), make()("redo")
    probe = side.probe

    def set_probe(fails: bool) -> None:
        side.probe = None if fails else probe

    return rolled_back(plain, side, set_probe, error=TypeError)


def older_state() -> str:
    saved = make()("regrama").state()
    for key in ("since", "sums", "clock", "layout"):
        del saved[2][key]
    return loaded(saved, make()("regrama"))


def damaged_state() -> str:
    saved = make()("regrama").state()
    saved[2]["steps"] = -5
    return loaded(saved, make()("regrama"))


SCENARIOS: Mapping[str, Scenario] = {
    "state of another version": older_state,
    "damaged state": damaged_state,
    "write fails": each_write_fails,
    "Ctrl-C": interrupted_at_each_write,
    "probe fails": failing_probe,
}
