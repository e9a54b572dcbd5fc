"""Record a run: one JSON object a line for each measurement. All files are written here, whole or not at all."""

import json
import math
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from neuroactivity.report import ActivityReport, GroupActivity

DRAFT = ".{}.draft"
"""Name of the temporary file that replaces another one once it is complete."""
VERSION = 1
"""Version of the form of a record; a reader refuses later ones."""


class JsonLines:
    """Append every report to a file, one JSON object a line: an ``on_report=`` for any wrapper.

    ``neuroactivity plot`` makes a page of the file. Lines are only ever added. Where a run goes on from a checkpoint,
    the records that it makes again take the place of the earlier ones when the file is read.

    Args:
        path: The file. It is made at the first report, and its folder too.
        step: Returns the step of the run; called at each report.
        every: Without ``step``, steps from one measurement to the next: records are counted from ``start``.
        start: Without ``step``, the step of the checkpoint that the run goes on from.
        network: Name of the network, where several write to one file.
        method: ``"regrama"`` or ``"redo"``, where both are measured and are to be compared.
        scores: Whether every neuron's score is recorded, and which neurons were reset.

    Raises:
        ValueError: If ``every`` is less than 1.

    Example:
        >>> import tempfile
        >>> report = ActivityReport(tau=0.01, groups=(GroupActivity("fc", neurons=4, inactive=1),))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = JsonLines(Path(folder) / "run.jsonl", every=1000)
        ...     log(report)
        ...     log(report)
        ...     [json.loads(line)["step"] for line in log.path.read_text().splitlines()]
        [1000, 2000]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        step: Callable[[], float] | None = None,
        every: int = 1,
        start: int = 0,
        network: str = "",
        method: str = "",
        scores: bool = True,
    ) -> None:
        if every < 1:
            raise ValueError(f"every: expected 1 or more steps, got {every!r}")
        self.path = Path(path)
        self.step, self.every, self.start = step, every, start
        self.network, self.method, self.scores = network, method, scores
        self._counts: dict[int | None, int] = {}

    def __call__(self, report: ActivityReport) -> None:
        """Append a report."""
        count = self._counts[report.run] = self._counts.get(report.run, 0) + 1
        step = self.start + count * self.every if self.step is None else self.step()
        line = record(report, step=step, network=self.network, method=self.method, scores=self.scores)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append(self.path, line)


def record(
    report: ActivityReport, *, step: float, network: str = "", method: str = "", scores: bool = True
) -> dict[str, Any]:
    """Return a report as one record, for a file of your own: what ``to_dict`` gives, and where it belongs.

    Args:
        report: The report.
        step: Step of the run.
        network: Name of the network.
        method: ``"regrama"`` or ``"redo"``.
        scores: Whether every neuron's score is in it, in six digits, and which neurons were reset.

    Returns:
        JSON values: ``None``, never NaN.

    Example:
        >>> report = ActivityReport(tau=0.01, groups=(GroupActivity("fc", 2, 1, scores=((0.0, 2.0),)),))
        >>> record(report, step=1000)["groups"]["fc"]["scores"]
        [[0.0, 2.0]]
    """
    named = {key: value for key, value in (("network", network), ("method", method)) if value}
    values: dict[str, Any] = {"version": VERSION, "step": float(step) if step % 1 else int(step), **named}
    values |= report.to_dict()
    for group in report.groups if scores else ():
        values["groups"][group.name] |= _of_each_neuron(group)
    return values


def append(path: Path, line: Mapping[str, Any], *, to_disk: bool = False) -> None:
    """Append a record to a file: the whole line, or nothing where the disk is full.

    Args:
        path: The file; the incomplete line of a process that was killed is removed from its end.
        line: JSON values.
        to_disk: Whether to wait until it has been written to the disk.

    Raises:
        OSError: If it cannot be written.
    """
    text = json.dumps(line, allow_nan=False).encode() + b"\n"
    with _named(path), path.open("a+b", buffering=0) as file:
        end = _mend(file)
        try:
            while text:
                text = text[file.write(text) :]
            if to_disk:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces another one at the end of the block: a file is complete, old or new.

    Args:
        path: File to write; it stays unchanged until the block ends without an exception. A link is replaced, and what
            it leads to stays unchanged.

    Yields:
        A binary file in the same folder, named by :data:`DRAFT`.

    Raises:
        OSError: If it cannot be written, with the name of the file that was to be.
    """
    draft = draft_of(path)
    with _named(path), draft.open("xb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(draft, path)
        finally:
            with suppress(OSError):
                draft.unlink()


def draft_of(path: Path) -> Path:
    """Name a temporary file beside another one, which nobody else writes to."""
    return path.with_name(DRAFT.format(secrets.token_hex(8)))


def write_text(path: Path, text: str) -> None:
    """Write a text file, as :func:`replacing` does."""
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of writing name the file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _of_each_neuron(group: GroupActivity) -> dict[str, Any]:
    """Return the scores of a group's neurons, and the places of those that were reset, in rows."""
    values: dict[str, Any] = {}
    if group.scores:
        values["scores"] = [list(map(_rounded, row)) for row in group.scores]
    if group.mask is not None:
        values["reset_neurons"] = [_places(row) for row in group.mask]
    return values


def _rounded(score: float) -> float | None:
    return float(f"{score:.6g}") if math.isfinite(score) else None


def _places(mask: Sequence[bool]) -> list[int]:
    return [place for place, reset in enumerate(mask) if reset]


def _mend(file: IO[bytes]) -> int:
    """Begin a line, and return where. What a process left that was killed while it wrote a record is removed."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - 1, 0))
    if file.read(1) in (b"", b"\n"):
        return end
    file.seek(0)
    last = deque(file, maxlen=1)[0]
    try:
        json.loads(last)
        file.write(b"\n")
    except (ValueError, RecursionError):
        file.truncate(end - len(last))
    return file.seek(0, os.SEEK_END)
