"""A reset neuron's own clock: where a reset writes, the optimizer goes on as one that was made at that moment.

No update is written here a second time. After each step a twin of the optimizer, of its class and with its options,
steps on the young entries alone, with step counts that began at their reset; its results replace the optimizer's. After
:data:`neuroactivity.wrapping.clock.YOUNG` steps the moments are handed over, and the run's count does for them too.
"""

import inspect
import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.wrapping.clock import YOUNG, handing_over_factor
from neuroactivity_torch.devices import put_own, take_own
from neuroactivity_torch.optimizers import Stepper, known_class
from neuroactivity_torch.parameters import dense_gradient
from neuroactivity_torch.twins import twin_of

_CORRECTED: dict[type[Optimizer], dict[str, int]] = {
    optim.Adam: {"exp_avg": 0, "exp_avg_sq": 1, "max_exp_avg_sq": 1},
    optim.AdamW: {"exp_avg": 0, "exp_avg_sq": 1, "max_exp_avg_sq": 1},
    optim.NAdam: {"exp_avg_sq": 1},  # its first moment is corrected by a product that has vanished by then
    optim.RAdam: {"exp_avg": 0, "exp_avg_sq": 1},
    optim.Adamax: {"exp_avg": 0},
}
"""Optimizers whose step count corrects a bias: the moments that it corrects, and whose of the betas their decay is."""


@dataclass(eq=False)
class Young:
    """Entries of a parameter that one reset wrote.

    Attributes:
        parameter: The parameter.
        index: Where they are in it, were it flat.
        age: Steps since.
        numbers: The step count, and what else the twin has one number of.
    """

    parameter: nn.Parameter
    index: Tensor
    age: int = 0
    numbers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._shape = self.parameter.shape

    @property
    def is_there(self) -> bool:
        """Whether the parameter has the shape that it had."""
        return self.parameter.shape == self._shape


@dataclass(eq=False)
class _Before:
    """Young entries before a step: their values and moments."""

    young: Young
    values: Tensor
    moments: dict[str, Tensor]


class Clock:
    """Keeps the young entries of a model's parameters, and corrects the steps that they take."""

    def __init__(self, young: dict[str, list[Young]] | None = None) -> None:
        self._young = young or {}
        self._before: dict[int, list[_Before]] = {}

    def __bool__(self) -> bool:
        return bool(self._young)

    def started(self, written: Mapping[str, tuple[nn.Parameter, Tensor]]) -> "Clock":
        """Return a clock that starts now for these entries of parameters; where it ran already, it starts again."""
        young = dict(self._young)
        for name, (parameter, index) in written.items():
            before = [each for each in young.get(name, ()) if each.parameter is parameter]
            older = [replace(each, index=each.index[~torch.isin(each.index, index)]) for each in before]
            young[name] = [*older, Young(parameter, index)]
        clock = Clock(young)
        clock._forget()
        return clock

    def keep(self, held: Collection[int]) -> None:
        """Forget all parameters but these, given by identity."""
        self._young = {name: ages for name, ages in self._young.items() if id(ages[0].parameter) in held}

    @torch.no_grad()
    def before_step(self, stepper: Stepper) -> None:
        """Keep what the optimizer's step will change."""
        self._forget()
        held, kept = stepper.holds(), []
        for young in self._all():
            if id(young.parameter) not in held:
                continue
            young.index = young.index.to(young.parameter.device)
            moments = _moments(stepper.optimizer, young.parameter)
            if not moments or stepper.optimizer.state[young.parameter].keys() - moments.keys() - young.numbers.keys():
                young.age = 0  # there is no state yet, not any more, or that of another optimizer: all entries are new
            taken = {key: take_own(value, young.index) for key, value in moments.items()}
            kept.append(_Before(young, take_own(young.parameter.detach(), young.index), taken))
        self._before[id(stepper.optimizer)] = kept

    @torch.no_grad()
    def after_step(self, stepper: Stepper) -> None:
        """Put the twin's step in the place of the one that the optimizer took."""
        kept = self._before.pop(id(stepper.optimizer), [])
        kept = [before for before in kept if before.young.parameter.grad is not None]
        if not kept:
            return
        twin, held = twin_of(stepper.optimizer), stepper.holds()
        groups: dict[int, dict[str, Any]] = {}
        for before in kept:
            young, group = before.young, held[id(before.young.parameter)]
            gradient = dense_gradient(young.parameter)
            assert gradient is not None
            before.values.grad = take_own(gradient, young.index)
            own = groups.setdefault(id(group), {**group, "params": [], "differentiable": False})
            own["params"].append(before.values)
            if young.age:
                like = stepper.optimizer.state[young.parameter]
                twin.state[before.values] = {**_numbers(young.numbers, like), **before.moments}
        twin.param_groups = list(groups.values())
        inspect.unwrap(type(twin).step)(twin)
        for before in kept:
            self._take_over(before, twin.state[before.values], stepper, held[id(before.young.parameter)])
        self._forget()

    def _take_over(self, before: _Before, own: Mapping[str, Any], stepper: Stepper, group: Mapping[str, Any]) -> None:
        """Write what the twin has made of young entries where the optimizer keeps it."""
        young, state = before.young, stepper.optimizer.state[before.young.parameter]
        put_own(young.parameter.detach(), young.index, before.values)
        young.age += 1
        moments = _moments(stepper.optimizer, young.parameter)
        young.numbers = {key: own[key] for key in state if key in own and key not in moments}
        for key in moments.keys() & own.keys():
            put_own(moments[key], young.index, own[key])
        if young.age >= YOUNG:
            _hand_over(young, stepper.optimizer, group)

    @torch.no_grad()
    def hand_over(self, stepper: Stepper) -> None:
        """Hand the moments of all young entries over to the run's clock, as they are now."""
        held = stepper.holds()
        for young in self._all():
            if id(young.parameter) in held:
                if young.age:
                    _hand_over(young, stepper.optimizer, held[id(young.parameter)])
                young.age = YOUNG
        self._forget()

    def state(self, params: Mapping[str, nn.Parameter]) -> dict[str, list[dict[str, Any]]]:
        """Copy the young entries of these parameters, as numbers and tensors, in their order."""
        return {
            name: [{"index": y.index.clone(), "age": y.age, "numbers": _floats(y.numbers)} for y in self._young[name]]
            for name, parameter in params.items()
            if name in self._young and self._young[name][0].parameter is parameter
        }

    def _all(self) -> Iterator[Young]:
        for ages in self._young.values():
            yield from ages

    def _forget(self) -> None:
        """Forget what is no longer young, has no entries left, or is of another shape now."""
        for name, ages in list(self._young.items()):
            self._young[name] = [each for each in ages if each.age < YOUNG and len(each.index) and each.is_there]
        self._young = {name: ages for name, ages in self._young.items() if ages}


