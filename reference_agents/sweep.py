"""Train many agents: ``python -m reference_agents.sweep --over reset=none,regrama seed=0..4 --out runs/sweep``."""

import itertools
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm  # type: ignore[import-untyped]

from neuroactivity.escaping import file_name
from reference_agents import train
from reference_agents.agent import check_agent
from reference_agents.commandline import parse, shown, tell
from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.ranges import MOST, parse_range
from reference_agents.running.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train an agent for every combination of some settings, each in a separate process and folder.

    Run the same command again to continue unfinished runs. Options after ``--`` are passed to reference_agents.train.
    """

    over: tuple[str, ...]
    """Settings to sweep over, with their values: reset=none,redo,regrama seed=0..4."""
    out: Path
    """Parent folder of the runs and their logs."""
    jobs: int = os.cpu_count() or 1
    """Parallel runs on this machine."""
    cluster: str | None = None
    """Scheduler to submit the runs to with submitit, such as slurm; by default they run on this machine."""
    options: tuple[str, ...] = ()
    """Options of submitit: timeout_min=600 slurm_partition=gpu."""
    train: tyro.conf.Positional[tuple[str, ...]] = ()
    """Further options of reference_agents.train."""


@dataclass(frozen=True)
class Run:
    """One run of a sweep: its settings and folder, and the command that starts or resumes it."""

    config: Config
    folder: Path
    command: tuple[str, ...]

    @property
    def log(self) -> Path:
        """Log file with the output of the command."""
        return self.folder.with_name(self.folder.name + ".log")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    goes_on = "interrupted; the same command goes on"
    return tell(lambda: _run(parse(Command, args, prog="python -m reference_agents.sweep")), interrupted=goes_on)


def _run(command: Command) -> int:
    planned = plan(command.over, command.out, command.train)
    runs = [run for run in planned if not RunFolder(run.folder).is_finished(run.config)]
    print(f"{len(runs)} of {len(planned)} runs to do in {command.out}")
    if command.cluster is not None:
        submit(runs, command.out / "submitit", command.cluster, _options(command.options))
        return 0
    failed = train_here(runs, jobs=command.jobs)
    for run in failed:
        last = shown(_last_line(run.log))
        print(f"failed: {' '.join(run.command)}\n  {last} (more in {run.log})", file=sys.stderr)
    return 1 if failed else 0


def plan(over: Sequence[str], out: Path, options: Sequence[str] = ()) -> list[Run]:
    """List the runs of a sweep.

    Args:
        over: Settings and their values, ``name=first,second`` or ``name=first..last`` for integers.
        out: Parent folder of the runs, whose folders are named by the values.
        options: Further options of ``reference_agents.train``.

    Raises:
        UsageError: If an agent does not exist, or a run cannot start or resume in its folder; no run has started then.
    """
    settings = dict(map(_values, over))
    if len(settings) < len(over):
        raise UsageError(f"over: expected each setting once, got {' '.join(over)}")
    if math.prod(map(len, settings.values())) > MOST:
        raise UsageError(f"over: expected at most {MOST:,} runs, got {' '.join(over)}")
    runs = []
    for values in itertools.product(*settings.values()):
        folder = out / file_name("_".join(value.replace("/", "-") for value in values), longest=200)
        swept = [f"--{name}={value}" for name, value in zip(settings, values, strict=True)]
        args = (*options, *swept, f"--out={folder}", "--resume")
        config = parse(train.Command, args, prog="python -m reference_agents.train").config
        check_agent(config)
        RunFolder(folder).check(config, resume=True)
        runs.append(Run(config, folder, (sys.executable, "-m", "reference_agents.train", *args)))
    return runs


def _values(setting: str) -> tuple[str, list[str]]:
    """Parse one setting to sweep over."""
    name, equals, text = setting.partition("=")
    if not name or not equals:
        raise UsageError(f"over: expected a setting and its values, such as seed=0,1,2, got {setting!r}")
    return name.replace("_", "-"), parse_range(f"over: {name}", text)


def _options(options: Sequence[str]) -> dict[str, Any]:
    """Parse options of submitit; digits are read as an integer."""
    split = [option.partition("=") for option in options]
    for name, equals, _ in split:
        if not name or not equals:
            raise UsageError(f"options: expected a name and a value, such as timeout_min=600, got {name + equals!r}")
    return {name: int(value) if re.fullmatch(r"[0-9]{1,18}", value) else value for name, _, value in split}


def train_here(runs: Sequence[Run], *, jobs: int) -> list[Run]:
    """Train in parallel processes on this machine; return the runs that failed."""
    if not 1 <= jobs < math.inf:
        raise UsageError(f"jobs: expected at least 1, got {jobs}")
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(runs), unit=" runs") as bar:

        def finish(run: Run) -> bool:
            run.log.parent.mkdir(parents=True, exist_ok=True)
            run.log.unlink(missing_ok=True)  # a link would lead elsewhere
            with run.log.open("xb") as log:
                status = subprocess.run(run.command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
            bar.update()
            return status == 0

        return [run for run, finished in zip(runs, pool.map(finish, runs), strict=True) if not finished]


def submit(runs: Sequence[Run], folder: Path, cluster: str, options: dict[str, Any]) -> list[Any]:
    """Submit runs to a scheduler as one job array; return the jobs without waiting for them.

    Raises:
        UsageError: If submitit is not installed, or does not know the scheduler or an option.
    """
    try:
        import submitit  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError as error:
        raise UsageError("cluster: expected submitit to be installed: pip install submitit") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**options)
        jobs = executor.map_array(partial(subprocess.run, check=True), [run.command for run in runs])
    except (ValueError, NameError, RuntimeError) as error:
        raise UsageError(f"cluster: {error}") from error
    for run, job in zip(runs, jobs, strict=True):
        print(f"{job.job_id}  {run.folder}")
    return list(jobs)


def _last_line(log: Path) -> str:
    """Return the last line of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 10_000))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else "it printed nothing"


if __name__ == "__main__":
    sys.exit(main())
