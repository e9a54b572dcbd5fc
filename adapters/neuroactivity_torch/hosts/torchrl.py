"""TorchRL: ``attach(loss, optimizers, batch)`` for the networks of a loss module, ensembles of critics too."""

import copy
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.wrapping import Method, warn_of_spread
from neuroactivity_torch.hosts.attachments import Attachments, HostOptions, Network, check_logger, sharing, trained
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.parameters import parameters, seeded

try:
    from tensordict import TensorDictBase
    from torchrl.objectives import LossModule
except ImportError as error:
    raise ImportError("TorchRL is missing: pip install '.[torchrl]' in a clone") from error

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
    check_logger(logger, "log_scalar")
    held = {name.removesuffix("_params"): part for name, part in loss.named_children() if name.endswith("_params")}
    pairs = trained(held, optimizers if isinstance(optimizers, Sequence) else [optimizers])
    found = {}
    for name, (params, optimizer) in pairs.items():
        stacks: Any = params.batch_size
        if method == "redo" and stacks and (networks is None or name in networks):
            raise ValueError(f"method: {name} is called under vmap, where activations cannot be read; see networks=")
        if stacks:
            found[name] = _stacked(getattr(loss, name), params, optimizer, batch[:_EXAMPLES])
        else:
            others = [getattr(loss, other) for other in sharing(name, held)]
            found[name] = _plain(getattr(loss, name), optimizer, others, batch, probe)
    record = None if logger is None else partial(_record, logger, lambda name: attached[name].steps)
    attached: Attachments = Attachments(found, method, only=networks, record=record, **options)
    return attached


def _plain(
    module: nn.Module,
    optimizer: Optimizer,
    readers: Sequence[nn.Module],
    batch: TensorDictBase,
    probe: Callable[[], TensorDictBase] | None,
) -> Network:
    """Describe a network of its own, which some others may read."""
    keys = _keys(module, *readers)
    return Network(
        module,
        optimizer,
        inputs=lambda: batch[:_EXAMPLES].select(*keys),
        probe=lambda: (batch if probe is None else probe()).select(*keys),
        readers=readers,
    )


def _stacked(module: nn.Module, params: nn.Module, optimizer: Optimizer, batch: TensorDictBase) -> Network:
    """Describe critics whose parameters are stacked: the layout is that of one member."""
    sizes: Any = params.batch_size

    def find(listed: bool) -> na.Layout:
        inputs = () if listed else (batch.select(*_keys(module)).to("cpu"),)
        with seeded(0):
            made, fresh = _made_anew(module), {} if listed else draw(0)
        warn_of_spread(fresh, parameters(params) if fresh else {}, stacklevel=5)
        return na.stacked(layout_of(made, *inputs))

    def draw(key: int) -> dict[str, Tensor]:
        members = [parameters(_made_anew(module)) for _ in range(sizes.numel())]
        return {name: torch.stack([each[name] for each in members]) for name in members[0]}

    return Network(params, optimizer, initializer=draw, layout=find)


def _keys(*modules: Any) -> list[Any]:
    """Return the keys of what modules are called with."""
    return [key for module in modules for key in module.in_keys]


def _made_anew(module: nn.Module) -> nn.Module:
    """Copy a network, with fresh values."""
    made = copy.deepcopy(module).to("cpu")
    for part in made.modules():
        draw: Any = getattr(part, "reset_parameters", None)
        if draw is not None:
            draw()
    return made


def _record(logger: Any, step: Callable[[str], int], name: str, report: na.ActivityReport) -> None:
    for key, value in report.scalars(f"neuroactivity/{name}").items():
        logger.log_scalar(key, value, step(name))
