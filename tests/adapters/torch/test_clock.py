"""A reset neuron's own clock: written entries take the steps of an optimizer with a step count for each entry."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

import neuroactivity as na
from neuroactivity.wrapping.clock import YOUNG
from neuroactivity_torch import ReGraMa
from tests.adapters.torch.clocks import LAYOUT, OPTIMIZERS, Run, young
from tests.adapters.torch.models import X, kill, mlp, step
from tests.adapters.torch.per_entry import B1, B2, LR, PerEntry

TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-6}
pytestmark = pytest.mark.filterwarnings("ignore:.*resets do not last")
PRODUCT = 1e-8
"""How exact NAdam is in PyTorch, which keeps a product in float32 whatever the dtype."""


def check(name, steps, *, every, dtype=torch.float64, **options):
    """Compare a run with the reference, and where no reset wrote with the run without resets, bit for bit."""
    make_optimizer, formula = OPTIMIZERS[name]
    run = Run(make_optimizer, every, dtype, **options)
    plain = Run(make_optimizer, dtype=dtype, dead=run.dead)
    reference = {name: PerEntry(formula, parameter) for name, parameter in run.params.items()}
    touched = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in run.params.items()}
    tolerance = max(TOLERANCES[dtype], PRODUCT if "NAdam" in name else 0.0)
    for number in range(steps):
        grads, lr = run.step(number)
        plain.step(number)
        written = run.written()
        for param, own in reference.items():
            own.step(grads[param], lr)
            own.reset(written[param], run.params[param].detach())
            touched[param] |= written[param]
            error = (run.params[param] - own.p)[own.t <= YOUNG].abs()
            assert error.numel() == 0 or error.max() <= tolerance
    for param, parameter in run.params.items():
        untouched, state = ~touched[param], run.optimizer.state[parameter]
        assert torch.equal(parameter[untouched], plain.params[param][untouched])
        for key, value in plain.optimizer.state[plain.params[param]].items():
            same = untouched if value.ndim else ...
            assert torch.equal(state[key][same], value[same])
    return touched


@pytest.mark.sampled(8)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_written_entries_take_the_steps_of_a_count_for_each_entry(name, dtype):
    touched = check(name, 69, every=20, dtype=dtype)
    assert all(touched[param].any() for param in ("0.weight", "2.weight", "4.weight"))


@pytest.mark.slow
@settings(max_examples=8)
@given(st.sampled_from(["Adam", "AMSGrad", "NAdam"]), st.integers(1, 9), st.integers(0, 5), st.integers(0, 2))
def test_however_often_entries_are_reset_the_last_time_counts(name, every, dead, protect):
    check(name, 14, every=every, dead=dead, protect=protect)


@pytest.mark.parametrize("name", ["Adam", "AMSGrad", "RAdam", "Adamax"])
def test_moments_that_are_handed_over_are_the_same_without_bias(name):
    """What the run's count makes of them is what their own count did."""
    make_optimizer, formula = OPTIMIZERS[name]
    run, born = Run(make_optimizer, 20, stop=20), 20
    reference = {name: PerEntry(formula, parameter) for name, parameter in run.params.items()}
    for number in range(born + YOUNG):
        grads, lr = run.step(number)
        for param, own in reference.items():
            own.step(grads[param], lr)
            if number == born - 1:
                own.reset(run.written()[param], run.params[param].detach())
    assert not run.resetter._clock
    for param, own in reference.items():
        state, close, end = run.optimizer.state[run.params[param]], {"rtol": 1e-10, "atol": 1e-12}, born + YOUNG
        assert (own.t == YOUNG).any() or param == "4.bias"
        torch.testing.assert_close(state["exp_avg"] / (1 - B1**end), own.m / (1 - B1**own.t), **close)
        if "exp_avg_sq" in state:
            torch.testing.assert_close(state["exp_avg_sq"] / (1 - B2**end), own.v / (1 - B2**own.t), **close)


