"""skrl: ``attach(agent)`` once the agent is made."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Unpack

import torch
from torch import nn
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.wrapping import Method
from neuroactivity_torch.hosts.attachments import Attachments, HostOptions, Network, trained

try:
    from skrl.agents.torch import Agent
    from skrl.utils.spaces.torch import flatten_tensorized_space, sample_space
except ImportError as error:
    raise ImportError("skrl is missing: pip install '.[skrl]' in a clone") from error

_EXAMPLES, _STORED = 8, 256


def attach(
    agent: Agent,
    method: Method = "regrama",
    *,
    networks: Collection[str] | None = None,
    **options: Unpack[HostOptions],
) -> Attachments:
    """Attach a wrapper to each network of an agent: ``policy``, ``value``, ``critic_1`` and so on, no target networks.

    Reports go to the agent's tracking data, and so to TensorBoard. Its checkpoints hold the wrappers' state as
    ``neuroactivity``: attach first, then ``agent.load`` brings it back.

    Args:
        agent: The agent.
        method: ``"regrama"`` and ``"redo"`` reset, ``"measure"`` does not. ReDo runs the networks on samples of the
            agent's memory.
        networks: Names of the networks to look at; ``None`` for all.
        options: Those of :class:`neuroactivity_torch.ReGraMa`, with the same defaults. ``on_report`` is called with a
            network's name and its report.

    Returns:
        The wrappers by the names of their networks; ``detach()`` removes them.

    Raises:
        LayoutError: If a network's layout cannot be discovered.
        ValueError: If an option is out of range, or one model plays several roles and is to be reset.

    Example:
        ``attach(agent, every=1000, max_fraction=0.05)``
    """
    pairs = trained(*_parts(agent))
    if method != "measure":
        _check_roles(pairs)
    found = {
        name: Network(model, optimizer, partial(_examples, agent, name), partial(_stored, agent, name))
        for name, (model, optimizer) in pairs.items()
    }
    attached = Attachments(found, method, only=networks, record=partial(_record, agent), **options)
    agent.checkpoint_modules["neuroactivity"] = attached
    return attached


def _parts(agent: Agent) -> tuple[dict[str, nn.Module], list[Optimizer]]:
    """Return the models of an agent, and its optimizers."""
    models = {name: model for name, model in agent.models.items() if isinstance(model, nn.Module)}
    return models, [part for part in vars(agent).values() if isinstance(part, Optimizer)]


def _check_roles(pairs: Mapping[str, tuple[nn.Module, Any]]) -> None:
    """Raise if a model plays several roles: what it computes is told by the role that it is called with."""
    names: dict[int, list[str]] = {}
    for name, (model, _) in pairs.items():
        names.setdefault(id(model), []).append(name)
    shared = next((roles for roles in names.values() if len(roles) > 1), None)
    if shared:
        raise ValueError(f"agent: {' and '.join(shared)} are one model; give it a layout and ReGraMa of its own")


def _record(agent: Agent, name: str, report: na.ActivityReport) -> None:
    for key, value in report.scalars(f"neuroactivity/{name}").items():
        agent.track_data(key, value)


def _examples(agent: Agent, name: str) -> dict[str, Any]:
    """Return samples of the agent's spaces, as a network is called with them."""
    spaces = {"observations": agent.observation_space, "states": agent.state_space, "actions": agent.action_space}
    with torch.random.fork_rng(devices=[]):
        drawn = {
            key: flatten_tensorized_space(sample_space(space, batch_size=_EXAMPLES, backend="native", device="cpu"))
            for key, space in spaces.items()
            if space is not None
        }
    return _inputs(agent, name, drawn)


def _stored(agent: Agent, name: str) -> dict[str, Any]:
    """Return samples of the agent's memory, drawn without a global generator."""
    keys = [key for key in ("observations", "states", "actions") if key in agent.memory.tensors]
    chosen = torch.randperm(len(agent.memory), generator=torch.Generator().manual_seed(0))[:_STORED]
    return _inputs(agent, name, dict(zip(keys, agent.memory.sample_by_index(keys, indexes=chosen)[0], strict=True)))


def _inputs(agent: Agent, name: str, samples: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a network is called with: observations and states as they are preprocessed, a critic's actions."""
    samples = {key: value.to(agent.device).float() for key, value in samples.items()}
    actions = {"taken_actions": samples["actions"]} if name.startswith("critic") else {}
    seen = agent._observation_preprocessor(samples["observations"])
    return {"observations": seen, "states": agent._state_preprocessor(samples.get("states")), **actions}
