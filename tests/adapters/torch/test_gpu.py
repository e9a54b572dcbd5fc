"""On a CUDA device: the same numbers as on the CPU, without waiting for the host, and in CUDA graphs.

`make test-gpu` runs these where there is a device.
"""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn, optim

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa, activations, gradient_function, layout_of, parameters
from tests.adapters.torch.clocks import Run
from tests.adapters.torch.models import IMAGES, TwoHeaded, X, convnet, kill, mlp, step
from tests.neuroactivity.cases import CASES, RESIDUAL

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_case_without_index = pytest.mark.parametrize(
    "case",
    [
        case
        for case in CASES
        if all(view.index is None for group in case.layout.values() for view in (*group.incoming, *group.outgoing))
    ],
    ids=lambda case: case.name,
)
"""The places of an index are copied to the device at each measurement, for which the host waits."""


def event(layout, grads, params, fresh, moments):
    """A measurement and a reset."""
    scores = na.grama(grads, layout)
    masks = na.reset_masks(scores, 0.8, max_fraction=0.5)
    return scores, masks, na.reset(params, fresh, masks, layout), na.reset_moments(moments, masks, layout)


def draw(case, device, dtype=torch.float32):
    """Gradients, parameters, fresh values and moments."""
    return [
        {name: torch.asarray(array).to(device, dtype) for name, array in case.draw(seed).items()} for seed in range(4)
    ]


def assert_close(results, expected, ulps=16):
    """The same mappings, all of them on the device, to a few roundings."""
    for result, theirs in zip(results, expected, strict=True):
        assert set(result) == set(theirs)
        for name, value in result.items():
            assert value.is_cuda
            assert value.dtype == theirs[name].dtype
            rtol = ulps * torch.finfo(value.dtype).eps if value.dtype.is_floating_point else 0
            torch.testing.assert_close(value.cpu(), theirs[name], rtol=rtol, atol=0, msg=lambda m, n=name: f"{n}: {m}")


@contextlib.contextmanager
def no_waiting():
    """Raise where the host waits for the device."""
    mode = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@each_case
def test_the_numbers_of_the_cpu(case, dtype):
    results = event(case.layout, *draw(case, "cuda", dtype))
    assert_close(results, event(case.layout, *draw(case, "cpu", dtype)))


@pytest.mark.parametrize("shape", [(1024, 1024), (3, 500_000), (500_000, 3), (2048, 4096)], ids=str)
@pytest.mark.parametrize("pattern", ["neuron in", "in neuron"])
def test_large_gradients(shape, pattern):
    layout = na.Layout([na.dense("a", weight=("a", pattern))])
    grads = {"a": torch.randn(shape, generator=torch.Generator().manual_seed(0))}
    scores = na.grama({"a": grads["a"].cuda()}, layout)["a"]
    exact = na.grama({"a": grads["a"].double()}, layout)["a"]
    torch.testing.assert_close(scores.cpu().double(), exact, rtol=3e-6, atol=0)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@each_case_without_index
def test_the_host_does_not_wait(case):
    inputs = draw(case, "cuda")
    with no_waiting():
        results = event(case.layout, *inputs)
    assert_close(results, event(case.layout, *draw(case, "cpu")))


