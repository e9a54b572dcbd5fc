"""What an optimizer's moments start with, and how to clear them at the entries that a reset writes.

State is looked up by the identity of the parameter, never by its position in a list. Each optimizer's start values are
listed here; an optimizer that is not listed is refused, not guessed.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

import neuroactivity as na
from neuroactivity.arrays import check_like
from neuroactivity.resets import Outgoing, check_masks
from neuroactivity.wrapping import Rows, written_rows
from neuroactivity_torch.devices import own_part, unwrapped
from neuroactivity_torch.rows import Entries, locate, overwrite_entries
from neuroactivity_torch.twins import first_state

Moment: TypeAlias = Callable[[Tensor, Mapping[str, Any]], Tensor]
"""From rows of a parameter and the options of its parameter group to what the optimizer starts with for them."""


def _zero(parameter: Tensor, options: Mapping[str, Any]) -> Tensor:
    return torch.zeros_like(parameter)


def _parameter(parameter: Tensor, options: Mapping[str, Any]) -> Tensor:
    return parameter


def _filled(name: str, parameter: Tensor, options: Mapping[str, Any]) -> Tensor:
    return torch.full_like(parameter, float(options[name]))


_ADAM: dict[str, Moment] = {"exp_avg": _zero, "exp_avg_sq": _zero, "max_exp_avg_sq": _zero}
_KNOWN: dict[type[Optimizer], dict[str, Moment]] = {
    optim.SGD: {"momentum_buffer": _zero},
    optim.Adam: _ADAM,
    optim.AdamW: _ADAM,
    optim.NAdam: {"exp_avg": _zero, "exp_avg_sq": _zero},
    optim.RAdam: {"exp_avg": _zero, "exp_avg_sq": _zero},
    optim.Adamax: {"exp_avg": _zero, "exp_inf": _zero},
    optim.Adagrad: {"sum": partial(_filled, "initial_accumulator_value")},
    optim.Adadelta: {"square_avg": _zero, "acc_delta": _zero},
    optim.RMSprop: {"square_avg": _zero, "momentum_buffer": _zero, "grad_avg": _zero},
    optim.Rprop: {"prev": _zero, "step_size": partial(_filled, "lr")},
    optim.ASGD: {"ax": _parameter},  # a running average of the parameter; torch starts it at zero and copies at once
}
if hasattr(optim, "Muon"):
    _KNOWN[optim.Muon] = {"momentum_buffer": _zero}
_SLOW: dict[str, Moment] = dict.fromkeys(("lookahead_slow_buff", "slow_param", "slow_params"), _parameter)  # Lookahead
_SCALARS = {"step", "mu_product", "eta", "mu"}  # one number for the whole parameter: healthy neurons need it, it stays


@dataclass(frozen=True)
class Stepper:
    """An optimizer whose steps are counted, with what its moments start with.

    Attributes:
        links: The optimizer, in front of it the wrappers that a host puts around it.
        rules: By state key what its moments start with.
    """

    links: tuple[Any, ...]
    rules: Mapping[str, Moment]

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer inside all wrappers."""
        inner: Optimizer = self.links[-1]
        return inner

    @property
    def alters_gradients(self) -> bool:
        """Whether a step may leave other gradients behind than those that it used, as SGD's does with Nesterov."""
        known = known_class(type(self.optimizer))
        several = [group for group in self.optimizer.param_groups if group.get("foreach") is not False]
        nesterov = any(group.get("nesterov") and not group.get("fused") for group in several)
        return known is None or (known is optim.SGD and nesterov)

    def holds(self) -> dict[int, Mapping[str, Any]]:
        """The parameters that it holds, by identity, with the options of their parameter groups."""
        return {id(held): group for group in self.optimizer.param_groups for held in group["params"]}

    def state_of(self, parameter: nn.Parameter) -> Iterator[tuple[str, Any]]:
        """Yield what it and its wrappers keep for a parameter, with the keys."""
        states = {id(state): state for link in self.links if isinstance(state := getattr(link, "state", None), Mapping)}
        for state in states.values():
            yield from state.get(parameter, {}).items()

    def check_state(self, params: Mapping[str, nn.Parameter], names: Collection[str]) -> None:
        """Raise if the state of a parameter holds a tensor that has no rule.

        Raises:
            ValueError: With the optimizer, the state's key and the parameter.
        """
        for name in names:
            for key, value in self.state_of(params[name]):
                self.check_entry(name, params[name], key, value)

    def check_first_state(self, params: Mapping[str, nn.Parameter], names: Sequence[str]) -> None:
        """Raise likewise before there is a state: rules are tried, and an optimizer not known here steps on a copy.

        Raises:
            ValueError: As for :meth:`check_state`, or if a rule returns no start values for the rows that it gets.
        """
        name = max(names, key=lambda name: params[name].ndim)
        options, rows = self.holds()[id(params[name])], own_part(params[name].detach())[:1].clone()
        for key, start in self.rules.items():
            begun: Any = start(rows, options)
            found = begun.to(rows.dtype) if isinstance(begun, Tensor) else begun
            check_like(found, rows, f"moments[{key!r}] of parameter {name!r}")
        if known_class(type(self.optimizer)) is None:
            for key, value in first_state(self.optimizer, params[name], options).items():
                self.check_entry(name, params[name], key, value)

    def check_entry(self, name: str, parameter: nn.Parameter, key: str, value: Any) -> None:
        """Raise if one tensor of a parameter's state has no rule."""
        where = f"optimizer {type(self.optimizer).__name__}, state {key!r} of parameter {name!r}"
        if not isinstance(value, Tensor):
            if any(isinstance(leaf, Tensor) for leaf in tree_leaves(value)):
                raise ValueError(f"{where}: expected one tensor, got several, which cannot be reset entry by entry")
            return
        if key in _SCALARS and value.numel() == 1:
            return
        if value.layout != parameter.layout:
            raise ValueError(f"{where}: it is sparse and cannot be reset; mark the groups of it resettable=False")
        if key not in self.rules or value.shape != parameter.shape:
            expected = f"one of {', '.join(self.rules)}, of shape {tuple(parameter.shape)}"
            raise ValueError(f"{where}: expected {expected}, got {key!r} of shape {tuple(value.shape)}")


