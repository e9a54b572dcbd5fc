"""Stable-Baselines3 and its contrib package: ``model.learn(..., callback=ActivityCallback())``."""

import warnings
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.wrapping import Method
from neuroactivity_torch.hosts.attachments import Attachments, HostOptions, Network, check_options, sharing
from neuroactivity_torch.parameters import parameters

try:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
except ImportError as error:
    raise ImportError("Stable-Baselines3 is missing: pip install '.[stable-baselines3]' in a clone") from error

from neuroactivity_torch.hosts.stable_baselines3_samples import examples, input_names, inputs, recurrent_layout, stored

_STATE = "neuroactivity"  # where a model keeps it: save() stores it, load() brings it back
_OF_A2C = {  # what RMSpropTFLike starts with
    "square_avg": lambda rows, options: torch.ones_like(rows),
    "momentum_buffer": lambda rows, options: torch.zeros_like(rows),
    "grad_avg": lambda rows, options: torch.zeros_like(rows),
}


class ActivityCallback(BaseCallback):
    """Measures, and resets, the networks of a Stable-Baselines3 model while it learns.

    Every network that has an optimizer gets a wrapper: ``actor`` and ``critic`` of SAC, TD3, DDPG, TQC and CrossQ,
    ``q_net`` of DQN, ``quantile_net`` of QRDQN, ``policy`` of PPO, A2C and their kin. Target networks never do. Fresh
    values are those of a policy made anew. When ``learn`` ends the wrappers are detached; their state stays with the
    model, through ``save`` and ``load`` too, and the next ``learn`` with an ``ActivityCallback`` goes on from there.

    Args:
        method: ``"regrama"`` and ``"redo"`` reset, ``"measure"`` does not. ReDo runs the networks on samples of the
            replay or rollout buffer.
        networks: Names of the networks to look at; ``None`` for all.
        verbose: As for any callback.
        options: Those of :class:`neuroactivity_torch.ReGraMa`, with the same defaults; ``every`` counts the steps of
            each network's own optimizer. ``on_report`` is called with a network's name and its report.

    Attributes:
        wrappers: The wrappers by the names of their networks; empty before the first ``learn``.

    Raises:
        ValueError: If an option is out of range; and, when ``learn`` begins, if no network has an optimizer, or
            another ``ActivityCallback`` is there.
        LayoutError: When ``learn`` begins, if a network's layout cannot be discovered.

    Example:
        ``model.learn(100_000, callback=ActivityCallback(every=1000, max_fraction=0.05))``
    """

    def __init__(
        self,
        method: Method = "regrama",
        *,
        networks: Collection[str] | None = None,
        verbose: int = 0,
        **options: Unpack[HostOptions],
    ) -> None:
        super().__init__(verbose)
        check_options(method, options, networks)
        self.wrappers: Mapping[str, Any] = {}
        self._method, self._networks, self._options = method, networks, options

    def _init_callback(self) -> None:
        if self.parent is not None:  # which calls it at its events alone, and not when learn() begins and ends
            raise ValueError(f"callback: give it to learn() itself, not to {type(self.parent).__name__}")

    def _on_training_start(self) -> None:
        before = getattr(self.model, _STATE, None)
        if isinstance(before, Attachments) and before.training is self.locals:
            raise ValueError("callback: two ActivityCallbacks in one learn(); the second would replace the first")
        self._attach(before)

    def _attach(self, before: Any) -> None:
        """Attach to what the model trains now, and go on from what was attached before."""
        if isinstance(before, Attachments):
            before.detach()  # it is, unless a learn() was broken off
            before = before.state_dict()
        found, only = networks(self.model), self._networks
        wrappers = Attachments(found, self._method, state=before, only=only, record=self._record, **self._options)
        wrappers.training = self.locals
        self.wrappers = wrappers
        setattr(self.model, _STATE, wrappers)

    def _on_rollout_start(self) -> None:
        """Attach anew where networks or optimizers were replaced since."""
        now = _trained(self.model.policy)
        if any(now.get(name) != (each.model, each.optimizer) for name, each in self.wrappers.items()):
            warnings.warn("networks or optimizers were replaced, attaching anew", na.ActivityWarning, stacklevel=3)
            self._attach(self.wrappers)

    _on_rollout_end = _on_rollout_start

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.detach()

    def _record(self, name: str, report: na.ActivityReport) -> None:
        """Log a report; the table on the screen, which has narrow columns, shows what matters most."""
        prefix = f"neuroactivity/{name}"
        for key, value in report.scalars(prefix).items():
            shown = key in (f"{prefix}/inactive_fraction", f"{prefix}/reset", f"{prefix}/reset_again")
            self.logger.record(key, value, exclude=None if shown else ("stdout", "log"))

    def detach(self) -> None:
        """Detach all wrappers, if ``learn`` has not: before it ends, or after it was broken off."""
        if isinstance(self.wrappers, Attachments):
            self.wrappers.detach()


