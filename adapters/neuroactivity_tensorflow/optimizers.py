"""Keras optimizers: one that wraps another, and the initial values of the slots (moments) of each.

An optimizer that is not listed here is refused, not guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
from keras import optimizers

from neuroactivity.arrays import check_like
from neuroactivity_tensorflow.parameters import tf_variable

Moment: TypeAlias = Callable[[Any, Any], Any]
"""From a parameter's value and the optimizer to the initial value of a slot."""


_SETTINGS = {"weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "gradient_accumulation_steps"}
_SETTINGS |= {"use_ema", "ema_momentum", "ema_overwrite_frequency"}


class OptimizerWrapper(optimizers.Optimizer):  # type: ignore[misc]
    """A Keras optimizer around another one, to which it delegates, as ``LossScaleOptimizer`` does.

    Args:
        optimizer: The optimizer that makes the steps.
        name: Name of the wrapper.
    """

    def __init__(self, optimizer: Any, *, name: str | None = None) -> None:
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = optimizer

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what Keras's constructor sets and only the inner optimizer reads.

        Raises:
            ValueError: If it is set here, where it would have no effect.
        """
        if name in _SETTINGS and "inner_optimizer" in vars(self):
            raise ValueError(f"{name}: expected to be set on the optimizer inside, optimizer.inner_optimizer.{name}")
        super().__setattr__(name, value)

    @property
    def variables(self) -> list[Any]:
        """The wrapper's variables, then those of the inner optimizer."""
        return [*self._variables, *self.inner_optimizer.variables]

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        """The inner optimizer's count of iterations."""
        return self.inner_optimizer.iterations

    @property
    def loss_scale_factor(self) -> Any:
        """The inner optimizer's loss scale."""
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: Any) -> None:
        if hasattr(self, "inner_optimizer"):  # Keras's constructor sets it before there is one
            self.inner_optimizer.loss_scale_factor = factor

    def scale_loss(self, loss: Any) -> Any:
        """Scale a loss as the inner optimizer does."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Any) -> None:
        """Let the inner optimizer set final values, such as averages."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Exclude variables from the inner optimizer's weight decay."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)


def innermost(optimizer: Any) -> Any:
    """Return the optimizer that makes the steps, inside all wrappers of this library."""
    return innermost(optimizer.inner_optimizer) if isinstance(optimizer, OptimizerWrapper) else optimizer


def is_optimizer_of(model: Any, wrapper: Any) -> bool:
    """Whether a compiled model is trained with a wrapper, alone or inside of others."""
    optimizer: Any = getattr(model, "optimizer", None)
    while optimizer is not wrapper and hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer is wrapper


def members_of(optimizer: Any) -> list[Any]:
    """Return the optimizers that make the steps: one, or all those of a ``MultiOptimizer``.

    A ``MultiOptimizer`` that is given a function knows its members only when it has been built.
    """
    inner = innermost(optimizer)
    return [member for each in inner.optimizers for member in members_of(each)] if _is_multiple(inner) else [inner]


def _is_multiple(optimizer: Any) -> bool:
    return isinstance(optimizer, getattr(optimizers, "MultiOptimizer", ()))  # not in every version of Keras


def _zero(parameter: Any, optimizer: Any) -> Any:
    return tf.zeros_like(parameter)


def _parameter(parameter: Any, optimizer: Any) -> Any:
    return parameter


def _accumulator(parameter: Any, optimizer: Any) -> Any:
    return tf.fill(parameter.shape, tf.cast(optimizer.initial_accumulator_value, parameter.dtype))


BY_ENTRY = (_zero, _parameter, _accumulator)
"""Initial values that look at each entry alone, so that a part of a parameter has a part of its slot's."""

