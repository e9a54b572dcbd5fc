"""The folder of a run."""

import dataclasses
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.running.files import remove_drafts, replacing, write_text

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

    def check(self, config: Config, *, resume: bool) -> None:
        """Raise a ``UsageError`` unless a run with these settings can start, or resume, in the folder."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"out: expected a folder, got the file {self.path}")
        if not any(file.exists() for file in (self.config, self.metrics, self.checkpoint)):
            return
        if not resume:
            raise UsageError(f"out: expected a folder without a run, got {self.path}; --resume goes on with its run")
        if not self.config.exists():
            raise UsageError(f"out: expected the settings of the run to resume, got no {self.config}")
        _check_same(self._settings(), config)

    def _settings(self) -> Config:
        """Read the settings of the run in the folder."""
        try:
            return Config.from_json(self.config.read_text())
        except (UsageError, UnicodeDecodeError) as error:
            raise UsageError(f"out: expected a run of this version to resume, got {self.config}: {error}") from error

    def is_finished(self, config: Config) -> bool:
        """Whether the folder contains a finished run of exactly these steps."""
        return self.summary.exists() and json.loads(self.summary.read_text())["step"] == config.steps

    @contextmanager
    def claimed(self, config: Config) -> Iterator[None]:
        """Create the folder, write the settings, and lock it against other processes until the block ends.

        The summary of a shorter run is removed, and temporary files that a killed process has left.

        Raises:
            UsageError: If the folder cannot be written to, or another process has locked it.
        """
        lock = FileLock(self.path / ".lock", blocking=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            remove_drafts(self.path)
            self.summary.unlink(missing_ok=True)
            write_text(self.config, config.to_json())
        except Timeout as error:
            raise UsageError(f"out: expected a folder without a run under way, got {self.path}") from error
        except OSError as error:
            lock.release()
            raise UsageError(f"out: expected a folder to write to, got {self.path}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

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
        try:
            with self.checkpoint.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                replay = {name.removeprefix("replay/"): saved[name] for name in saved if name.startswith("replay/")}
                return json.loads(saved["progress"].item()), saved["agent"].tobytes(), replay
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UsageError(f"out: expected a checkpoint, got {self.checkpoint}: {error}") from error


def _check_same(old: Config, new: Config) -> None:
    """Raise a ``UsageError`` that names the first setting that changed; only ``steps`` may, and only increase."""
    for field in dataclasses.fields(Config):
        before, now = getattr(old, field.name), getattr(new, field.name)
        if field.name == "steps" and now < before:
            raise UsageError(f"steps: expected at least the {before} of the run to resume, got {now}")
        if field.name != "steps" and now != before:
            raise UsageError(f"{field.name}: expected {before!r} as in the run to resume, got {now!r}")
