"""Faults in PyTorch."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from neuroactivity_torch import ReGraMa, layout_of
from tests.adapters.contract import faults_torch_errors
from tests.adapters.contract.faults_judged import compare, judge
from tests.adapters.contract.faults_shared import HEALTHY, INFINITE, Scenario, made, shared, steps, then
from tests.adapters.contract.network import Values, gradients
from tests.adapters.contract.torch_driver import TorchDriver

SCALE = 1024.0
make = partial(made, TorchDriver)


def adam(**options: Any) -> Callable[[Any], optim.Optimizer]:
    return lambda params: optim.Adam(params, lr=0.01, **options)


def prepared(change: Callable[[nn.Module], Any]) -> str:
    """Change the model before anything is attached to its optimizer."""
    return judge(make(prepare=change), steps(gradients()))


def in_dtype(dtype: torch.dtype, rounding: float = 0.0) -> str:
    return judge(make(prepare=lambda model: model.to(dtype)), steps(gradients()), rounding=rounding)


def add_layer(model: nn.Module) -> None:
    torch.manual_seed(0)
    model.spare = nn.Linear(3, 3)


def add_and_train(side: Any) -> None:
    add_layer(side.model)
    side.optimizer.add_param_group({"params": side.model.spare.parameters()})


def stride(model: nn.Module) -> None:
    """Keep weights in memory with their axes in another order, and with gaps."""
    model.first.weight = nn.Parameter(model.first.weight.detach().t().contiguous().t())
    model.value.weight = nn.Parameter(torch.zeros(12, 14)[::2, ::2].copy_(model.value.weight.detach()))


def expand(model: nn.Module) -> None:
    model.value.bias = nn.Parameter(torch.zeros(1).expand(6))


def share_memory(model: nn.Module) -> None:
    model.gate.weight = nn.Parameter(model.value.weight.data)


def tie(model: nn.Module) -> None:
    model.gate.weight = model.value.weight


def quantise(model: nn.Module) -> None:
    model.value.weight = nn.Parameter(model.value.weight.to(torch.int8), requires_grad=False)


def replace(side: Any) -> None:
    side.model.first.weight = nn.Parameter(side.model.first.weight.detach().clone())


def replace_and_hold(side: Any) -> None:
    held, old = side.optimizer.param_groups[0]["params"], side.model.first.weight
    replace(side)
    held[[parameter is old for parameter in held].index(True)] = side.model.first.weight


def resize(side: Any) -> None:
    torch.manual_seed(0)
    side.model.first = nn.Linear(5, 9)


def move(side: Any) -> None:
    """As a model is moved to a device: the values of the same parameters lie in other memory."""
    for parameter in side.model.parameters():
        parameter.data = parameter.data.clone()


def load_weights(side: Any, **how: Any) -> None:
    side.model.load_state_dict({name: value.clone() for name, value in side.model.state_dict().items()}, **how)


def load_optimizer(side: Any) -> None:
    side.optimizer.load_state_dict(copy.deepcopy(side.optimizer.state_dict()))


def by_scaler(*grads: Values) -> Callable[[Any], None]:
    """Take steps with these gradients, scaled, as a scaler takes them."""

    def act(side: Any) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
        scaler.scale(torch.ones(()))
        for each in grads:
            side.give({name: SCALE * value for name, value in each.items()})
            scaler.step(side.optimizer)
            scaler.update(SCALE)

    return act


def accumulate(side: Any) -> None:
    side.give({name: one + gradients()[name] for name, one in gradients(seed=1).items()})
    side.optimizer.step()


def in_backward(side: Any) -> None:
    """Each parameter's own optimizer steps as soon as there is its gradient, and clears it."""
    of, native = {each.param_groups[0]["params"][0]: each for each in side.optimizer}, side.native(gradients())

    def step(parameter: Tensor) -> None:
        of[parameter].step()
        of[parameter].zero_grad()

    for parameter in of:
        parameter.register_post_accumulate_grad_hook(step)
    sum((parameter * native[name]).sum() for name, parameter in side.model.named_parameters()).backward()


def attach(model: nn.Module, *inputs: Tensor, **options: Any) -> ReGraMa:
    """Measure a model at every step of SGD."""
    options = {"example_inputs": inputs, "every": 1, "tau": 0.0, **options}
    return ReGraMa(model, optim.SGD(model.parameters(), lr=0.1), **options)


def small(first: nn.Module, width: int, outputs: int = 2) -> nn.Sequential:
    """A network with a layer in front of a hidden one whose neuron 1 is dead."""
    torch.manual_seed(0)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(width, 6), nn.ReLU(), nn.Linear(6, outputs))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
        model[2].weight[1], model[2].bias[1] = 0.0, -1.0
    return model


def trained(model: nn.Module, x: Tensor) -> str:
    """Take a step: the dead neuron is reset, and of the first layer nothing."""
    regrama = attach(model, x)
    before = model[0].weight.detach().clone()
    model(x).square().sum().backward()
    regrama.optimizer.step()
    assert [group.reset for group in regrama.last_report.groups] == [0, 1, 0]
    assert (model[4].weight[:, 1] == 0).all()
    torch.testing.assert_close(model[0].weight.detach(), before - 0.1 * model[0].weight.grad.to_dense())
    return "right"


