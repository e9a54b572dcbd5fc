"""Keras optimizers: one that wraps another, and the slots (moments) that a reset clears.

Which slot belongs to which variable is read from the optimizer itself: a twin with the same configuration is built on
the same variables, and the calls of its ``add_variable_from_reference`` are recorded. The initial values of the slots
are listed here for each optimizer; an optimizer that is not listed is refused, not guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
from keras import optimizers

import neuroactivity as na
from neuroactivity.wrapping import written_params
from neuroactivity_tensorflow.parameters import Model, parameters, tf_variable, variables_of

Moment: TypeAlias = Callable[[Any, Any], Any]
"""From a parameter's value and the optimizer to the initial value of a slot."""

Slots: TypeAlias = Mapping[str, Mapping[int, Any]]
"""The optimizer's variables, by name of the slot and by ``id`` of the ``tf.Variable`` that the slot belongs to."""


class OptimizerWrapper(optimizers.Optimizer):  # type: ignore[misc]
    """A Keras optimizer around another one, to which it delegates, as ``LossScaleOptimizer`` does.

    Args:
        optimizer: The optimizer that makes the steps.
        name: Name of the wrapper.
    """

    def __init__(self, optimizer: Any, *, name: str | None = None) -> None:
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = optimizer

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


def _zero(parameter: Any, optimizer: Any) -> Any:
    return tf.zeros_like(parameter)


def _parameter(parameter: Any, optimizer: Any) -> Any:
    return parameter


def _accumulator(parameter: Any, optimizer: Any) -> Any:
    return tf.fill(parameter.shape, tf.cast(optimizer.initial_accumulator_value, parameter.dtype))


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


def moments_of(optimizer: Any, moments: Mapping[str, Moment] | None = None) -> Mapping[str, Moment]:
    """Return the initial values of an optimizer's slots, by the slot's name.

    Args:
        optimizer: The optimizer.
        moments: The initial values, for an optimizer that is not listed here.

    Raises:
        ValueError: If the optimizer is not listed and ``moments`` is not given, or it accumulates gradients.
    """
    name = type(optimizer).__name__
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            f"optimizer {name}: gradient_accumulation_steps={optimizer.gradient_accumulation_steps} is not supported, "
            "since a call of it sees a part of a step's gradients; accumulate them before the optimizer"
        )
    if moments is not None:
        return {**_AVERAGE, **moments}
    if type(optimizer) in _REFUSED:
        raise ValueError(f"optimizer {name} is not supported: {_REFUSED[type(optimizer)]}")
    if type(optimizer) not in _KNOWN:
        raise ValueError(
            f"optimizer {name} is not known, so its slots cannot be reset; known are keras.optimizers' "
            f"{', '.join(sorted(kind.__name__ for kind in _KNOWN))}. For another one give "
            'moments={"slot": lambda parameter, optimizer: start, ...}'
        )
    return {**_AVERAGE, **_KNOWN[type(optimizer)]}


def unscale_and_clip(optimizer: Any, grads: Mapping[str, Any]) -> dict[str, Any]:
    """Return gradients as an optimizer uses them. Scaling and clipping by the global norm change no score."""
    scale = optimizer.loss_scale_factor
    if not optimizer.clipnorm and not optimizer.clipvalue:
        return dict(grads)
    unscaled = [gradient if scale is None or gradient is None else gradient / scale for gradient in grads.values()]
    return dict(zip(grads, optimizer._clip_gradients(unscaled), strict=True))