def test_the_clock_of_the_run_is_that_of_published_codes():
    """Zero moments under the run's count: the first step is some three times the learning rate, and more later."""
    steps = {}
    for clock in ("own", "run"):
        run = Run(lambda p: optim.Adam(p, lr=LR), 100, clock=clock)
        for number in range(100):
            run.step(number)
        written, before = run.written()["0.weight"], run.params["0.weight"].detach().clone()
        _, lr = run.step(100)
        steps[clock] = ((run.params["0.weight"].detach() - before)[written].abs() / lr).max().item()
    assert steps["own"] == pytest.approx(1.0, abs=1e-3)
    assert steps["run"] == pytest.approx(0.1 / 0.001**0.5 * (1 - 0.999**101) ** 0.5, rel=0.1)


@pytest.mark.parametrize("kind", [optim.SGD, optim.RMSprop, optim.Adagrad, optim.Rprop, optim.Adadelta, optim.ASGD])
def test_an_optimizer_without_a_bias_correction_needs_no_clock(kind):
    runs = [Run(lambda p: kind(p, lr=LR), 3, clock=clock) for clock in ("own", "run")]
    for number in range(5):
        for run in runs:
            run.step(number)
            assert not run.resetter._clock
    assert runs[0].resetter.neurons_reset > 0
    assert all(map(torch.equal, *(list(run.params.values()) for run in runs)))


def test_a_step_that_is_skipped_makes_nobody_older():
    """Whatever the reason: no gradient, or gradient scaling that has called a fused step off."""
    runs = [Run(lambda p: optim.Adam(p, lr=LR, fused=True), 4) for _ in range(2)]
    for number in range(9):
        for run in runs:
            run.step(number)
        if number == 5:
            for parameter in runs[1].params.values():
                parameter.grad = torch.ones_like(parameter)
            runs[1].optimizer.found_inf = torch.tensor(1.0)
            runs[1].optimizer.step()
            del runs[1].optimizer.found_inf
    assert all(map(torch.equal, *(list(run.params.values()) for run in runs)))


def test_a_parameter_without_a_gradient_does_not_grow_older():
    run = young()
    for name, parameter in run.params.items():
        parameter.grad = None if name == "0.weight" else torch.ones_like(parameter)
    before = run.params["0.weight"].detach().clone()
    run.optimizer.step()
    assert torch.equal(run.params["0.weight"], before)
    ages = {name: [record["age"] for record in records] for name, records in run.resetter.state_dict()["clock"].items()}
    assert (ages["0.weight"], ages["0.bias"]) == ([5, 1], [6, 2])


def test_a_scaled_gradient_is_unscaled_once():
    runs = [Run(lambda p: optim.Adam(p, lr=LR, fused=True), 4, torch.float32) for _ in range(2)]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for number in range(9):
        runs[0].step(number)
        for name, gradient in runs[1].gradients(number).items():
            runs[1].params[name].grad = 1024.0 * gradient
        scaler.scale(torch.ones(()))
        scaler.step(runs[1].optimizer)
        scaler.update()
        runs[1].schedule.step()
    assert runs[1].resetter.resets == 2
    assert all(map(torch.equal, *(list(run.params.values()) for run in runs)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_a_compiled_step_is_corrected():
    runs = [Run(lambda p: optim.Adam(p, lr=LR), 3) for _ in range(2)]
    for run in runs:
        run.schedule.step = lambda: None
    runs[1].optimizer.step = torch.compile(runs[1].optimizer.step, backend="eager")
    for number in range(6):
        for run in runs:
            run.step(number)
    assert runs[1].resetter.resets == 2
    for one, other in zip(*(run.params.values() for run in runs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)  # compiled, counts are float32


def test_weights_that_are_clamped_between_steps_stay_clamped():
    run = young()
    with torch.no_grad():
        for parameter in run.params.values():
            parameter.clamp_(-0.01, 0.01)
    run.step(9)
    assert all(parameter.abs().max() <= 0.01 + 4 * LR for parameter in run.params.values())


def test_convolutions_whose_channels_come_last():
    """Entries are told by where they are, not by how they lie in memory."""
    ends = []
    for memory in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).double().to(memory_format=memory)
        layout = na.Layout(
            [
                na.conv(
                    "0", weight=("0.weight", "neuron in h w"), bias="0.bias", outgoing=[("2.weight", "out neuron h w")]
                )
            ]
        )
        optimizer = optim.Adam(model.parameters(), lr=LR)
        ReGraMa(model, optimizer, layout=layout, tau=0.9, every=3)
        for seed in range(8):
            step(model, optimizer, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).double())
        ends.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-10)