def sparse_moments() -> str:
    """The first step tells, though no measurement is due for long."""
    model = small(nn.Embedding(9, 4, sparse=True), 4)
    x, optimizer = torch.arange(32).remainder(9), optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    regrama = ReGraMa(model, optimizer, example_inputs=x, every=1000)
    model(x).square().sum().backward()
    with pytest.raises(ValueError, match=r"momentum_buffer.* of parameter '0\.weight': it is sparse"):
        optimizer.step()
    assert regrama.resets == 0
    return "refused at the step"


def of_one_neuron() -> str:
    """What lies behind a single neuron cannot be told from it: it is never reset, and said to be so."""
    model, x = small(nn.Linear(5, 1), 1), torch.rand(8, 5)
    assert "a single neuron" in layout_of(model, x)["0"].reason
    return trained(model, x).replace("right", "left alone")


def of_no_neurons() -> str:
    with pytest.warns(UserWarning, match="zero-element"):
        model = nn.Sequential(nn.Linear(5, 0), nn.ReLU(), nn.Linear(0, 2))
    return refused(lambda: attach(model, torch.randn(8, 5)))


def refused(action: Callable[[], Any]) -> str:
    try:
        action()
    except ValueError:
        return "refused"
    return "accepted"


def complex_weights() -> str:
    model = nn.Sequential(nn.Linear(5, 4, dtype=torch.complex64), nn.Linear(4, 2, dtype=torch.complex64))
    return refused(lambda: attach(model, torch.randn(8, 5, dtype=torch.complex64)))


def resized() -> str:
    """A layer of another size that the optimizer does not hold."""
    side = make()("regrama")
    side.model.first = nn.Linear(5, 9)
    for layer in ("value", "gate"):
        side.model.get_submodule(layer).weight = nn.Parameter(torch.zeros(6, 9))
    before = side.params()
    native = side.native(gradients())
    for name, parameter in side.model.named_parameters():
        parameter.grad = native[name] if native[name].shape == parameter.shape else torch.ones_like(parameter)
    with pytest.warns(UserWarning, match="replaced, and not in the optimizer: first.weight"):
        side.optimizer.step()
    compare(side.params(), before)
    assert side.report().absent == ("first", "value", "gate")
    return "left alone"


def fused() -> str:
    for act in (steps(HEALTHY, gradients()), by_scaler(HEALTHY, gradients())):
        outcome = judge(make(optimizer=adam(fused=True)), act, moments=True)
    return outcome


def changed(change: Callable[[Any], None], **options: Any) -> str:
    return judge(make(**options), then(change))


SCENARIOS: Mapping[str, Scenario] = {
    **shared(TorchDriver),
    **faults_torch_errors.SCENARIOS,
    "sparse gradients": lambda: trained(small(nn.Embedding(9, 4, sparse=True), 4), torch.arange(32).remainder(9)),
    "sparse moments": sparse_moments,
    "float16": lambda: in_dtype(torch.float16, 2**-11),
    "bfloat16": lambda: in_dtype(torch.bfloat16, 2**-8),
    "float64": lambda: in_dtype(torch.float64),
    "one neuron": of_one_neuron,
    "no neurons": of_no_neurons,
    "unused parameter": lambda: prepared(add_layer),
    "tied parameter": lambda: prepared(tie),
    "strided": lambda: judge(make(prepare=stride, optimizer="adam"), steps(HEALTHY, gradients()), moments=True),
    "expanded": lambda: prepared(expand),
    "shared memory": lambda: prepared(share_memory),
    "without values": lambda: prepared(lambda model: model.to("meta")),
    "quantised": lambda: prepared(quantise),
    "complex": complex_weights,
    "frozen": lambda: prepared(lambda model: model.first.requires_grad_(False)),
    "frozen reader": lambda: prepared(lambda model: model.value.requires_grad_(False)),
    "frozen later": lambda: changed(lambda side: side.model.value.requires_grad_(False)),
    "replaced": lambda: changed(replace),
    "replaced and held": lambda: changed(replace_and_hold),
    "resized": resized,
    "moved": lambda: judge(make(optimizer="adam"), then(move), moments=True),
    "added": lambda: changed(add_and_train),
    "cast": lambda: judge(make(), then(lambda side: side.model.bfloat16()), rounding=2**-8),
    "weights loaded": lambda: changed(load_weights),
    "weights assigned": lambda: changed(partial(load_weights, assign=True)),
    "optimizer state loaded": lambda: judge(make(optimizer="adam"), then(load_optimizer), moments=True),
    "factored moments": lambda: judge(make(optimizer=optim.Adafactor), steps(gradients())),
    "loss scale": lambda: judge(make(), by_scaler(HEALTHY, gradients())),
    "skipped outside": lambda: judge(make(every=2), by_scaler(HEALTHY, INFINITE, gradients())),
    "skipped inside": lambda: judge(
        make(optimizer=adam(fused=True), every=2), by_scaler(HEALTHY, INFINITE, gradients()), moments=True
    ),
    "fused": fused,
    "accumulation outside": lambda: judge(make(), accumulate),
    "step in the backward pass": lambda: judge(
        make(optimizer=lambda params: [optim.SGD([parameter], lr=0.0) for parameter in params]), in_backward
    ),
}
