"""Short runs, what they leave behind, and how to break them off."""

import json

from reference_agents.config import RENAMED
from reference_agents.running.recording import Recorder, read_records

SHORT = {
    "env": "InvertedPendulum-v5",
    "steps": 700,
    "learning_starts": 100,
    "width": 16,
    "batch_size": 32,
    "buffer_size": 300,
    "reset_every": 60,
    "tau": 0.2,
    "record_every": 90,
    "evaluate_every": 250,
    "evaluation_episodes": 2,
    "checkpoint_every": 150,
    "threads": 1,
}


class PowerFailureError(Exception):
    """The power fails."""


def arguments(settings):
    """The settings as they are given on the command line."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


def records(out):
    return read_records(out / "metrics.jsonl")


def untimed(out):
    """The records of a run without the time they took."""
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records(out)]


def summary(out):
    values = json.loads((out / "summary.json").read_text())
    del values["seconds"]
    return values


def as_older_versions_left_it(out):
    """Let the settings of a run be stored by their former names."""
    former = {new: old for old, new in RENAMED.items()}
    settings = json.loads((out / "config.json").read_text())
    older = {former.get(name, name): value for name, value in settings.items()}
    assert older.keys() != settings.keys()
    (out / "config.json").write_text(json.dumps(older))


def break_at_record(monkeypatch, number):
    """Let the power fail when a record is to be written."""
    write = Recorder.write

    def failing(self, record):
        if self.count == number:
            raise PowerFailureError
        write(self, record)

    monkeypatch.setattr(Recorder, "write", failing)
