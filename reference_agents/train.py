"""Train a reference agent: ``python -m reference_agents.train --env HalfCheetah-v5 --out runs/demo``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from reference_agents.activity import alive_share
from reference_agents.commandline import parse, tell
from reference_agents.config import Config
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from reference_agents.running.plots import plot_run
from reference_agents.running.recording import write_json


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train a reference agent, measure the activity of its neurons, and reset those that have stopped learning."""

    config: tyro.conf.OmitArgPrefixes[Config]
    out: Path
    """Folder of the run: settings, metrics, summary, plot and checkpoint."""
    resume: bool = False
    """Resume from the checkpoint in the folder, if there is one; results are the same as without the interruption."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    goes_on = "interrupted; the same command with --resume goes on from the last checkpoint"
    return tell(lambda: _run(parse(Command, args, prog="python -m reference_agents.train")), interrupted=goes_on)


def _run(command: Command) -> None:
    train(command.config, command.out, resume=command.resume)


def train(config: Config, out: Path, *, resume: bool = False) -> None:
    """Train an agent; write and print its results.

    Args:
        config: Settings of the run.
        out: Folder of the run; it may contain a run only if that is resumed.
        resume: Whether to resume the run in the folder; a finished run is left unchanged.

    Raises:
        UsageError: If the settings, the environment and the folder do not fit together; nothing is written then.
    """
    training = prepare(config, out, resume=resume)
    if training is not None:
        with training.folder.claimed(config):
            training.run()
            finish(training)


def prepare(config: Config, out: Path, *, resume: bool = False) -> Training | None:
    """Return a run that is ready to start or resume, None if it is finished; nothing is written to the folder yet."""
    folder = RunFolder(out)
    folder.check(config, resume=resume)
    if folder.is_finished(config):
        print(f"{out} holds the finished run")
        return None
    training = Training(config, folder)
    if folder.checkpoint.exists():
        training.restore()
    elif resume:
        print(f"{out} holds no checkpoint: starting from the first step")
    return training


def finish(training: Training) -> None:
    """Write the summary and the plot; print each network's activity and the final returns."""
    config, folder = training.config, training.folder
    summary = training.summary()
    agent, random = summary["evaluation"], summary["random_policy"]
    write_json(folder.summary, summary)
    plot_run(folder.metrics, folder.plot, title=_title(config), random_policy=random["mean"])
    for network, report in training.agent.activity.reports().items():
        print(f"\n{network}\n{report}")
    share = alive_share(summary["measured_again"], summary["reset_again"])
    if share is not None:
        print(f"\n{summary['neurons_reset']} neurons reset, {share:.0%} of them alive at the next measurement")
    print(f"\nreturn over {config.evaluation_episodes} episodes, mean ± standard deviation")
    print(f"  agent          {agent['mean']:9.1f} ± {agent['std']:.1f}")
    print(f"  random policy  {random['mean']:9.1f} ± {random['std']:.1f}")
    print(f"files in {folder.path}")


def _title(config: Config) -> str:
    resets = {"none": "without resets", "redo": "with ReDo", "regrama": "with ReGraMa"}
    return f"{config.algo.upper()} on {config.env} {resets[config.reset]}"


if __name__ == "__main__":
    sys.exit(main())
