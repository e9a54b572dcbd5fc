"""What the networks of Stable-Baselines3 are called with: examples drawn from spaces, and what its buffers hold."""

import copy
from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from torch import nn

from neuroactivity import Layout
from neuroactivity_torch.hosts.attachments import numpy_untouched
from neuroactivity_torch.layouts import layout_of

_EXAMPLES = 8
_SEQUENCES = 2  # of them, where a policy is recurrent
_STORED = 256


def inputs(module: nn.Module, samples: Mapping[str, Any]) -> tuple[Any, ...]:
    """Choose what a network is called with.

    Raises:
        ValueError: If it is called with something else.
    """
    names = input_names(module)
    unknown = [name for name in names if name not in samples]
    if unknown:
        raise ValueError(f"{type(module).__name__}.forward(): expected {', '.join(samples)}, got {', '.join(unknown)}")
    return tuple(samples[name] for name in names)


def input_names(module: nn.Module) -> list[str]:
    """Return the names of what a network has to be called with."""
    wanted = signature(getattr(module, "_orig_mod", module).forward).parameters.values()
    names = [each.name for each in wanted if each.default is each.empty]
    return ["actions" if name == "action" else name for name in names]


def examples(model: BaseAlgorithm) -> dict[str, Any]:
    """Draw samples of a model's spaces, from copies, so that the spaces' own generators stay as they are."""
    actions = _draw(model.action_space, model).reshape(_EXAMPLES, -1).float()  # as buffers hold them
    samples = {"obs": _draw(model.observation_space, model), "actions": actions}
    if hasattr(model.policy, "lstm_actor"):
        layers, _, width = model.policy.lstm_hidden_state_shape
        state = torch.zeros(layers, _SEQUENCES, width, device=model.device)
        samples |= _memories((state, state), (state, state), torch.zeros(_EXAMPLES, device=model.device))
    return samples


def stored(model: BaseAlgorithm) -> dict[str, Any]:
    """Draw samples of a model's replay or rollout buffer; NumPy's generator stays as it is.

    Raises:
        ValueError: If a replay buffer is empty.
        AssertionError: If a rollout buffer is not full.
    """
    with numpy_untouched():
        replay: Any = getattr(model, "replay_buffer", None)
        rollout: Any = getattr(model, "rollout_buffer", None)
        if replay is not None:
            batch = replay.sample(_STORED, env=model.get_vec_normalize_env())
            return {"obs": batch.observations, "actions": batch.actions}
        batch = next(rollout.get(_STORED))
        if not hasattr(rollout, "hidden_states_pi"):
            return {"obs": batch.observations}
        return _remembered(rollout)


def recurrent_layout(model: BaseAlgorithm, listed: bool) -> Layout:
    """Find the layout of a recurrent policy, which hands its memory to its next call alone: that is no output."""
    policy: Any = model.policy
    forward, given = policy.forward, () if listed else inputs(policy, examples(model))
    policy.forward = lambda *called: forward(*called)[:3]
    try:
        return layout_of(policy, *given)
    finally:
        del policy.forward


def _remembered(rollout: Any) -> dict[str, Any]:
    """Draw single steps of a recurrent rollout, each with the memory that the policy had: nothing is padded."""
    chosen = np.random.permutation(len(rollout.episode_starts))[:_STORED]

    def take(values: Any) -> Any:
        return rollout.to_torch(values[chosen])

    def memory(name: str) -> torch.Tensor:
        state: torch.Tensor = take(getattr(rollout, name)).swapaxes(0, 1).contiguous()
        return state

    held = rollout.observations
    seen = {key: take(value) for key, value in held.items()} if isinstance(held, dict) else take(held)
    actor, critic = [(memory(f"hidden_states_{net}"), memory(f"cell_states_{net}")) for net in ("pi", "vf")]
    return {"obs": seen, **_memories(actor, critic, take(rollout.episode_starts).flatten())}


def _memories(actor: Any, critic: Any, starts: torch.Tensor) -> dict[str, Any]:
    """What a recurrent policy is called with besides observations."""
    from sb3_contrib.common.recurrent.type_aliases import RNNStates

    return {"lstm_states": RNNStates(actor, critic), "episode_starts": starts}


def _draw(space: spaces.Space[Any], model: BaseAlgorithm) -> Any:
    """Draw samples of a space."""
    copied = copy.deepcopy(space)
    copied.seed(0)
    samples = [copied.sample() for _ in range(_EXAMPLES)]
    if isinstance(space, spaces.Dict):
        joined = {key: np.stack([each[key] for each in samples]) for key in space}
        return obs_as_tensor(joined, model.device)
    return obs_as_tensor(np.stack(samples), model.device)
