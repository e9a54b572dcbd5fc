"""Ctrl-C waits until a reset is whole; a second one does not."""

import signal
import threading

import pytest

from neuroactivity.wrapping import undivided


def interrupt():
    signal.raise_signal(signal.SIGINT)


@undivided()
def work(done, interrupts=1):
    for _ in range(interrupts):
        interrupt()
    done.append("the rest")


def test_an_interrupt_comes_when_all_is_done():
    done = []
    with pytest.raises(KeyboardInterrupt):
        work(done)
    assert done == ["the rest"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_does_not_wait():
    done = []
    with pytest.raises(KeyboardInterrupt):
        work(done, 2)
    assert done == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_is_not_lost_when_an_interrupt_came_too():
    with pytest.raises(KeyboardInterrupt) as caught:
        work(None)
    assert isinstance(caught.value.__context__, AttributeError)


def test_nothing_is_done_in_other_threads():
    seen = []

    @undivided()
    def look():
        seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_a_handler_of_the_users_own_is_called_once_and_kept():
    calls = []
    before = signal.signal(signal.SIGINT, lambda *received: calls.append(received[0]))
    try:
        mine = signal.getsignal(signal.SIGINT)
        with undivided():
            interrupt()
            assert calls == []
        assert calls == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is mine
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with undivided():
            interrupt()
        assert calls == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
