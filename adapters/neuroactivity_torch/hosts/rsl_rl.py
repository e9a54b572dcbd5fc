"""rsl-rl: ``attach(runner)`` before ``runner.learn``."""

from collections.abc import Collection
from functools import partial
from typing import Any, Unpack

from torch import nn
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.wrapping import Method
from neuroactivity_torch.hosts.attachments import Attachments, HostOptions, Network, sharing, trained

try:
    from rsl_rl.runners import OnPolicyRunner
except ImportError as error:
    raise ImportError("rsl-rl is missing: pip install '.[rsl-rl]' in a clone") from error

_EXAMPLES, _STORED = 8, 256


def attach(
    runner: OnPolicyRunner,
    method: Method = "regrama",
    *,
    networks: Collection[str] | None = None,
    **options: Unpack[HostOptions],
) -> Attachments:
    """Attach a wrapper to each network of a runner's algorithm: ``actor`` and ``critic``, or ``student``.

    Reports go to the runner's log writer, if it has one. Its checkpoints keep the wrappers' state if you pass it on:
    ``runner.save(path, infos={"neuroactivity": attached.state_dict()})``, and
    ``attached.load_state_dict(runner.load(path)["neuroactivity"])``.

    Args:
        runner: The runner.
        method: ``"regrama"`` and ``"redo"`` reset, ``"measure"`` does not. ReDo runs the networks on the observations
            of the rollout.
        networks: Names of the networks to look at; ``None`` for all.
        options: Those of :class:`neuroactivity_torch.ReGraMa`, with the same defaults. ``on_report`` is called with a
            network's name and its report.

    Returns:
        The wrappers by the names of their networks; ``detach()`` removes them.

    Raises:
        LayoutError: If a network's layout cannot be discovered.
        ValueError: If an option is out of range, or a recurrent network is to be reset.

    Example:
        ``attach(runner, every=1000, batches=16)``
    """
    algorithm = runner.alg
    modules = {name: part for name, part in vars(algorithm).items() if isinstance(part, nn.Module) and name[0] != "_"}
    modules.pop("rnd", None)  # which has no forward pass, and an optimizer of its own
    pairs = trained(modules, [part for part in vars(algorithm).values() if isinstance(part, Optimizer)])
    if method != "measure":
        for name, (module, _) in pairs.items():
            if getattr(module, "is_recurrent", False) and (networks is None or name in networks):
                raise ValueError(f"{name} is recurrent, and a search would run its memory on; use method='measure'")
    found = {
        name: Network(
            module,
            optimizer,
            inputs=lambda: runner.env.get_observations()[:_EXAMPLES].to(runner.device),
            probe=lambda: algorithm.storage.observations.flatten(0, 1)[:_STORED],
            readers=[modules[other] for other in sharing(name, modules)],
        )
        for name, (module, optimizer) in pairs.items()
    }
    return Attachments(found, method, only=networks, record=partial(_record, runner), **options)


def _record(runner: OnPolicyRunner, name: str, report: na.ActivityReport) -> None:
    writer: Any = runner.logger.writer
    if writer is not None:
        for key, value in report.scalars(f"neuroactivity/{name}").items():
            writer.add_scalar(key, value, runner.current_learning_iteration)
