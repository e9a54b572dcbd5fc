"""The folder of a run."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from neuroactivity.looking import RecordsError
from neuroactivity.looking.forms import check_version
from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.running.files import (
    check_sizes,
    parse,
    read_file,
    read_json,
    remove_drafts,
    replacing,
    write_text,
)

Arrays = Mapping[str, NDArray[Any]]


class RunFolder:
    """The files of one run.

    Args:
        path: The folder; nothing is written before it is ``claimed``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.scores = path / "scores.jsonl"
        self.checkpoint = path / "checkpoint.npz"
        self.plot = path / "activity.png"
        self.summary = path / "summary.json"
        self.lock = path / ".lock"
        self._seen: tuple[tuple[int, int] | None, ...] | None = None

    def check(self, config: Config, *, resume: bool) -> None:
        """Raise a ``UsageError`` unless a run with these settings can start, or resume, in the folder.

        What is there is remembered: ``claimed`` refuses a folder that another process has written to since.
        """
        self._seen = self._stamps()
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"out: expected a folder, got the file {self.path}")
        if self.lock.is_symlink():
            raise UsageError(f"out: expected a folder without links to elsewhere, got {self.lock}")
        if not any(file.exists() for file in (self.config, self.metrics, self.checkpoint, self.scores, self.summary)):
            return
        if not resume:
            raise UsageError(f"out: expected a folder without a run, got {self.path}; --resume goes on with its run")
        if not self.config.exists():
            raise UsageError(f"out: expected the settings of the run to resume, got no {self.config}")
        try:
            saved = self.settings()
        except UsageError as error:
            raise UsageError(f"out: expected a run of this version to resume, got {self.config}: {error}") from error
        _check_same(saved, config)

    def settings(self) -> Config:
        """Read the settings of the run.

        Raises:
            UsageError: If the file does not hold the settings of a run of this version.
            OSError: If it cannot be read.
        """
        return Config.from_json(read_file(self.config))

    def results(self) -> dict[str, Any] | None:
        """Read the summary of the run, None if there is none.

        Raises:
            UsageError: If the file holds no summary.
        """
        if not self.summary.exists():
            return None
        summary = read_json(self.summary, "the summary of a run")
        if not isinstance(summary, dict):
            raise UsageError(f"{self.summary}: expected the summary of a run, got {type(summary).__name__}")
        try:
            check_version(summary)
        except RecordsError as error:
            raise UsageError(f"{self.summary}: {error}") from None
        step = summary.get("step")
        if not isinstance(step, int) or step < 1:
            raise UsageError(f"{self.summary}: expected the summary of a run, got the step {step!r}")
        return summary

    def is_finished(self, config: Config) -> bool:
        """Whether the folder contains a finished run of exactly these steps."""
        summary = self.results()
        return summary is not None and summary["step"] == config.steps

    @contextmanager
    def claimed(self, config: Config) -> Iterator[None]:
        """Create the folder, write the settings, and lock it against other processes until the block ends.

        The summary of a shorter run is removed, and temporary files that a killed process has left.

        Raises:
            UsageError: If the folder cannot be written to, or another process has locked it.
        """
        lock = FileLock(self.lock, blocking=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            if self._seen not in (None, self._stamps()):
                lock.release()
                raise UsageError(f"out: expected a folder that no other process writes to, got {self.path}")
            remove_drafts(self.path)
            write_text(self.config, config.to_json())
            self.summary.unlink(missing_ok=True)
        except Timeout as error:
            raise UsageError(f"out: expected a folder without a run under way, got {self.path}") from error
        except OSError as error:
            lock.release()
            raise UsageError(f"out: expected a folder to write to, got {self.path}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    def _stamps(self) -> tuple[tuple[int, int] | None, ...]:
        """Return when each file was written, and its size."""
        files = (self.config, self.metrics, self.checkpoint, self.scores, self.summary)
        found = [file.stat() if file.exists() else None for file in files]
        return tuple([None if one is None else (one.st_mtime_ns, one.st_size) for one in found])

    def save_checkpoint(self, progress: Mapping[str, Any], agent: bytes, replay: Arrays) -> None:
        """Replace the checkpoint."""
        columns = {f"replay/{name}": column for name, column in replay.items()}
        with replacing(self.checkpoint) as file:
            np.savez(
                file,
                allow_pickle=False,
                progress=np.asarray(json.dumps(progress)),
                agent=np.frombuffer(agent, np.uint8),
                **columns,
            )

    def load_checkpoint(self) -> tuple[dict[str, Any], bytes, Arrays]:
        """Read the checkpoint: the arguments of ``save_checkpoint``."""
        if not self.checkpoint.is_file():
            raise UsageError(f"out: expected a checkpoint, got {self.checkpoint}, which is no file")
        try:
            with self.checkpoint.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                check_sizes(saved.zip)
                replay = {name.removeprefix("replay/"): saved[name] for name in saved if name.startswith("replay/")}
                progress = parse(saved["progress"].item().encode(), "progress: expected JSON")
                return progress, saved["agent"].tobytes(), replay
        except Exception as error:  # nobody knows all that NumPy and its archives raise at a damaged file
            raise UsageError(f"out: expected a checkpoint, got {self.checkpoint}: {error}") from error


def _check_same(old: Config, new: Config) -> None:
    """Raise a ``UsageError`` that names the first setting that changed; only ``steps`` may, and only increase."""
    for field in dataclasses.fields(Config):
        before, now = getattr(old, field.name), getattr(new, field.name)
        if field.name == "steps" and now < before:
            raise UsageError(f"steps: expected at least the {before} of the run to resume, got {now}")
        if field.name != "steps" and now != before:
            raise UsageError(f"{field.name}: expected {before!r} as in the run to resume, got {now!r}")
