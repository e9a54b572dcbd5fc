"""TorchRL: ``attach(loss, optimizers, batch)`` for the networks of a loss module, ensembles of critics too."""

import copy
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity_torch.hosts.attachments import Attachments, HostOptions, Method, Network, sharing, trained
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.parameters import parameters

try:
    from tensordict import TensorDictBase
    from torchrl.objectives import LossModule
except ImportError as error:
    raise ImportError("TorchRL is missing: pip install 'neuroactivity[torchrl]'") from error

_EXAMPLES = 8


def attach(
    loss: LossModule,
    optimizers: Optimizer | Sequence[Optimizer],
    batch: TensorDictBase,
    method: Method = "regrama",
    *,
    networks: Collection[str] | None = None,
    probe: Callable[[], TensorDictBase] | None = None,
    logger: Any = None,
    **options: Unpack[HostOptions],
) -> Attachments:
    """Attach a wrapper to each network of a loss that an optimizer trains, no target networks.

    They are named as the loss names them: ``actor_network``, ``qvalue_network`` and so on. Critics that the loss keeps
    in one module of stacked parameters and calls under ``vmap`` are measured and reset one by one.

    Args:
        loss: The loss.
        optimizers: The optimizer of its parameters, or several.
        batch: A batch with what the networks are called with, to find their layouts.
        method: ``"regrama"`` and ``"redo"`` reset, ``"measure"`` does not. ReDo cannot run stacked critics.
        networks: Names of the networks to look at; ``None`` for all.
        probe: Returns the batch that ReDo runs the networks on; ``batch`` each time if not given.
        logger: A logger of TorchRL's, which gets every report.
        options: Those of :class:`neuroactivity_torch.ReGraMa`, with the same defaults. ``on_report`` is called with a
            network's name and its report.

    Returns:
        The wrappers by the names of their networks; ``detach()`` removes them, ``state_dict()`` is for a checkpoint.

    Raises:
        LayoutError: If a network's layout cannot be discovered.
        ValueError: If an option is out of range, or ReDo is to run stacked critics.

    Example:
        ``attach(loss, [actor_optimizer, critic_optimizer], buffer.sample(), every=1000)``
    """
    suffix = "_params"
    held = {name.removesuffix(suffix): part for name, part in loss.named_children() if name.endswith(suffix)}
    pairs = trained(held, optimizers if isinstance(optimizers, Sequence) else [optimizers])
    found = {}
    for name, (params, optimizer) in pairs.items():
        readers = [getattr(loss, other) for other, module in held.items() if module in sharing(params, held.values())]
        if params.batch_size:
            if method == "redo" and (networks is None or name in networks):
                raise ValueError(f"method: {name} is called under vmap, where activations cannot be read; see networks=")
            found[name] = _stacked(getattr(loss, name), params, optimizer, batch)
        else:
            module = getattr(loss, name)
            inputs = partial(_select, module, readers, batch[:_EXAMPLES])
            looked_at = (lambda: batch) if probe is None else probe
            judged = lambda module=module, readers=readers: _select(module, readers, looked_at())  # noqa: E731
            found[name] = Network(module, optimizer, inputs, judged, readers)
    record = None if logger is None else partial(_record, logger, lambda name: attached[name].steps)
    attached = Attachments(found, method, only=networks, record=record, **options)
    return attached


def _select(module: nn.Module, readers: Sequence[nn.Module], batch: TensorDictBase) -> TensorDictBase:
    """Return what modules are called with, out of a batch."""
    keys = {str(key): key for each in (module, *readers) for key in each.in_keys}
    return batch.select(*keys.values())


def _stacked(module: nn.Module, params: nn.Module, optimizer: Optimizer, batch: TensorDictBase) -> Network:
    """Describe critics whose parameters are stacked: the layout is that of one member."""
    (members,) = params.batch_size

    def find(listed: bool) -> na.Layout:
        inputs = () if listed else (_select(module, (), batch[:_EXAMPLES]).to("cpu"),)
        return na.stacked(layout_of(_member(module), *inputs))

    def draw(key: int) -> dict[str, Tensor]:
        drawn = [parameters(_member(module)) for _ in range(members)]
        return {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]}

    return Network(params, optimizer, initializer=draw, layout=find)


def _member(module: nn.Module) -> nn.Module:
    """Make one member anew."""
    member = copy.deepcopy(module).to("cpu")
    for part in member.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    return member


def _record(logger: Any, step: Callable[[str], int], name: str, report: na.ActivityReport) -> None:
    for key, value in report.scalars(f"neuroactivity/{name}").items():
        logger.log_scalar(key, value, step(name))
