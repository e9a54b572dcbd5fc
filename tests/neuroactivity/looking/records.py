"""Files of records to look at."""

import json
import random

import neuroactivity as na
from neuroactivity.looking import JsonLines

EVIL = '</script><b onload=x>&amp;"\x1b[31m\u202e'


def report(*, groups=("fc1", "fc2"), neurons=6, step=1, tau=0.01, run=None, reset=()):
    """A report whose scores are known: the first ``step`` neurons of each group are inactive."""
    scores = tuple([0.0 if place < step else 1.5 for place in range(neurons)])
    activities = [
        na.GroupActivity(
            name, neurons, min(step, neurons), reset=len(reset), lowest=min(scores), median=1.5, highest=1.5,
            reset_again=0, scores=(scores,), mask=(tuple([place in reset for place in range(neurons)]),),
        )
        for name in groups
    ]  # fmt: skip
    return na.ActivityReport(tau, tuple(activities), run=run)


def recorded(path, count=4, *, network="", method="", resets=True, **kwargs):
    """Record ``count`` reports, at steps 100, 200 and so on; the first neuron is reset from the second on."""
    log = JsonLines(path, every=100, network=network, method=method)
    for number in range(1, count + 1):
        log(report(step=number, reset=(0,) if resets and number > 1 else (), **kwargs))
    return path


def many(path, *, measurements, groups):
    """A long run with many groups, of whose neurons only counts are recorded."""
    draw = random.Random(0)
    with path.open("w") as file:
        for step in range(measurements):
            counts = {f"g{n}": {"neurons": 64, "inactive": draw.randrange(64), "reset": 1} for n in range(groups)}
            file.write(json.dumps({"tau": 0.01, "step": step, "groups": counts}) + "\n")
    return path


def written(path, *lines):
    path.write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines))
    return path
