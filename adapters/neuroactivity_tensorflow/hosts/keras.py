"""Keras: ``model.fit(..., callbacks=[ActivityCallback()])``."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Unpack
from weakref import WeakKeyDictionary

import keras
import numpy as np

import neuroactivity as na
from neuroactivity.wrapping import HostOptions, Method, as_inputs, check_host_options
from neuroactivity_tensorflow.optimizers import Moment
from neuroactivity_tensorflow.resetter import Resetter
from neuroactivity_tensorflow.wrappers import ReDo, ReGraMa

_BATCH, _LENGTH = 8, 4
_FITS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""What Keras tells the callbacks of a model's latest ``fit``: each fit has its own."""


class ActivityCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Measures, and resets, a model while ``fit`` trains it, and writes what it finds into the logs.

    When training begins, the model's optimizer is wrapped by :class:`neuroactivity_tensorflow.ReGraMa` or ``ReDo``; its
    slots and its count of iterations go on. At the end of each epoch the latest report is in the logs, under the same
    keys from the first epoch on, so that ``CSVLogger``, ``TensorBoard``, ``History``, ``EarlyStopping`` and others have
    it. They are called in the order of the list: **put this callback before them**. Since the progress bar prints all
    that is in the logs, there are two figures by default, the inactive fraction and how many neurons were reset.

    The wrapper stays when training ends, so that ``model.save`` keeps its counts, and the next ``fit`` goes on from
    there, also with a model that was loaded. :func:`detach` gives the model its own optimizer back.

    Args:
        method: ``"regrama"`` and ``"redo"`` reset, ``"measure"`` does not.
        example_inputs: Inputs of the model, a few samples, to find its layout. By default they are made up of the
            shapes and types that the model was built for; give them if it cannot be called with such.
        layout: The neuron groups, if they are not to be found.
        probe: For ``"redo"``: returns the model's inputs to judge activations on. Needs ``jit_compile=False``.
        moments: For an optimizer that is not known, as for :class:`neuroactivity_tensorflow.ReGraMa`.
        prefix: What every key in the logs begins with.
        details: Whether the other totals and the figures of each group are in the logs, too.
        options: Those of :class:`neuroactivity_tensorflow.ReGraMa`, with the same defaults; ``every`` counts steps of
            the optimizer.

    Attributes:
        wrapper: The wrapper; ``None`` before the first ``fit``.

    Raises:
        TypeError: If an option is not known.
        ValueError: If an option is out of range; when training begins, if the optimizer is not known, or is wrapped
            with other options already.
        LayoutError: When training begins, if the layout cannot be found.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> callback = ActivityCallback(every=2)
        >>> history = model.fit(np.ones((64, 3)), np.ones((64, 1)), callbacks=[callback], verbose=0)
        >>> callback.wrapper.steps, sorted(history.history)
        (2, ['loss', 'neuroactivity/inactive_fraction', 'neuroactivity/reset'])
    """

    def __init__(
        self,
        method: Method = "regrama",
        *,
        example_inputs: Any = (),
        layout: na.Layout | None = None,
        probe: Callable[[], Any] | None = None,
        moments: Mapping[str, Moment] | None = None,
        prefix: str = "neuroactivity",
        details: bool = False,
        **options: Unpack[HostOptions],
    ) -> None:
        super().__init__()
        self.wrapper: ReGraMa | ReDo | None = None
        self._method, self._given, self._prefix, self._details = method, options, prefix, details
        self._example_inputs, self._layout, self._probe, self._moments = example_inputs, layout, probe, moments
        self._checked = check_host_options(method, options)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Wrap the model's optimizer, or go on with the wrapper that it has."""
        if self.params and _FITS.get(self.model) is self.params:
            raise ValueError("callback: two ActivityCallbacks in one fit(); the second would replace the first")
        _FITS[self.model] = self.params
        wrapper = _innermost(self.model.optimizer)
        self.wrapper = self._continue(wrapper) if isinstance(wrapper, Resetter) else self._wrap(wrapper)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the latest report into the logs."""
        if self.wrapper is not None and not self.wrapper.steps and epoch == 0:
            what = "the model's train_step takes no step of model.optimizer, so nothing is measured"
            warnings.warn(
                f"{what}; wrap the optimizer that it uses in ReGraMa or ReDo", na.ActivityWarning, stacklevel=2
            )
        if logs is not None and self.wrapper is not None:
            figures = self.wrapper.scalars(self._prefix)
            brief = [f"{self._prefix}/{name}" for name in ("inactive_fraction", "reset")]
            logs.update({name: figures[name] for name in (figures if self._details else brief)})

    def _continue(self, wrapper: Any) -> Any:
        """Go on with a wrapper of an earlier ``fit``, or of a loaded model."""
        expected = replace(self._checked, on_report=wrapper.options.on_report)
        if type(wrapper) is not self._kind or wrapper.options != expected:
            raise ValueError(
                f"optimizer: a {type(wrapper).__name__} with other options is around it already; use these options, or "
                "call detach(model) first"
            )
        if wrapper.options != self._checked:
            wrapper.options = self._checked
            self.model.make_train_function(force=True)
        if isinstance(wrapper, ReDo) and self._probe is not None:
            wrapper.attach(self.model, self._probe)
        return wrapper

    def _wrap(self, optimizer: Any) -> Any:
        """Put a wrapper around the optimizer."""
        model, checked, inputs = self.model, self._checked, self._example_inputs
        given: dict[str, Any] = {**self._given, "tau": checked.tau, "max_fraction": checked.max_fraction}
        if self._method == "redo":
            given["probe"] = self._probe
        if self._layout is None and checked.writes:
            none = isinstance(inputs, tuple) and not inputs
            given["example_inputs"] = _example_inputs(model) if none else as_inputs(inputs)
        with model.distribute_strategy.scope():
            wrapper = self._kind(optimizer, model, layout=self._layout, moments=self._moments, **given)
            wrapper.build(model.trainable_variables)
        _exchange(model, optimizer, wrapper)
        return wrapper

    @property
    def _kind(self) -> type[ReGraMa] | type[ReDo]:
        return ReDo if self._method == "redo" else ReGraMa


def detach(model: Any) -> None:
    """Give a model its own optimizer back, with its slots as they are now.

    Args:
        model: A model that was trained with an :class:`ActivityCallback`.

    Raises:
        ValueError: If its optimizer has no wrapper.
    """
    wrapper = _innermost(model.optimizer)
    if not isinstance(wrapper, Resetter):
        raise ValueError(f"model: expected a wrapper around its optimizer, got {type(wrapper).__name__}")
    _exchange(model, wrapper, wrapper.inner_optimizer)


def _innermost(optimizer: Any) -> Any:
    """Return what is inside of the loss scaling that mixed precision brings."""
    return optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer


def _exchange(model: Any, old: Any, new: Any) -> None:
    """Give a compiled model another optimizer, in its configuration as well, and let it trace its step anew."""
    if model.optimizer is old:
        model.optimizer = new
    else:
        model.optimizer.inner_optimizer = new
    config = model._compile_config.config  # what model.save() writes
    if config["optimizer"] is not model.optimizer:
        config["optimizer"] = new
    model.make_train_function(force=True)


def _example_inputs(model: Any) -> tuple[Any, ...]:
    """Make up inputs of the shapes and types that a model was built for."""
    if hasattr(model, "inputs"):  # functional or sequential
        known = getattr(model, "input", None)
        made = _make_up(model.inputs if known is None else known)
    else:
        made = _make_up((model.get_build_config() or {}).get("input_shape"))
    return as_inputs(made)


def _make_up(wanted: Any) -> Any:
    """Make up samples for a symbolic tensor or a shape, or for a structure of such."""
    if isinstance(wanted, dict):
        return {name: _make_up(part) for name, part in wanted.items()}
    if isinstance(wanted, list | tuple) and not all(isinstance(size, int | None) for size in wanted):
        return [_make_up(part) for part in wanted]
    dtype = keras.backend.standardize_dtype(getattr(wanted, "dtype", "float32"))
    if wanted is None or dtype == "string":
        raise na.LayoutError("example_inputs: what the model is called with cannot be made up; give a few samples")
    batch, *sizes = getattr(wanted, "shape", wanted)
    shape, rng = (batch or _BATCH, *[size or _LENGTH for size in sizes]), np.random.default_rng(0)
    return rng.standard_normal(shape).astype(dtype) if "float" in dtype else rng.integers(0, 2, shape).astype(dtype)