_ADAM: dict[str, Moment] = {"momentum": _zero, "velocity": _zero}
_KNOWN: dict[type, dict[str, Moment]] = {
    optimizers.SGD: {"momentum": _zero},
    optimizers.Adam: {**_ADAM, "velocity_hat": _zero},
    optimizers.AdamW: {**_ADAM, "velocity_hat": _zero},
    optimizers.Nadam: _ADAM,
    optimizers.Adamax: {"momentum": _zero, "norm": _zero},
    optimizers.Adagrad: {"accumulator": _accumulator},
    optimizers.Adadelta: {"accumulated_grad": _zero, "accumulated_delta_var": _zero},
    optimizers.RMSprop: {**_ADAM, "average_gradient": _zero},
    optimizers.Lion: {"momentum": _zero},
    optimizers.Lamb: _ADAM,
}
_NEWER: dict[str, dict[str, Moment]] = {  # not in every version of Keras
    "Muon": _ADAM,
    "ScheduleFreeAdamW": {"momentum": _parameter, "velocity": _zero},
}
_KNOWN |= {getattr(optimizers, name): rules for name, rules in _NEWER.items() if hasattr(optimizers, name)}
_AVERAGE: dict[str, Moment] = {"average": _parameter}  # of any optimizer with use_ema=True

_REFUSED = {
    optimizers.Ftrl: "it computes parameters from its slots, so that a reset would not last",
    optimizers.LossScaleOptimizer: "put the wrapper inside: LossScaleOptimizer(ReGraMa(optimizer, model))",
}


def is_known(optimizer: Any) -> bool:
    """Whether an optimizer's slots are listed here."""
    return type(optimizer) in _KNOWN


def moments_of(optimizer: Any, moments: Mapping[str, Moment] | None = None) -> Mapping[str, Moment]:
    """Return the initial values of an optimizer's slots, by the slot's name.

    Args:
        optimizer: The optimizer.
        moments: The initial values, for an optimizer that is not listed here.

    Raises:
        ValueError: If the optimizer is not listed and ``moments`` is not given, or it accumulates gradients.
    """
    name = type(optimizer).__name__
    check_whole_steps(optimizer)
    if moments is not None:
        return {**_AVERAGE, **_KNOWN.get(type(optimizer), {}), **moments}
    if type(optimizer) in _REFUSED:
        raise ValueError(f"optimizer {name} is not supported: {_REFUSED[type(optimizer)]}")
    if type(optimizer) not in _KNOWN:
        raise ValueError(
            f"optimizer {name} is not known, so its slots cannot be reset; known are keras.optimizers' "
            f"{', '.join(sorted(kind.__name__ for kind in _KNOWN))}. For another one give "
            'moments={"slot": lambda parameter, optimizer: start, ...}'
        )
    return {**_AVERAGE, **_KNOWN[type(optimizer)]}


def check_moments(moments: Mapping[str, Moment] | None, optimizer: Any, variables: Sequence[Any]) -> None:
    """Raise if a function of the user's does not return initial values of slots for a variable.

    Raises:
        ValueError: With the name of the slot.
    """
    rules = [(name, start, member) for name, start in (moments or {}).items() for member in members_of(optimizer)]
    for name, start, member in rules if variables else ():
        value = tf.zeros_like(tf.convert_to_tensor(tf_variable(variables[0])))
        try:
            begun = tf.cast(start(value, member), value.dtype)
            check_like(begun, value, f"moments[{name!r}]")
        except Exception as error:  # whatever the function raises
            raise ValueError(f"moments[{name!r}]: expected initial values for a parameter: {error}") from error
        if not bool(tf.reduce_all(tf.math.is_finite(begun))):
            raise ValueError(f"moments[{name!r}]: expected finite initial values, got NaN or Inf")


def check_whole_steps(optimizer: Any) -> None:
    """Raise if an optimizer accumulates gradients.

    Raises:
        ValueError: If it does.
    """
    if steps := optimizer.gradient_accumulation_steps:
        raise ValueError(
            f"optimizer {type(optimizer).__name__}: gradient_accumulation_steps={steps} is not supported, since a call "
            "of it sees a part of a step's gradients; accumulate them before the optimizer"
        )
