"""Kill this very process at a chosen moment of its writing; for processes started by a test."""

import os
import signal
from pathlib import Path


def kill_before_replacing(name, time):
    """Kill when the file of that name is to be replaced for the given time, its draft complete."""
    replace, seen = os.replace, []

    def fatal(draft, path):
        seen.append(Path(path).name)
        if seen.count(name) == time:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(draft, path)

    os.replace = fatal


def kill_while_writing(name, time):
    """Kill while a file of that name (or its draft) is written for the given time, its last bytes missing."""
    fsync, seen = os.fsync, []

    def fatal(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        seen.append(path.name)
        if seen.count(name) == time:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - 7)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = fatal