def steppers(optimizers: Any, moments: Mapping[str, Moment] | None = None, *, writes: bool = True) -> list[Stepper]:
    """Return the optimizers that train a model, without the wrappers of hosts around them.

    Args:
        optimizers: One, or a list of several.
        moments: The start values for optimizers that are not known here, by state key.
        writes: Whether their state is to be reset.

    Raises:
        ValueError: If something is no optimizer, or is not known and ``moments`` is not given.
    """
    given = list(optimizers) if isinstance(optimizers, list | tuple) else [optimizers]
    if not given:
        raise ValueError("optimizer: expected an optimizer or a list of several, got an empty list")
    chains = [_unwrap(optimizer) for optimizer in given]
    if len({id(links[-1]) for links in chains}) < len(chains):
        raise ValueError("optimizer: expected each optimizer once, got one twice")
    return [Stepper(links, _rules(links, moments) if writes else {}) for links in chains]


_INNER = ("optimizer", "_optimizer", "_optim", "_base_optimizer")
"""Where accelerate, Lightning, Tianshou and timm's Lookahead keep the optimizer that they wrap."""


def _unwrap(optimizer: Any) -> tuple[Any, ...]:
    """Follow wrappers to the optimizer inside."""
    links = [optimizer]
    while len(links) < 8 and known_class(type(links[-1])) is None:
        inner = [getattr(links[-1], name, None) for name in _INNER]
        inner = [link for link in inner if hasattr(link, "step") and all(link is not seen for seen in links)]
        if not inner:
            break
        links.append(inner[0])
    if not isinstance(links[-1], Optimizer) or not hasattr(links[-1], "_optimizer_step_post_hooks"):
        raise ValueError(
            f"optimizer: expected an optimizer of torch.optim, got {type(optimizer).__name__}; attach to the optimizer "
            "inside it (often optimizer.optimizer)"
        )
    return tuple(links)


def known_class(kind: type) -> type[Optimizer] | None:
    """Return the known class of an optimizer: its own, or a parent's whose ``step`` it has."""
    parents = [known for known in _KNOWN if issubclass(kind, known)]
    parent = max(parents, key=lambda known: len(known.__mro__), default=None)
    if (
        parent is None
        or not issubclass(kind, Optimizer)
        or inspect.unwrap(kind.step) is not inspect.unwrap(parent.step)
    ):
        return None
    return parent