def networks(model: BaseAlgorithm) -> dict[str, Network]:
    """Return the networks of a model that have an optimizer, by name.

    Raises:
        ValueError: If there is none.
    """
    trained = _trained(model.policy)
    if not trained:
        raise ValueError(f"{type(model).__name__} trains no network by an optimizer")
    modules = {name: module for name, (module, _) in trained.items()}
    return {
        name: Network(
            module,
            optimizer,
            inputs=partial(_called_with, module, examples, model),
            probe=partial(_called_with, module, stored, model),
            readers=[_reader(module, trained[other][0], model) for other in sharing(name, modules)],
            initializer=partial(_fresh, model, name),
            moments=_OF_A2C if isinstance(optimizer, RMSpropTFLike) else None,
            layout=partial(recurrent_layout, model) if hasattr(module, "lstm_actor") else None,
        )
        for name, (module, optimizer) in trained.items()
    }


def _called_with(module: nn.Module, samples: Callable[[BaseAlgorithm], Mapping[str, Any]], model: BaseAlgorithm) -> Any:
    """Return what a network is called with, of these samples."""
    return inputs(module, samples(model))


def _trained(policy: nn.Module) -> dict[str, tuple[nn.Module, Optimizer]]:
    """Return the networks of a policy with their optimizers: its parts that have one, or what its own trains."""
    policy = getattr(policy, "_orig_mod", policy)  # of one that is compiled as a whole
    parts = dict(policy.named_children())
    own = {name: getattr(part, "optimizer", None) for name, part in parts.items()}
    found = {name: (parts[name], optimizer) for name, optimizer in own.items() if isinstance(optimizer, Optimizer)}
    optimizer = getattr(policy, "optimizer", None)
    if found or not isinstance(optimizer, Optimizer):
        return found
    beside_target = next((name for name in ("q_net", "quantile_net") if name in parts), None)
    return {beside_target or "policy": (parts[beside_target] if beside_target else policy, optimizer)}


def _fresh(model: BaseAlgorithm, name: str, key: int) -> dict[str, Tensor]:
    """Return the values of a network of a policy made anew, where parts of the model's own may be compiled."""
    fresh = parameters(_trained(_fresh_policy(model))[name][0])
    return {each: fresh[each.replace("_orig_mod.", "")] for each in parameters(_trained(model.policy)[name][0])}


def _fresh_policy(model: BaseAlgorithm) -> nn.Module:
    """Make a policy as the model made its own."""
    exploration = {"use_sde": True} if model.use_sde else {}
    kwargs = {**exploration, **model.policy_kwargs}
    policy: nn.Module = model.policy_class(model.observation_space, model.action_space, model.lr_schedule, **kwargs)
    return policy


def _reader(module: nn.Module, other: nn.Module, model: BaseAlgorithm) -> Any:
    """Return a function that calls another network with a module's inputs, and with examples of what these lack."""
    samples = examples(model)
    return lambda *given: other(*inputs(other, {**samples, **dict(zip(input_names(module), given, strict=True))}))
