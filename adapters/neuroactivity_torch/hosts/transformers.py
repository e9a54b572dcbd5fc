"""Hugging Face's Trainer: ``Trainer(..., callbacks=[ActivityCallback()])``, or ``attach(trainer)``."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

import neuroactivity as na
from neuroactivity.wrapping import Method
from neuroactivity_torch.hosts.attachments import Attachments, HostOptions, Network, check_options
from neuroactivity_torch.parameters import parameters

try:
    from transformers import PreTrainedModel, Trainer, TrainerCallback
except ImportError as error:
    raise ImportError("transformers is missing: pip install '.[transformers]' in a clone") from error

_FILE = "neuroactivity.pt"


class ActivityCallback(TrainerCallback):
    """Measures, and resets if asked to, the neurons of a model that a Hugging Face ``Trainer`` trains.

    The gradients are those that the optimizer's step uses: accumulated and clipped. Each log has what was measured
    since the last one. A checkpoint's folder gets the wrapper's state as ``neuroactivity.pt``, and a resumed run
    goes on from there. Fresh values are those of a model made anew of the same configuration, which takes the
    memory of a second one while neurons are reset; ``initializer="snapshot"`` keeps one instead.

    The Trainer's own reports to TensorBoard, Weights & Biases and the like are made before a callback of the user's is
    called: :func:`attach` puts this one in front of them.

    Args:
        method: ``"measure"`` resets nothing; ``"regrama"`` and ``"redo"`` do.
        example_inputs: What the model is called with, by position, to find its layout: the model's ``dummy_inputs`` if
            not given. ``"measure"`` needs none.
        probe: Returns what ReDo runs the model on.
        options: Those of :class:`neuroactivity_torch.ReGraMa`, with the same defaults. ``on_report`` is called with the
            network's name, ``"model"``, and its report.

    Attributes:
        wrappers: The wrapper by the name of its network, ``"model"``; empty before training.

    Raises:
        ValueError: If an option is out of range; when training begins, if ReDo has no probe.
        LayoutError: When training begins, if the layout cannot be discovered.

    Example:
        ``Trainer(model, args, train_dataset=data, callbacks=[ActivityCallback(every=100)]).train()``
    """

    def __init__(
        self,
        method: Method = "measure",
        *,
        example_inputs: Any = None,
        probe: Callable[[], Any] | None = None,
        **options: Unpack[HostOptions],
    ) -> None:
        check_options(method, options)
        self.wrappers: Mapping[str, Any] = {}
        self._method, self._example_inputs, self._probe, self._options = method, example_inputs, probe, options
        self._new: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach to the model and its optimizer."""
        self.detach()
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        fresh: Any = (lambda key: parameters(_made_anew(model))) if isinstance(model, PreTrainedModel) else "layer"
        network = Network(model, optimizer, lambda: self._inputs(model), self._probe, initializer=fresh)
        saved = _read(args, state.global_step) if state.global_step else None
        with _without_cache(model):
            self.wrappers = Attachments(
                {"model": network}, self._method, state=saved, record=self._record, **self._options
            )

    def _inputs(self, model: nn.Module) -> Any:
        """Return what the model is called with, by position."""
        dummy = getattr(model, "dummy_inputs", {}) if self._example_inputs is None else {}
        return dummy.get("input_ids", ()) if self._example_inputs is None else self._example_inputs

    def _record(self, name: str, report: na.ActivityReport) -> None:
        """Keep a report for the next log."""
        self._new = report.scalars("neuroactivity")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add what was measured since the last log."""
        if logs is not None:
            logs.update(self._new)
            state.log_history[-1].update(self._new)
            self._new = {}

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the state beside the checkpoint."""
        if isinstance(self.wrappers, Attachments):
            saved, folder = self.wrappers.state_dict(), _folder(args, state.global_step)  # of all ranks, by each
            if args.should_save and folder.is_dir():
                torch.save(saved, folder / _FILE)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Detach the wrapper."""
        self.detach()

    def detach(self) -> None:
        """Detach the wrapper, before training ends or after it was broken off."""
        if isinstance(self.wrappers, Attachments):
            self.wrappers.detach()


def attach(trainer: Trainer, method: Method = "measure", **options: Any) -> ActivityCallback:
    """Add an :class:`ActivityCallback` in front of a trainer's other callbacks, so that its reports are logged too.

    Args:
        trainer: The trainer.
        method: As for the callback, and so are the other options.
        options: The callback's.

    Returns:
        The callback.

    Raises:
        ValueError: If the trainer has one already, or if an option is out of range.

    Example:
        ``attach(trainer, every=100)``
    """
    callback = ActivityCallback(method, **options)
    if any(isinstance(other, ActivityCallback) for other in trainer.callback_handler.callbacks):
        raise ValueError("trainer: expected one without an ActivityCallback: a checkpoint holds the state of one")
    trainer.callback_handler.callbacks.insert(0, callback)
    return callback


def _made_anew(model: PreTrainedModel) -> nn.Module:
    """Make a model of the same configuration, with values as its class draws them."""
    made: nn.Module = type(model)(copy.deepcopy(model.config)).to(model.dtype)
    return made


def _folder(args: Any, step: int) -> Path:
    return Path(args.output_dir) / f"checkpoint-{step}"


def _read(args: Any, step: int) -> Mapping[str, Any] | None:
    """Read the state beside the checkpoint that a run is resumed from."""
    given = args.resume_from_checkpoint
    folders = [*([Path(given)] if isinstance(given, str) else []), _folder(args, step)]
    for folder in folders:
        if (folder / _FILE).is_file():
            return _load(folder / _FILE)
    warnings.warn(f"model starts anew: there is no {_FILE} in {folders[0]}", na.ActivityWarning, stacklevel=2)
    return None


def _load(file: Path) -> Mapping[str, Any]:
    try:
        state: Mapping[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        na.Layout.from_dict(state["model"]["layout"])
    except Exception as error:  # of many kinds: the file may hold anything
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{file}: expected what an ActivityCallback saved, got {what}") from error
    return state


@contextmanager
def _without_cache(model: nn.Module) -> Iterator[None]:
    """Let a model return no cache of keys and values: nothing else reads it in training."""
    config: Any = getattr(model, "config", None)
    before = getattr(config, "use_cache", None)
    if before:
        config.use_cache = False
    try:
        yield
    finally:
        if before:
            config.use_cache = before
