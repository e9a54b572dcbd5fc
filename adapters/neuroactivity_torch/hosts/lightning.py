"""Lightning: ``Trainer(callbacks=[ActivityCallback()])``."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias, Unpack

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import neuroactivity as na
from neuroactivity.wrapping import Method
from neuroactivity_torch.hosts.attachments import Attachments, HostOptions, Network, check_options

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback
except ImportError as error:
    raise ImportError("Lightning is missing: pip install '.[lightning]' in a clone") from error

Inputs: TypeAlias = Callable[[Any], Any]
"""From a batch to what a network is called with, one input or a tuple."""

_EXAMPLES = 8


def _first(batch: Any) -> Any:
    """Return the first entry of a batch of inputs and labels."""
    return batch[0] if isinstance(batch, tuple | list) else batch


class ActivityCallback(Callback):
    """Measures, and resets if asked to, the neurons of a module while a ``Trainer`` fits it.

    The gradients are those that the optimizer's step uses: accumulated, unscaled and clipped. A module with one
    optimizer is one network, ``model``. With several, each optimizer is named after the one child that it trains, or
    ``optimizer_0`` and so on. Reports go to the trainer's loggers and to ``callback_metrics``, the wrappers' state to
    its checkpoints. The wrappers are attached at the first batch, and detached when the fit ends.

    Args:
        method: ``"measure"`` resets nothing; ``"regrama"`` and ``"redo"`` do.
        inputs: From a batch to what the module is called with, to find its layout and for ReDo to run it on; the first
            entry of a batch if not given. With several optimizers a mapping, by network. ``"measure"`` needs none.
        options: Those of :class:`neuroactivity_torch.ReGraMa`, with the same defaults. ``on_report`` is called with a
            network's name and its report.

    Attributes:
        wrappers: The wrappers by the names of their networks; empty before the first batch.

    Raises:
        ValueError: If an option is out of range.
        LayoutError: At the first batch, if a layout cannot be discovered.

    Example:
        ``Trainer(callbacks=[ActivityCallback(every=100)]).fit(module, loader)``
    """

    def __init__(
        self,
        method: Method = "measure",
        *,
        inputs: Inputs | Mapping[str, Inputs] = _first,
        **options: Unpack[HostOptions],
    ) -> None:
        super().__init__()
        check_options(method, options)
        functions = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        if not all(map(callable, functions)):
            raise ValueError(f"inputs: expected a function of a batch, or a mapping of such, got {inputs!r}")
        self.wrappers: Mapping[str, Any] = {}
        self._optimizers: list[Any] = []
        self._method, self._inputs, self._options = method, inputs, options
        self._state: Mapping[str, Any] | None = None
        self._batch: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the wrappers of an earlier fit, but not their state."""
        if isinstance(self.wrappers, Attachments):
            self.detach()
            self._state, self.wrappers = self._state or self.wrappers.state_dict(), {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Attach at the first batch, and anew where optimizers were replaced; keep the batch for ReDo."""
        self._batch = batch
        if self.wrappers and trainer.optimizers != self._optimizers:
            warnings.warn("optimizers were replaced, attaching anew", na.ActivityWarning, stacklevel=2)
            self.on_train_start(trainer, pl_module)
        if not self.wrappers:
            self._optimizers = list(trainer.optimizers)
            found, record = self._networks(trainer, pl_module), partial(self._record, trainer)
            self.wrappers = Attachments(found, self._method, state=self._state, record=record, **self._options)
            self._state = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Let go of the batch."""
        self._batch = None

    def _networks(self, trainer: Trainer, module: nn.Module) -> dict[str, Network]:
        """Return what each optimizer trains, by name."""
        if len(trainer.optimizers) == 1:
            return {"model": Network(module, trainer.optimizers[0], *self._called_with("model"))}
        networks = {}
        for number, optimizer in enumerate(trainer.optimizers):
            held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            children = [name for name, child in module.named_children() if held & {*map(id, child.parameters())}]
            only = children[0] if len(children) == 1 else None
            name = f"optimizer_{number}" if only is None or only in networks else only
            trained = module if only is None else module.get_submodule(only)
            networks[name] = Network(trained, optimizer, *self._called_with(name))
        return networks

    def _called_with(self, name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """Return functions that give what a network is called with: a few samples of a batch, and all of it."""
        choose = self._inputs.get(name) if isinstance(self._inputs, Mapping) else self._inputs
        if choose is None:
            raise ValueError(f"inputs: expected a function for each network, got none for {name!r}")
        few = lambda: pytree.tree_map_only(Tensor, lambda value: value[:_EXAMPLES], choose(self._batch))  # noqa: E731
        return few, lambda: choose(self._batch)

    def _record(self, trainer: Trainer, name: str, report: na.ActivityReport) -> None:
        """Log a report, as Lightning's own monitors do."""
        values = report.scalars(f"neuroactivity/{name}")
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.fit_loop.epoch_loop._batches_that_stepped)
        trainer.callback_metrics.update({key: torch.tensor(value) for key, value in values.items()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Detach the wrappers."""
        self.detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Detach the wrappers."""
        self.detach()

    def detach(self) -> None:
        """Detach all wrappers, before the fit ends."""
        if isinstance(self.wrappers, Attachments):
            self.wrappers.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the wrappers' state, for a checkpoint."""
        return self.wrappers.state_dict() if isinstance(self.wrappers, Attachments) else dict(self._state or {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's state until the wrappers are made."""
        self._state = state_dict
