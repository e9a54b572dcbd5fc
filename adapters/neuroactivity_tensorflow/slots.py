"""The slots (moments) of Keras optimizers: which variable each belongs to, and clearing them.

Which slot belongs to which variable is read from the optimizer itself: a twin with the same configuration is built on
the same variables, and the calls of its ``add_variable_from_reference`` are recorded.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

import neuroactivity as na
from neuroactivity.resets import Outgoing
from neuroactivity.wrapping import written_params
from neuroactivity_tensorflow.optimizers import Moment, members_of, moments_of
from neuroactivity_tensorflow.parameters import Model, assign_all, parameters, tf_variable, variables_of

Slots: TypeAlias = Mapping[str, Mapping[int, Any]]
"""The optimizer's variables, by name of the slot and by ``id`` of the ``tf.Variable`` that the slot belongs to."""


class Member(NamedTuple):
    """An optimizer that makes steps, with its slots and their initial values."""

    optimizer: Any
    rules: Mapping[str, Moment]
    slots: Slots


def members(optimizer: Any, moments: Mapping[str, Moment] | None = None) -> list[Member]:
    """Return a built optimizer, or the members of a ``MultiOptimizer`` that train anything, each with its slots.

    Raises:
        ValueError: If one of them, or one of its slots, is not known.
    """
    found = [(member, moments_of(member, moments)) for member in members_of(optimizer)]
    return [Member(member, rules, slots_of(member, rules)) for member, rules in found if member.built]


def used_gradients(optimizer: Any, grads: Sequence[Any], variables: Sequence[Any]) -> dict[int, Any]:
    """Return gradients as an optimizer uses them: without the scale of the loss, and clipped.

    Args:
        optimizer: A built optimizer.
        grads: The gradients of a step, all of them, since they may be clipped together.
        variables: Their variables.

    Returns:
        Gradients by ``id`` of the ``tf.Variable``.
    """
    used = {id(tf_variable(variable)): gradient for variable, gradient in zip(variables, grads, strict=True)}
    for member in [member for member in members_of(optimizer) if member.built]:
        ids, scale = {id(tf_variable(variable)) for variable in member._trainable_variables}, member.loss_scale_factor
        own = {number: gradient for number, gradient in used.items() if number in ids}
        unscaled = [grad if scale is None or grad is None else grad / scale for grad in own.values()]
        used |= dict(zip(own, member._clip_gradients(unscaled), strict=True))
    return used


def slots_of(optimizer: Any, rules: Mapping[str, Moment]) -> Slots:
    """Find which variables of a built optimizer belong to which variable of the model.

    Raises:
        ValueError: If there is no rule for one of the optimizer's slots, or it does not tell what a slot belongs to.
    """
    slots: dict[str, dict[int, Any]] = {}
    twin = twin_of(optimizer)
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
        elif len(copy.shape):
            what = f"optimizer {type(optimizer).__name__}, variable {copy.name!r}: it belongs to no parameter"
            raise ValueError(f"{what}; an optimizer makes its slots by add_variable_from_reference")
    return slots


def twin_of(optimizer: Any) -> Any:
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
    outgoing: Outgoing = "zero",
) -> None:
    """Clear an optimizer's slots at every entry that :func:`neuroactivity.reset` writes.

    For custom training loops, after :func:`write`; :class:`ReGraMa` and :class:`ReDo` do it themselves. Each slot is
    set to the optimizer's initial value for the new parameter; the count of iterations stays, since healthy neurons
    share it, and so Adam's next steps are several times too long at these entries. The wrappers correct them.

    Args:
        optimizer: A built optimizer of ``keras.optimizers`` that trains the model: SGD, Adam, AdamW, Nadam, Adamax,
            Adagrad, Adadelta, RMSprop, Lion, Lamb, Muon or ScheduleFreeAdamW, or a ``MultiOptimizer`` of such.
        model: The model.
        masks: Masks by group name.
        layout: The neuron groups.
        moments: For any other optimizer: for each slot, by the name given to ``add_variable_from_reference``, a
            function from a parameter's value and the optimizer to the slot's initial value.
        outgoing: As given to :func:`neuroactivity.reset`.

    Raises:
        ValueError: If the optimizer or one of its slots is not known; nothing is written.
    """
    with tf.init_scope():
        found = members(optimizer, moments)
    named = {name: tf_variable(variable) for name, variable in variables_of(model).items()}
    assign_all(cleared_moments(found, named, parameters(model), masks, layout, outgoing=outgoing))


def cleared_moments(
    found: Sequence[Member],
    variables: Mapping[str, Any],
    new: Mapping[str, Any],
    masks: Mapping[str, Any],
    layout: na.Layout,
    *,
    outgoing: Outgoing,
) -> list[tuple[Any, Any]]:
    """Return pairs of an optimizer's ``tf.Variable`` and its cleared value; nothing is written.

    Args:
        found: The optimizers, from :func:`members`.
        variables: The parameters' ``tf.Variable`` by name.
        new: The parameters' new values.
        masks: Masks by group name.
        layout: The neuron groups.
        outgoing: What the reset makes of outgoing parameters.
    """
    pairs: list[tuple[Any, Any]] = []
    names, involved = written_params(masks, layout, outgoing=outgoing), written_params(masks, layout)
    for optimizer, rules, slots in found:
        for slot, by_id in slots.items():
            held = {name: tf_variable(by_id[id(variables[name])]) for name in names if id(variables[name]) in by_id}
            old = {name: tf.convert_to_tensor(held[name]) if name in held else None for name in involved}
            fresh = {name: tf.cast(rules[slot](new[name], optimizer), slot_.dtype) for name, slot_ in held.items()}
            cleared = na.reset_moments(old, masks, layout, fresh, outgoing=outgoing)
            pairs += [(variable, cleared[name]) for name, variable in held.items()]
    return pairs
