"""What an optimizer's moments start with, and how to clear them at the entries that a reset writes.

State is looked up by the identity of the parameter, never by its position in a list. Each optimizer's start values are
listed here; an optimizer that is not listed is refused, not guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.wrapping import written_params
from neuroactivity_torch.parameters import parameters

Moment: TypeAlias = Callable[[Tensor, Mapping[str, Any]], Tensor]
"""From a parameter and the options of its parameter group to what the optimizer starts with for it."""


def _zero(parameter: Tensor, options: Mapping[str, Any]) -> Tensor:
    return torch.zeros_like(parameter)


def _parameter(parameter: Tensor, options: Mapping[str, Any]) -> Tensor:
    return parameter


def _option(name: str) -> Moment:
    return lambda parameter, options: torch.full_like(parameter, float(options[name]))


_ADAM: dict[str, Moment] = {"exp_avg": _zero, "exp_avg_sq": _zero, "max_exp_avg_sq": _zero}
_KNOWN: dict[type[Optimizer], dict[str, Moment]] = {
    optim.SGD: {"momentum_buffer": _zero},
    optim.Adam: _ADAM,
    optim.AdamW: _ADAM,
    optim.NAdam: {"exp_avg": _zero, "exp_avg_sq": _zero},
    optim.RAdam: {"exp_avg": _zero, "exp_avg_sq": _zero},
    optim.Adamax: {"exp_avg": _zero, "exp_inf": _zero},
    optim.Adagrad: {"sum": _option("initial_accumulator_value")},
    optim.Adadelta: {"square_avg": _zero, "acc_delta": _zero},
    optim.RMSprop: {"square_avg": _zero, "momentum_buffer": _zero, "grad_avg": _zero},
    optim.Rprop: {"prev": _zero, "step_size": _option("lr")},
    optim.ASGD: {"ax": _parameter},  # a running average of the parameter; torch starts it at zero and copies at once
}
_SCALARS = {"step", "mu_product", "eta", "mu"}  # one number for the whole parameter: healthy neurons need it, it stays


def moments_of(optimizer: Optimizer, moments: Mapping[str, Moment] | None = None) -> Mapping[str, Moment]:
    """Return what an optimizer's moments start with.

    Args:
        optimizer: The optimizer.
        moments: The start values for an optimizer that is not known here, by state key.

    Raises:
        ValueError: If the optimizer is not known and ``moments`` is not given.
    """
    if moments is not None:
        return moments
    if type(optimizer) not in _KNOWN:
        raise ValueError(
            f"optimizer {type(optimizer).__name__} is not known, so its state cannot be reset; known are torch.optim's "
            f"{', '.join(sorted(cls.__name__ for cls in _KNOWN))}. For another one give "
            'moments={"state_key": lambda parameter, options: start, ...}'
        )
    return _KNOWN[type(optimizer)]


def clear_moments(
    optimizer: Optimizer,
    model: nn.Module,
    masks: Mapping[str, Tensor],
    layout: na.Layout,
    *,
    moments: Mapping[str, Moment] | None = None,
) -> None:
    """Clear an optimizer's moments at every entry that :func:`neuroactivity.reset` writes.

    For custom training loops: call it after :func:`write`. (:class:`ReGraMa` and :class:`ReDo` do it themselves.) Each
    moment becomes what the optimizer starts with for the new parameter; step counts stay, since healthy neurons share
    them.

    Args:
        optimizer: The model's optimizer, of ``torch.optim``: SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta,
            RMSprop, Rprop or ASGD.
        model: The model.
        masks: Masks by group name.
        layout: The neuron groups.
        moments: For any other optimizer: by state key, a function from a parameter and its parameter group's options to
            the start value.

    Raises:
        ValueError: If the optimizer, or an entry of its state, is not known; nothing is written.
    """
    params = dict(model.named_parameters())
    rules = moments_of(optimizer, moments)
    with torch.no_grad():
        for old, new in cleared_moments(optimizer, rules, params, parameters(model), masks, layout):
            old.copy_(new)


def cleared_moments(
    optimizer: Optimizer,
    rules: Mapping[str, Moment],
    params: Mapping[str, nn.Parameter],
    new: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    layout: na.Layout,
) -> Sequence[tuple[Tensor, Tensor]]:
    """Build the cleared moments without writing them.

    Args:
        optimizer: The optimizer.
        rules: What its moments start with.
        params: The model's parameters, which are the keys of the optimizer's state.
        new: The parameters' new values.
        masks: Masks by group name.
        layout: The neuron groups.

    Returns:
        Pairs of a state tensor and its new value.

    Raises:
        ValueError: If an entry of the state is not known.
    """
    options = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    written = written_params(masks, layout)
    for name in written:
        check_state(optimizer, name, params[name], rules)
    pairs: list[tuple[Tensor, Tensor]] = []
    for key, start in rules.items():
        old = {name: optimizer.state.get(params[name], {}).get(key) for name in written}
        held = {name: value for name, value in old.items() if value is not None}
        fresh = {name: start(new[name], options[id(params[name])]).to(value.dtype) for name, value in held.items()}
        cleared = na.reset_moments(old, masks, layout, fresh)
        pairs += [(value, cleared[name]) for name, value in held.items()]
    return pairs


def check_state(optimizer: Optimizer, name: str, parameter: Tensor, rules: Mapping[str, Moment]) -> None:
    """Raise if the state of a parameter holds a tensor that has no rule.

    Raises:
        ValueError: With the optimizer, the state's key and the parameter.
    """
    for key, value in optimizer.state.get(parameter, {}).items():
        if not isinstance(value, Tensor) or (key in _SCALARS and value.numel() == 1):
            continue
        if key not in rules or value.shape != parameter.shape:
            where = f"optimizer {type(optimizer).__name__}, state {key!r} of parameter {name!r}"
            expected = f"one of {', '.join(rules)}, of shape {tuple(parameter.shape)}"
            raise ValueError(f"{where}: expected {expected}, got {key!r} of shape {tuple(value.shape)}")
