"""Tianshou: ``attach(algorithm, observations)`` before the training."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity.wrapping import Method
from neuroactivity_torch.hosts.attachments import (
    Attachments,
    HostOptions,
    Network,
    check_logger,
    numpy_untouched,
    sharing,
    trained,
)

try:
    from gymnasium.spaces import Box
    from tianshou.algorithm import Algorithm
    from tianshou.data import ReplayBuffer
except ImportError as error:
    raise ImportError("Tianshou is missing: pip install '.[tianshou]' in a clone") from error

_STORED = 256


def attach(
    algorithm: Algorithm,
    observations: Any,
    method: Method = "regrama",
    *,
    networks: Collection[str] | None = None,
    buffer: ReplayBuffer | None = None,
    logger: Any = None,
    **options: Unpack[HostOptions],
) -> Attachments:
    """Attach a wrapper to each network that an algorithm trains, no target networks.

    They are named as the policy and the algorithm name them: ``actor``, ``critic``, ``critic2``, or ``model`` of a DQN.
    A network whose layers another one shares keeps these as they are: one wrapper resets the neurons of one network.

    Args:
        algorithm: The algorithm.
        observations: A few observations, such as ``envs.reset()[0]``, to find the networks' layouts.
        method: ``"regrama"`` and ``"redo"`` reset, ``"measure"`` does not.
        networks: Names of the networks to look at; ``None`` for all.
        buffer: The collector's buffer, on samples of which ReDo runs the networks.
        logger: A logger of Tianshou's, which gets every report.
        options: Those of :class:`neuroactivity_torch.ReGraMa`, with the same defaults. ``on_report`` is called with a
            network's name and its report.

    Returns:
        The wrappers by the names of their networks; ``detach()`` removes them, ``state_dict()`` is for a checkpoint.

    Raises:
        LayoutError: If a network's layout cannot be discovered.
        ValueError: If an option is out of range, or ReDo has no buffer.

    Example:
        ``attach(algorithm, envs.reset()[0], every=1000)``
    """
    check_logger(logger, "write")
    parts = {**dict(algorithm.policy.named_children()), **dict(algorithm.named_children())}
    parts.pop("policy", None)
    pairs = trained(parts, [wrapped._optim for wrapped in algorithm._optimizers])
    actions = _actions(algorithm, len(observations))
    called = {name: _takes_actions(algorithm, name) for name in pairs}

    def inputs(name: str, seen: Any, acted: Any) -> tuple[Any, ...]:
        device = next(parts[name].parameters()).device
        given = (seen, acted) if called[name] else (seen,)
        return tuple(torch.as_tensor(np.asarray(each), dtype=torch.float32, device=device) for each in given)

    def stored(name: str) -> tuple[Any, ...]:
        with numpy_untouched():
            batch = buffer.sample(_STORED)[0]  # type: ignore[union-attr]
        return inputs(name, batch.obs, batch.act)

    found = {}
    for name, (module, optimizer) in pairs.items():
        others = [other for other in sharing(name, parts) if other in called]
        found[name] = Network(
            module,
            optimizer,
            inputs=partial(inputs, name, observations, actions),
            probe=None if buffer is None else partial(stored, name),
            readers=[partial(_read, parts[other], called[other], actions) for other in others],
        )
    record = None if logger is None else partial(_record, logger, lambda name: attached[name].steps)
    attached: Attachments = Attachments(found, method, only=networks, record=record, **options)
    return attached


def _takes_actions(algorithm: Algorithm, name: str) -> bool:
    """Whether a network is called with actions too: the critics of continuous control that have an optimizer."""
    continuous = isinstance(algorithm.policy.action_space, Box)
    return name.startswith("critic") and hasattr(algorithm, "critic_optim") and continuous


def _actions(algorithm: Algorithm, number: int) -> Any:
    """Return actions to call a critic with; their values do not matter."""
    space = algorithm.policy.action_space
    return np.zeros((number, *space.shape), np.float32) if isinstance(space, Box) else np.zeros(number, np.float32)


def _read(network: nn.Module, takes_actions: bool, actions: Any, seen: Tensor, acted: Tensor | None = None) -> Any:
    """Call another network with the inputs of one."""
    if not takes_actions:
        return network(seen)
    return network(seen, torch.as_tensor(actions, device=seen.device) if acted is None else acted)


def _record(logger: Any, step: Callable[[str], int], name: str, report: na.ActivityReport) -> None:
    logger.write(f"neuroactivity/{name}/step", step(name), report.scalars(f"neuroactivity/{name}"))