def corrects_bias(stepper: Stepper) -> bool:
    """Whether an optimizer's step count corrects a bias of its moments."""
    return known_class(type(stepper.optimizer)) in _CORRECTED


def read_clock(state: Any, params: Mapping[str, nn.Parameter]) -> dict[str, list[Young]]:
    """Return the young entries that :meth:`Clock.state` returned.

    Raises:
        ValueError: If they are something else, or of other parameters than these.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"state: clock: expected young entries by parameter name, got {state!r}")
    young = {}
    for name, ages in state.items():
        if name not in params:
            raise ValueError(f"state: clock: {name!r} is no parameter of the model")
        if not isinstance(ages, list) or not ages or not all(_is_record(record, params[name]) for record in ages):
            raise ValueError(f"state: clock of parameter {name!r}: expected its young entries, their ages and counts")
        young[name] = [Young(params[name], r["index"].clone(), r["age"], dict(r["numbers"])) for r in ages]
    return young


def _is_record(record: Any, parameter: nn.Parameter) -> bool:
    """Whether this is what is saved of young entries."""
    if not isinstance(record, Mapping) or set(record) != {"index", "age", "numbers"}:
        return False
    index, age, numbers = record["index"], record["age"], record["numbers"]
    if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.ndim != 1 or not len(index):
        return False
    if not isinstance(numbers, Mapping) or not all(type(n) is float and 0 <= n < math.inf for n in numbers.values()):
        return False
    inside = int(index.min()) >= 0 and int(index.max()) < parameter.numel()
    counted = type(age) is int and 0 <= age < YOUNG and (age == 0 or numbers.get("step") == age)
    return inside and counted and len(set(index.tolist())) == len(index)


def warn_of_counts(steppers: Sequence[Stepper], params: Mapping[str, nn.Parameter]) -> None:
    """Name the optimizers that keep a step count of which it is not known what it does."""
    names = []
    for stepper in steppers:
        held = stepper.holds()
        counted = any("step" in group for group in held.values()) or any(
            type(value) in (int, float) or (isinstance(value, Tensor) and value.ndim == 0)
            for parameter in params.values()
            if id(parameter) in held
            for _, value in stepper.state_of(parameter)
        )
        if counted and known_class(type(stepper.optimizer)) is None:
            names.append(type(stepper.optimizer).__name__)
    if names:
        warnings.warn(
            f"optimizer {', '.join(names)} keeps a step count, and what that corrects is not known: reset neurons go "
            'by the clock of the run, as with clock="run"',
            na.ActivityWarning,
            stacklevel=3,
        )


def _hand_over(young: Young, optimizer: Optimizer, group: Mapping[str, Any]) -> None:
    """Make a parameter's young moments what they are to be under the run's step count."""
    moments, kind = _moments(optimizer, young.parameter), known_class(type(optimizer))
    count = float(optimizer.state[young.parameter]["step"])
    for key, place in _CORRECTED[kind].items() if kind is not None else ():
        if key in moments:
            factor = handing_over_factor(float(group["betas"][place]), count, float(young.age))
            put_own(moments[key], young.index, take_own(moments[key], young.index) * factor)


def _moments(optimizer: Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    state = optimizer.state.get(parameter, {})
    return {key: value for key, value in state.items() if _is_moment(value, parameter.shape)}


def _is_moment(value: Any, shape: torch.Size) -> bool:
    return isinstance(value, Tensor) and value.shape == shape


def _floats(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(number) for key, number in numbers.items()}


def _numbers(numbers: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Bring numbers that were saved into the form that the optimizer has them in."""
    tensors = {key for key, value in numbers.items() if type(value) is float and isinstance(like.get(key), Tensor)}
    return {key: torch.full_like(like[key], value) if key in tensors else value for key, value in numbers.items()}
