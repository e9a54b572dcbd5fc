"""Scores as bytes, as the page draws them: exactly zero, at most tau, and above tau are told apart without rounding."""

import base64
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

UNKNOWN, ZERO, INACTIVE, ACTIVE = 0, 1, 2, 64
"""Where the codes begin of scores that are not finite, exactly zero, at most tau, and above tau."""
BINS = 26
"""Of a histogram: zero, six up to tau, eighteen above it, not finite."""
_BIN = bytes([25, 0, *[1 + code * 6 // 62 for code in range(62)], *[7 + code * 18 // 192 for code in range(192)]])


def limits(tau: float) -> tuple[float, float, float]:
    """Return the lowest score that has a code of its own, where active scores begin, and the highest.

    Example:
        >>> limits(0.01)
        (0.0001, 0.01, 10.0)
    """
    edge = tau if tau > 1e-300 else 1e-4
    return edge / 100, edge, max(10.0, 10 * edge)


def codes(scores: Iterable[float], tau: float) -> bytes:
    """Return a byte for each score, on a logarithmic scale on either side of tau.

    Example:
        >>> list(codes([math.nan, 0.0, 0.0001, 0.01, 0.0100001, 10.0], 0.01))
        [0, 1, 2, 63, 64, 255]
    """
    lowest, edge, highest = limits(tau)
    low, high = 62 / math.log(edge / lowest), 192 / math.log(highest / edge)
    log = math.log

    def code(score: float) -> int:
        if score > tau:
            return ACTIVE + min(max(int(high * log(score / edge)), 0), 191) if score < highest else 255
        if score > 0:
            return INACTIVE + min(max(int(low * log(score / lowest)), 0), 61) if score > lowest else INACTIVE
        return ZERO if score == score else UNKNOWN

    return bytes(map(code, scores))


def histogram(coded: bytes) -> Iterable[int]:
    """Return the share of the scores in each bin, in parts of 65,535; never 0 for a bin with a score.

    Example:
        >>> [place for place, share in enumerate(histogram(bytes([0, 1, 1, 63, 64, 255]))) if share]
        [0, 6, 7, 24, 25]
    """
    bins = coded.translate(_BIN)
    counts = [bins.count(place) for place in range(BINS)]
    return [0 if not count else max(1, round(65535 * count / len(coded))) for count in counts]


def score_map(columns: Sequence[bytes], resets: Sequence[set[int]], most: int) -> dict[str, object]:
    """Return a map: a row for each neuron, those of the lowest scores on top; where there are too many, for several.

    Args:
        columns: The codes of all neurons at each measurement.
        resets: The neurons that were reset since the measurement before.
        most: Rows at most. A row of several neurons shows their median, and a reset of any.

    Returns:
        ``rows``, ``codes`` (row by row) and ``marks`` (bits, row by row).
    """
    neurons = len(columns[0])
    series = list(zip(*columns, strict=True))
    order = sorted(range(neurons), key=lambda neuron: sum(series[neuron]))
    rows = min(neurons, most)
    borders = [row * neurons // rows for row in range(rows + 1)]
    shown, marks = bytearray(), []
    for start, end in pairwise(borders):
        members = order[start:end]
        if len(members) == 1:
            shown += bytes(series[members[0]])
        else:
            middle = (len(members) - 1) // 2
            shown += bytes([sorted(at)[middle] for at in zip(*[series[m] for m in members], strict=True)])
        together = set(members)
        marks += [not together.isdisjoint(places) for places in resets]
    return {"rows": rows, "codes": base64_of(shown), "marks": base64_of(_bits(marks)) if any(marks) else ""}


def base64_of(values: bytes | bytearray) -> str:
    """Return bytes as text."""
    return base64.b64encode(values).decode()


def base64_of_shares(values: Iterable[int]) -> str:
    """Return numbers below 65,536 as text, two bytes each, the low one first."""
    return base64_of(b"".join([value.to_bytes(2, "little") for value in values]))


def _bits(flags: Sequence[bool]) -> bytes:
    """Pack flags, the first in the lowest bit."""
    value = int("".join("1" if flag else "0" for flag in reversed(flags)) or "0", 2)
    return value.to_bytes((len(flags) + 7) // 8, "little")