@each_case_without_index
def test_in_a_cuda_graph(case):
    """Captured once, then played again with other numbers."""
    inputs = draw(case, "cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        event(case.layout, *inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = event(case.layout, *inputs)
    others = [{name: torch.asarray(array).float() for name, array in case.draw(seed).items()} for seed in range(9, 13)]
    for own, given in zip(inputs, others, strict=True):
        for name, value in own.items():
            value.copy_(given[name])
    graph.replay()
    assert_close(results, event(case.layout, *others))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")  # one of PyTorch's own
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled(mode):
    torch.compiler.reset()
    inputs = draw(RESIDUAL, "cuda")
    compiled = torch.compile(lambda *args: event(RESIDUAL.layout, *args), fullgraph=True, mode=mode)
    for _ in range(3):
        results = compiled(*inputs)
    assert_close(results, event(RESIDUAL.layout, *draw(RESIDUAL, "cpu")))


class Sampling(nn.Module):
    """A policy that draws its actions on its own device, as SAC's does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = TwoHeaded()

    def forward(self, x):
        mean, log_std = self.body(x).chunk(2, dim=-1)
        return torch.distributions.Normal(mean, log_std.exp()).rsample()


@pytest.mark.parametrize(("make", "inputs"), [(mlp, X), (TwoHeaded, X), (Sampling, X), (convnet, IMAGES)])
def test_a_layout_is_found_and_nothing_is_disturbed(make, inputs):
    expected = layout_of(make(), inputs)
    model = make().cuda()
    torch.cuda.manual_seed(5)
    before, own = torch.cuda.get_rng_state(), torch.get_rng_state()
    assert layout_of(model, inputs.cuda()) == expected
    assert torch.backends.cudnn.enabled
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), own)


def test_the_model_draws_the_same_numbers_in_every_probe():
    model = Sampling().cuda()
    grad_fn = gradient_function(model, X.cuda())
    first = grad_fn(parameters(model))
    torch.randn(3, device="cuda")
    second = grad_fn(parameters(model))
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, second[name])


OPTIMIZERS = {
    "adam": (optim.Adam, {}),
    "fused": (optim.Adam, {"fused": True}),
    "capturable": (optim.AdamW, {"capturable": True}),
    "sgd": (optim.SGD, {"momentum": 0.9}),
}


def train(device, wrapper, optimizer, options, **others):
    """Train a network with three dead neurons; return its parameters and the wrapper."""
    model = mlp().double().to(device)
    kill(model[0], [1, 4, 7])
    x = X.double().to(device)
    optimizer = optimizer(model.parameters(), lr=1e-3, **options)
    if wrapper is ReDo:
        others["probe"] = lambda: x
    resetter = wrapper(model, optimizer, example_inputs=x, every=10, seed=3, **others)
    for _ in range(40):
        step(model, optimizer, x)
    return parameters(model), resetter


@pytest.mark.parametrize("wrapper", [ReGraMa, ReDo])
@pytest.mark.parametrize("initializer", ["layer", "snapshot"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_with_resets_stays_with_the_cpu(name, initializer, wrapper):
    """The draws are the same on every device. A capturable optimizer corrects its bias in float32."""
    optimizer, options = OPTIMIZERS[name]
    ours = train("cuda", wrapper, optimizer, options, initializer=initializer)
    theirs = train("cpu", wrapper, optimizer, {} if name == "capturable" else options, initializer=initializer)
    assert ours[1].neurons_reset == theirs[1].neurons_reset >= 3
    tolerance = 1e-4 if name == "capturable" else 1e-7
    for key, value in ours[0].items():
        assert value.is_cuda
        np.testing.assert_allclose(value.cpu(), theirs[0][key], rtol=tolerance, atol=tolerance / 100, err_msg=key)


def test_mixed_precision_and_its_skipped_steps():
    model = mlp().cuda()
    kill(model[0], [1, 4, 7])
    optimizer = optim.Adam(model.parameters(), lr=1e-3, fused=True)
    regrama = ReGraMa(model, optimizer, example_inputs=X.cuda(), every=2)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**60)
    skipped = 0
    for _ in range(60):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = model(X.cuda()).square().mean()
        before = scaler.get_scale()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        skipped += scaler.get_scale() < before
    assert skipped > 3
    assert regrama.steps == 60 - skipped
    assert regrama.neurons_reset >= 3
    assert all(value.isfinite().all() for value in model.parameters())


def test_activations():
    model = convnet()
    expected = activations(model, IMAGES)
    found = activations(model.cuda(), IMAGES.cuda())
    for name, value in found.items():
        torch.testing.assert_close(value.cpu(), expected[name], rtol=1e-2, atol=1e-3)
    layout = layout_of(model, IMAGES.cuda())
    assert na.tau_dormant(found, layout)["0.0"].is_cuda


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"capturable": True}], ids=str)
@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adamax])
def test_entries_go_by_their_own_clock(kind, options):
    """Up to what counts in float32 make of it."""
    if "fused" in options and kind not in (optim.Adam, optim.AdamW):
        pytest.skip("there is no fused one")
    runs = [Run(lambda p: kind(p, lr=0.01), 20), Run(lambda p: kind(p, lr=0.01, **options), 20, device="cuda")]
    for number in range(75):
        for run in runs:
            run.step(number)
    assert runs[0].resetter.neurons_reset == runs[1].resetter.neurons_reset > 0
    for one, other in zip(*(run.params.values() for run in runs), strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=0, atol=1e-5)