def slots_of(optimizer: Any, rules: Mapping[str, Moment]) -> Slots:
    """Find which variables of a built optimizer belong to which variable of the model.

    Raises:
        ValueError: If there is no rule for one of the optimizer's slots.
    """
    slots: dict[str, dict[int, Any]] = {}
    twin = _twin(optimizer)
    add, made = twin.add_variable_from_reference, {}

    def recording(reference_variable: Any, name: str | None = None, **options: Any) -> Any:
        slot = add(reference_variable, name=name, **options)
        made[id(slot)] = (name or "var", id(tf_variable(reference_variable)))
        return slot

    object.__setattr__(twin, "add_variable_from_reference", recording)
    twin.build(optimizer._trainable_variables)
    for slot, copy in zip(optimizer.variables, twin.variables, strict=True):
        if id(copy) in made:
            name, variable = made[id(copy)]
            if name not in rules:
                expected = ", ".join(rules)
                raise ValueError(f"optimizer {type(optimizer).__name__}, slot {name!r}: expected one of {expected}")
            slots.setdefault(name, {})[variable] = slot
    return slots


def _twin(optimizer: Any) -> Any:
    """Make an optimizer with the same configuration, but for a learning rate that is a function or a schedule.

    The slots do not depend on it, and Keras may not be able to write its configuration or to read it again.
    """
    if not callable(optimizer._learning_rate):
        return type(optimizer).from_config(optimizer.get_config())
    shell = object.__new__(type(optimizer))
    vars(shell).update(vars(optimizer), _learning_rate=0.0)
    config = shell.get_config()
    return type(optimizer).from_config(
        {**config, "learning_rate": lambda: 0.0} if "learning_rate" in config else config
    )


def clear_moments(
    optimizer: Any,
    model: Model,
    masks: Mapping[str, Any],
    layout: na.Layout,
    *,
    moments: Mapping[str, Moment] | None = None,
) -> None:
    """Clear an optimizer's slots at every entry that :func:`neuroactivity.reset` writes.

    For custom training loops, after :func:`write`; :class:`ReGraMa` and :class:`ReDo` do it themselves. Each slot is
    set to the optimizer's initial value for the new parameter; the count of iterations stays, since healthy neurons
    share it.

    Args:
        optimizer: A built optimizer of ``keras.optimizers`` that trains the model: SGD, Adam, AdamW, Nadam, Adamax,
            Adagrad, Adadelta, RMSprop, Lion, Lamb, Muon or ScheduleFreeAdamW.
        model: The model.
        masks: Masks by group name.
        layout: The neuron groups.
        moments: For any other optimizer: for each slot, by the name given to ``add_variable_from_reference``, a
            function from a parameter's value and the optimizer to the slot's initial value.

    Raises:
        ValueError: If the optimizer or one of its slots is not known; nothing is written.
    """
    rules = moments_of(optimizer, moments)
    with tf.init_scope():
        slots = slots_of(optimizer, rules)
    named = {name: tf_variable(variable) for name, variable in variables_of(model).items()}
    for slot, value in cleared_moments(optimizer, rules, slots, named, parameters(model), masks, layout):
        slot.assign(value)


def cleared_moments(
    optimizer: Any,
    rules: Mapping[str, Moment],
    slots: Slots,
    variables: Mapping[str, Any],
    new: Mapping[str, Any],
    masks: Mapping[str, Any],
    layout: na.Layout,
) -> Sequence[tuple[Any, Any]]:
    """Return pairs of an optimizer's ``tf.Variable`` and its cleared value; nothing is written.

    Args:
        optimizer: The optimizer.
        rules: The initial values of its slots.
        slots: Its slots, from :func:`slots_of`.
        variables: The parameters' ``tf.Variable`` by name.
        new: The parameters' new values.
        masks: Masks by group name.
        layout: The neuron groups.
    """
    pairs: list[tuple[Any, Any]] = []
    names = written_params(masks, layout)
    for slot, by_id in slots.items():
        held = {name: tf_variable(by_id[id(variables[name])]) for name in names if id(variables[name]) in by_id}
        old = {name: tf.convert_to_tensor(held[name]) if name in held else None for name in names}
        fresh = {name: tf.cast(rules[slot](new[name], optimizer), variable.dtype) for name, variable in held.items()}
        cleared = na.reset_moments(old, masks, layout, fresh)
        pairs += [(variable, cleared[name]) for name, variable in held.items()]
    return pairs
