"""What a Keras optimizer remembers of a variable, and how to make it forget reset entries.

Which slot belongs to which variable is learnt from the optimizer itself: a twin of the same configuration is built on
the same variables, and its ``add_variable_from_reference`` says for whom each slot is. What each optimizer starts with
is written down here, optimizer by optimizer; one that is not is refused, not guessed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
from keras import optimizers

import neuroactivity as na
from neuroactivity_tensorflow.models import Model, parameters, raw, variables_of

__all__ = ["Moment", "Slots", "as_used", "clear_moments", "cleared_moments", "moments_of", "slots_of", "written"]

Moment: TypeAlias = Callable[[Any, Any], Any]
"""From a parameter's value and the optimizer to what the optimizer starts with for it."""

Slots: TypeAlias = Mapping[str, Mapping[int, Any]]
"""By name of the slot, by identity of the ``tf.Variable`` that it is for, the optimizer's variable."""


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
    """Return what an optimizer's slots start with, by the slot's name.

    Args:
        optimizer: The optimizer.
        moments: The answer for an optimizer that is not known here.

    Raises:
        ValueError: If the optimizer is not known and ``moments`` is not given, or it accumulates gradients.
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


def as_used(optimizer: Any, grads: Mapping[str, Any]) -> dict[str, Any]:
    """Return gradients as an optimizer uses them, scaled back and clipped; a global norm changes no score."""
    names, scale = list(grads), optimizer.loss_scale_factor
    if not optimizer.clipnorm and not optimizer.clipvalue:
        return dict(grads)
    back = [grads[name] if scale is None or grads[name] is None else grads[name] / scale for name in names]
    return dict(zip(names, optimizer._clip_gradients(back), strict=True))


def slots_of(optimizer: Any, rules: Mapping[str, Moment]) -> Slots:
    """Find out which variables of a built optimizer belong to which variable of the model.

    Raises:
        ValueError: If the optimizer has a slot that no rule speaks of.
    """
    variables, found = optimizer._trainable_variables, dict[str, dict[int, Any]]()
    twin = _twin(optimizer)
    add, made = twin.add_variable_from_reference, {}

    def recording(reference_variable: Any, name: str | None = None, **options: Any) -> Any:
        slot = add(reference_variable, name=name, **options)
        made[id(slot)] = (name or "var", id(raw(reference_variable)))
        return slot

    object.__setattr__(twin, "add_variable_from_reference", recording)
    twin.build(variables)
    for own, slot in zip(optimizer.variables, twin.variables, strict=True):
        if id(slot) in made:
            name, variable = made[id(slot)]
            if name not in rules:
                expected = ", ".join(rules)
                raise ValueError(f"optimizer {type(optimizer).__name__}, slot {name!r}: expected one of {expected}")
            found.setdefault(name, {})[variable] = own
    return found


def _twin(optimizer: Any) -> Any:
    """Build an optimizer of the same configuration; a learning rate that is a function or a schedule is left out.

    The slots do not depend on it, and it need not have a configuration, or be one that Keras can read again.
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

    For a loop of one's own; :class:`ReGraMa` and :class:`ReDo` do it themselves. Call it after :func:`write`. Each slot
    becomes what the optimizer starts with for the new parameter; the count of iterations stays, since healthy neurons
    share it.

    Args:
        optimizer: A built optimizer of ``keras.optimizers`` that steps the model's parameters: SGD, Adam, AdamW, Nadam,
            Adamax, Adagrad, Adadelta, RMSprop, Lion, Lamb, Muon or ScheduleFreeAdamW.
        model: The model.
        masks: Masks by group name.
        layout: The neuron groups.
        moments: For any other optimizer: by name of the slot (``add_variable_from_reference(..., name=)``) a function
            from a parameter's value and the optimizer to the start value.

    Raises:
        ValueError: If the optimizer, or one of its slots, is not known; nothing is written.
    """
    rules = moments_of(optimizer, moments)
    with tf.init_scope():
        slots = slots_of(optimizer, rules)
    named = {name: raw(variable) for name, variable in variables_of(model).items()}
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
    """Build the cleared slots without writing any.

    Args:
        optimizer: The optimizer.
        rules: What its slots start with.
        slots: Its slots, from :func:`slots_of`.
        variables: The parameters' ``tf.Variable`` by name.
        new: The parameters' new values.
        masks: Masks by group name.
        layout: The neuron groups.

    Returns:
        Pairs of an optimizer's ``tf.Variable`` and its new value.
    """
    pairs: list[tuple[Any, Any]] = []
    names = written(masks, layout)
    for slot, owned in slots.items():
        own = {name: raw(owned[id(variables[name])]) for name in names if id(variables[name]) in owned}
        old = {name: tf.convert_to_tensor(own[name]) if name in own else None for name in names}
        fresh = {name: tf.cast(rules[slot](new[name], optimizer), variable.dtype) for name, variable in own.items()}
        cleared = na.reset_moments(old, masks, layout, fresh)
        pairs += [(variable, cleared[name]) for name, variable in own.items()]
    return pairs


def written(masks: Iterable[str], layout: na.Layout) -> list[str]:
    """Name the parameters that a reset of these groups writes."""
    groups = [layout[name] for name in masks if layout[name].resettable]
    return list(dict.fromkeys(view.param for group in groups for _, view in group.views))
