"""Runs as they lie in their folders, and as they are read, without the training."""

from pathlib import Path

from reference_agents.compare.comparison import Run, evaluation_steps
from reference_agents.config import Config
from reference_agents.running.folder import RunFolder
from reference_agents.running.recording import Recorder, write_json

PENDULUM, WALKER, DOG = "Pendulum-v1", "dm_control/walker-walk-v0", "dm_control/dog-walk-v0"
HIGH, LOW = [10, 11, 12, 13, 14], [1, 2, 3, 4, 5]


def write(path, *, final=100.0, returns=None, finished=True, activity=None, **settings):
    """Leave what a run leaves: by default 400 steps with an evaluation after every 100, rising to ``final``.

    Of the neurons it records ``activity``, the same each time.
    """
    config = Config(**{"env": PENDULUM, "steps": 400, "evaluate_every": 100} | settings)
    folder = RunFolder(path)
    with folder.claimed(config):
        pass
    steps = evaluation_steps(config)
    returns = [final * step / config.steps for step in steps] if returns is None else returns
    evaluations = dict(zip(steps, returns, strict=True))
    recorder = Recorder(folder.metrics)
    for step in sorted({*range(50, config.steps + 1, 50), *steps}):
        due = config.evaluate_every and step % config.evaluate_every == 0
        record = {"step": step, "return": 1.0, "evaluation": evaluations[step] if due else None}
        recorder.write(record | (activity or {}))
    if finished:
        write_json(folder.summary, {"step": config.steps, "evaluation": {"mean": returns[-1]}})
    return path


def write_group(root, name, finals, **settings):
    return [write(root / f"{name}{seed}", final=final, seed=seed, **settings) for seed, final in enumerate(finals)]


def runs(finals, *, problems=0, **settings):
    """Finished runs of one group with the given final returns, and then some that are left out."""
    settings = {"env": PENDULUM, "steps": 400, "evaluate_every": 0} | settings
    configs = [Config(**settings | {"seed": seed}) for seed in range(len(finals) + problems)]
    kept = [Run(Path(f"run{c.seed}"), c, (float(final),)) for c, final in zip(configs, finals, strict=False)]
    return kept + [Run(Path(f"bad{c.seed}"), c, (), "unfinished") for c in configs[len(finals) :]]