def _rules(links: Sequence[Any], moments: Mapping[str, Moment] | None) -> Mapping[str, Moment]:
    """Return what the moments of an optimizer inside wrappers start with, by its own or the user's rules."""
    known, name = known_class(type(links[-1])), type(links[-1]).__name__
    if "adafactor" in name.lower():
        raise ValueError(f"optimizer {name} keeps factored moments, which mix neurons and cannot be reset one by one")
    if known is None and moments is None:
        raise ValueError(
            f"optimizer {name} is not known, so its state cannot be reset; known are torch.optim's "
            f"{', '.join(sorted(cls.__name__ for cls in _KNOWN))}. For another one give "
            'moments={"state_key": lambda parameter, options: start, ...}'
        )
    for key, start in [(key, start) for key, start in (moments or {}).items() if not callable(start)]:
        raise ValueError(f"moments[{key!r}]: expected a function of rows and options, got {start!r}")
    return {**(_KNOWN[known] if known else {}), **(moments or {}), **(_SLOW if len(links) > 1 else {})}


def clear_moments(
    optimizer: Optimizer,
    model: nn.Module,
    masks: Mapping[str, Tensor],
    layout: na.Layout,
    *,
    moments: Mapping[str, Moment] | None = None,
    outgoing: Outgoing = "zero",
) -> None:
    """Clear an optimizer's moments at every entry that :func:`neuroactivity.reset` writes.

    For custom training loops: call it after :func:`write`. (:class:`ReGraMa` and :class:`ReDo` do it themselves.) Each
    moment becomes what the optimizer starts with for the new parameter. Step counts stay, since healthy neurons share
    them: Adam's next steps at these entries are several times too long, as in published codes. The wrappers correct
    them (``clock="own"``).

    Args:
        optimizer: The model's optimizer, of ``torch.optim``: SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta,
            RMSprop, Rprop or ASGD.
        model: The model.
        masks: Masks by group name.
        layout: The neuron groups.
        moments: For any other optimizer: by state key, a function from rows of a parameter, the first axis of which
            counts them, and its parameter group's options to their start values.
        outgoing: As given to :func:`neuroactivity.reset`.

    Raises:
        LayoutError: If masks do not fit the layout, as for :func:`neuroactivity.reset`.
        ValueError: If the optimizer, or an entry of its state, is not known; nothing is written.
    """
    params = dict(unwrapped(model).named_parameters())
    check_masks(params, masks, layout)
    shapes = {name: tuple(parameter.shape) for name, parameter in params.items()}
    neurons = {name: mask.flatten().nonzero().flatten().tolist() for name, mask in masks.items()}
    located = locate(written_rows(neurons, layout, shapes, outgoing=outgoing), params)
    with torch.no_grad():
        new = [(each, where, where.read(params[each.view.param])) for each, where in located]
        overwrite_entries(cleared_moments(steppers(optimizer, moments), params, new))


def cleared_moments(
    trainers: Sequence[Stepper], params: Mapping[str, nn.Parameter], new: Sequence[tuple[Rows, Entries, Tensor | float]]
) -> list[tuple[Tensor, Entries, Tensor | float]]:
    """Build the cleared moments without writing them.

    Args:
        trainers: The optimizers.
        params: The model's parameters, which are the keys of the optimizers' state.
        new: The rows that a reset writes, where they lie, and their new values.

    Returns:
        State tensors, with the entries to write and their values.

    Raises:
        ValueError: If an entry of the state is not known.
    """
    written = list(dict.fromkeys(rows.view.param for rows, _, _ in new))
    writes: list[tuple[Tensor, Entries, Tensor | float]] = []
    for trainer in trainers:
        options, states = trainer.holds(), {name: dict(trainer.state_of(params[name])) for name in written}
        for name, state in states.items():
            for key, value in state.items():
                trainer.check_entry(name, params[name], key, value)
        for key, start in trainer.rules.items():
            for rows, entries, values in new:
                name = rows.view.param
                old = states[name].get(key)
                if old is not None and start is _zero:
                    writes.append((old, entries, 0.0))
                elif old is not None:
                    given = values if isinstance(values, Tensor) else entries.zeros(params[name])
                    begun = start(given, options.get(id(params[name]), {})).to(old.dtype)
                    check_like(begun, given.to(old.dtype), f"moments[{key!r}] of parameter {name!r}")
                    writes.append((old, entries, begun))
    return writes
