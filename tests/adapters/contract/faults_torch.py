"""What may go wrong in PyTorch."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn, optim

import neuroactivity as na
from neuroactivity_torch import ReGraMa, layout_of
from tests.adapters.contract.faults import Judged, judge
from tests.adapters.contract.faults_shared import Scenario, made, steps
from tests.adapters.contract.network import DEAD, Counts, Values, gradients
from tests.adapters.contract.torch_driver import TorchDriver

HEALTHY = gradients({}, 3)
trained = partial(made, TorchDriver)


def cast(dtype: torch.dtype) -> Callable[[nn.Module], None]:
    return lambda model: model.to(dtype)


def adam(**options: Any) -> Callable[[Any], optim.Optimizer]:
    return lambda params: optim.Adam(params, lr=0.01, **options)


def then(change: Callable[[Any], None]) -> Callable[[Any], None]:
    """Take a step, change something, and take the step that finds dead neurons."""

    def act(side: Any) -> None:
        side.step(HEALTHY)
        change(side)
        side.step(gradients(DEAD))

    return act


def on_model(change: Callable[[nn.Module], Any]) -> Callable[[Any], None]:
    return then(lambda side: change(side.model))


def renewed(layer: str) -> Callable[[Any], None]:
    """Replace a layer's weight by an equal one."""

    def change(side: Any) -> None:
        module = side.model.get_submodule(layer)
        module.weight = nn.Parameter(module.weight.detach().clone())

    return change


def renewed_and_held(side: Any) -> None:
    old = side.model.first.weight
    renewed("first")(side)
    held = side.optimizer.param_groups[0]["params"]
    held[[parameter is old for parameter in held].index(True)] = side.model.first.weight


def reassigned(side: Any) -> None:
    state = {name: value.clone() for name, value in side.model.state_dict().items()}
    side.model.load_state_dict(state, assign=True)


def resumed_optimizer(side: Any) -> None:
    side.optimizer.load_state_dict(copy.deepcopy(side.optimizer.state_dict()))


def scaled_step(side: Any, grads: Values) -> None:
    """Take a step as gradient scaling does."""
    if not hasattr(side, "scaler"):
        side.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        side.scaler.scale(torch.ones(()))
    side.give({name: 1024 * value for name, value in grads.items()})
    side.scaler.step(side.optimizer)
    side.scaler.update(1024.0)


def scaled(*grads: Values) -> Callable[[Any], None]:
    def act(side: Any) -> None:
        for each in grads:
            scaled_step(side, each)

    return act


def accumulated(side: Any) -> None:
    side.give(gradients(DEAD, 1))
    one = {name: parameter.grad for name, parameter in side.model.named_parameters()}
    side.give(gradients(DEAD, 2))
    for name, parameter in side.model.named_parameters():
        parameter.grad += one[name]
    side.optimizer.step()


def strided(model: nn.Module) -> None:
    """Keep weights in memory in other orders than the first axis first, and with gaps."""
    model.first.weight = nn.Parameter(model.first.weight.detach().t().contiguous().t())
    gaps = torch.zeros(12, 14)[::2, ::2]
    model.value.weight = nn.Parameter(gaps.copy_(model.value.weight.detach()))


def expanded(model: nn.Module) -> None:
    model.value.bias = nn.Parameter(torch.zeros(1).expand(6))


def shared_memory(model: nn.Module) -> None:
    model.gate.weight = nn.Parameter(model.value.weight.data)


def tied(model: nn.Module) -> None:
    model.gate.weight = model.value.weight


def spare(model: nn.Module) -> None:
    model.spare = nn.Linear(3, 3)


def two_wrappers() -> Judged:
    def make(method):
        side = trained()(method)
        if method:
            ReGraMa(side.model, side.optimizer, layout=side.wrapper.layout)
        return side

    return judge(make, steps(gradients()))


NAN = {name: np.full_like(value, np.nan) for name, value in gradients().items()}
INF_IN_ONE = gradients() | {"out/bias": np.full(2, np.inf, "float32")}

SCENARIOS: dict[str, Scenario] = {
    "float16": lambda: judge(trained(prepare=cast(torch.float16)), steps(gradients()), rounding=2**-11),
    "bfloat16": lambda: judge(trained(prepare=cast(torch.bfloat16)), steps(gradients()), rounding=2**-8),
    "float64": lambda: judge(trained(prepare=cast(torch.float64)), steps(gradients())),
    "cast to double later": lambda: judge(trained(), on_model(lambda model: model.double())),
    "cast to bfloat16 later": lambda: judge(trained(), on_model(lambda model: model.bfloat16()), rounding=2**-8),
    "cast later, adam": lambda: judge(trained(optimizer="adam"), on_model(lambda model: model.bfloat16()), rounding=2**-8),
    "cast later, snapshot": lambda: judge(trained(initializer="snapshot"), on_model(lambda model: model.double()), rounding=9),
    "to meta later": lambda: judge(trained(), on_model(lambda model: model.to("meta"))),
    "meta": lambda: judge(trained(prepare=cast("meta")), steps(gradients())),
    "frozen group": lambda: judge(trained(prepare=lambda m: m.first.requires_grad_(False)), steps(gradients())),
    "frozen reader": lambda: judge(trained(prepare=lambda m: m.value.requires_grad_(False)), steps(gradients())),
    "frozen later": lambda: judge(trained(), on_model(lambda model: model.value.requires_grad_(False))),
    "unused": lambda: judge(trained(prepare=spare), steps(gradients())),
    "replaced": lambda: judge(trained(), then(renewed("first"))),
    "replaced reader": lambda: judge(trained(), then(renewed("value"))),
    "replaced and held": lambda: judge(trained(), then(renewed_and_held)),
    "load_state_dict(assign=True)": lambda: judge(trained(), then(reassigned)),
    "optimizer state loaded": lambda: judge(trained(optimizer="adam"), then(resumed_optimizer), moments=True),
    "added": lambda: judge(trained(), on_model(spare)),
    "scaler": lambda: judge(trained(), scaled(HEALTHY, gradients())),
    "scaler skips": lambda: judge(trained(every=2), scaled(HEALTHY, INF_IN_ONE, gradients())),
    "scaler skips the due step": lambda: judge(trained(every=2), scaled(HEALTHY, INF_IN_ONE, gradients())),
    "fused": lambda: judge(trained(optimizer=adam(fused=True)), steps(HEALTHY, gradients()), moments=True),
    "fused scaler": lambda: judge(trained(optimizer=adam(fused=True)), scaled(HEALTHY, gradients()), moments=True),
    "fused scaler skips": lambda: judge(
        trained(optimizer=adam(fused=True), every=2), scaled(HEALTHY, INF_IN_ONE, gradients()), moments=True
    ),
    "capturable": lambda: judge(trained(optimizer=adam(capturable=True)), steps(HEALTHY, gradients()), moments=True),
    "foreach": lambda: judge(trained(optimizer=adam(foreach=True)), steps(HEALTHY, gradients()), moments=True),
    "accumulation": lambda: judge(trained(), accumulated),
    "strided": lambda: judge(trained(prepare=strided), steps(gradients())),
    "strided adam": lambda: judge(trained(prepare=strided, optimizer="adam"), steps(HEALTHY, gradients()), moments=True),
    "expanded": lambda: judge(trained(prepare=expanded, initial=None), lambda side: None),
    "shared memory": lambda: judge(trained(prepare=shared_memory), lambda side: None),
    "tied": lambda: judge(trained(prepare=tied), lambda side: None),
    "two wrappers": two_wrappers,
}