def test_a_parameter_that_is_replaced_is_forgotten():
    run = young(11)
    run.model[0].weight = nn.Parameter(run.params["0.weight"].detach().clone())
    run.params = dict(run.model.named_parameters())
    run.optimizer.param_groups[0]["params"] = list(run.params.values())
    with pytest.warns(na.ActivityWarning, match=r"replaced: 0\.weight"):
        run.step(11)
    assert [record["age"] for record in run.resetter.state_dict()["clock"]["0.weight"]] == [0]


def stop(resetter):
    resetter.clock = "run"


@pytest.mark.parametrize("end", [ReGraMa.detach, stop])
def test_what_is_young_is_handed_over_where_the_clock_ends(end):
    run = young()
    state, index = run.optimizer.state[run.params["2.bias"]], run.resetter.state_dict()["clock"]["2.bias"][0]["index"]
    before = state["exp_avg_sq"][index].clone()
    end(run.resetter)
    torch.testing.assert_close(state["exp_avg_sq"][index], before * (1 - 0.999**9) / (1 - 0.999**5))
    run.step(9)
    assert not run.resetter._clock


class Counting(optim.Optimizer):
    """An optimizer nobody knows, with a step count."""

    def __init__(self, params) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["step"] = self.state[parameter].get("step", 0) + 1
            parameter -= 0.1 * parameter.grad


def test_an_unknown_optimizer_that_counts_is_named_once():
    model = mlp()
    optimizer = Counting(model.parameters())
    ReGraMa(model, optimizer, layout=LAYOUT, moments={})
    with pytest.warns(na.ActivityWarning, match=r'optimizer Counting keeps a step count, .* as with clock="run"'):
        step(model, optimizer, X)
    step(model, optimizer, X)


def test_an_unknown_optimizer_that_is_told_to_go_by_the_run_is_not_named():
    model = mlp()
    optimizer = Counting(model.parameters())
    ReGraMa(model, optimizer, layout=LAYOUT, moments={}, clock="run")
    step(model, optimizer, X)


def test_two_optimizers_and_dead_neurons_between_them():
    """Each parameter goes by the counts of its own optimizer."""
    model, twin = mlp().double(), mlp().double()
    for net in (model, twin):
        kill(net[0], [2, 9])
    split = [optim.Adam(model[:2].parameters(), lr=LR), optim.AdamW(model[2:].parameters(), lr=LR, weight_decay=0.0)]
    together = optim.Adam(twin.parameters(), lr=LR)
    ReGraMa(model, split, layout=LAYOUT, tau=0.0, every=3)
    ReGraMa(twin, together, layout=LAYOUT, tau=0.0, every=3)
    for _ in range(7):
        step(twin, together, X.double())
        model.zero_grad()
        model(X.double()).square().mean().backward()
        for optimizer in split:
            optimizer.step()
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


@pytest.mark.sampled(8)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if "tensor" not in name])
def test_what_is_reset_as_a_whole_goes_on_as_with_a_new_optimizer(name, dtype):
    """Bit for bit, in low precision too."""
    make_optimizer, _ = OPTIMIZERS[name]
    run = Run(make_optimizer, 3, dtype, dead=0, stop=3)
    run.schedule.step, run.resetter.tau = lambda: None, 100.0
    for number in range(3):
        run.step(number)
    assert run.resetter.last_report["0"].reset == 16
    new = {param: nn.Parameter(run.params[param].detach().clone()) for param in ("0.weight", "0.bias", "2.weight")}
    optimizer = make_optimizer(list(new.values()))
    for number in range(3, 53):
        grads, _ = run.step(number)
        for param, parameter in new.items():
            parameter.grad = grads[param].clone()
        optimizer.step()
        assert all(torch.equal(run.params[param], parameter) for param, parameter in new.items())
