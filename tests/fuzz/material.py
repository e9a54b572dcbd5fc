"""What the targets are fed with, and the bounds of one example."""

import contextlib
import copy
import io
import json
import random
import resource
import signal
import threading

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONG = settings.default.max_examples > 60
_health = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
fuzzed = settings(suppress_health_check=_health, max_examples=5000 if LONG else 60)
"""Of targets that take less than a millisecond."""
fuzzed_slowly = settings(suppress_health_check=_health, max_examples=1000 if LONG else 60)
fuzzed_rarely = settings(suppress_health_check=_health, max_examples=1000 if LONG else 20)
"""Of targets that take a tenth of a second and more."""

NAMES = ["fc", "", "..", "../../X", "/etc/x", "$\\frac{$", "\x1b[31m", "\u202e", "</script><b onload=x>", "_", "\ud800"]
NUMBERS = [0, 1, -1, 2, 2.5, 1e308, -1e308, 2**53, 2**63, 2**64, 10**30, 10**400, float("nan"), float("inf")]
RUBBISH = [b"\xff", b"{", b"[" * 5000, b"9" * 5000, b"1e999", b"NaN", b"\n", b'"\x1b"', b"null", b"\xef\xbb\xbf"]
texts = st.sampled_from([*NAMES, "n" * 300]) | st.text(max_size=12)
scalars = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
"""Any JSON value, and some that are none."""
seeds = st.integers(0, 2**32 - 1)


@contextlib.contextmanager
def bounded(seconds=20, mebibytes=600):
    """Raise if a block takes too long, or far more memory than what it is given."""

    def late(*_):
        raise TimeoutError(f"not ended after {seconds} s")

    main = threading.current_thread() is threading.main_thread()
    before, most = signal.signal(signal.SIGALRM, late) if main else None, _most()
    if main:
        signal.alarm(seconds)
    try:
        yield
    finally:
        if main:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
    assert _most() - most < 1024 * mebibytes


def _most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@st.composite
def mutated(draw, record):
    """A JSON value in which some parts are replaced, removed, repeated or renamed."""
    record = copy.deepcopy(record)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(list(_places(record)) or [([record], 0)]))
        how = draw(st.sampled_from(["replace", "replace", "remove", "rename", "repeat"]))
        if how == "remove":
            del holder[key]
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(texts)] = holder.pop(key)
        elif how == "repeat" and isinstance(holder, list):
            holder += [holder[key]] * draw(st.integers(1, 3))
        else:
            holder[key] = draw(values)
    return record


def _places(record):
    for key in range(len(record)) if isinstance(record, list) else record if isinstance(record, dict) else ():
        yield record, key
        yield from _places(record[key])


@st.composite
def damaged(draw, content):
    """Bytes of a file that a disk, a kill or an editor has damaged."""
    content, chance = bytearray(content), random.Random(draw(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.choice([1, 1, 2, 8, 200]))
        how = draw(st.sampled_from(["cut", "flip", "remove", "repeat", "insert", "zero"]))
        if how == "cut":
            del content[start:]
        elif how == "flip" and start < end:
            content[start] ^= 1 << chance.randrange(8)
        elif how == "remove":
            del content[start:end]
        elif how == "repeat":
            content[start:start] = content[start:end] * chance.choice([1, 2, 30])
        elif how == "zero":
            content[start:end] = bytes(end - start)
        else:
            content[start:start] = draw(st.sampled_from(RUBBISH))
    return bytes(content)


def lines(*records):
    """The content of a file of records."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def command_of(main, args):
    """Run a command line: it ends well, or with one line and a status that is not 0."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), bounded():
        try:
            status = main(args)
        except SystemExit as end:  # the help
            status = end.code
    assert status in (0, 2)
    assert not {"\x1b", "\u202e"} & set(out.getvalue() + err.getvalue())
    if status:
        assert err.getvalue().startswith("error: ")
        assert err.getvalue().count("\n") == 1
    return status
