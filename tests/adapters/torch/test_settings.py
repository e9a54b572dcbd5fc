"""Settings of PyTorch that a user may have turned on, under which a run is bit for bit what it is without."""

from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
import torch

from neuroactivity_torch import ReDo, ReGraMa
from tests.adapters.torch.models import X, mlp


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(torch.float32)


SETTINGS = {
    "deterministic algorithms": deterministic,
    "float64": partial(default_dtype, torch.float64),
    "bfloat16": partial(default_dtype, torch.bfloat16),
    "another device": partial(torch.device, "meta"),
    "anomalies": partial(torch.autograd.detect_anomaly, check_nan=True),
    "autocast": partial(torch.autocast, "cpu", torch.bfloat16),
    "no gradients": torch.no_grad,
}


def run(kind, setting, **options):
    """Train, with the wrapper made and the steps taken under a setting."""
    torch.manual_seed(0)
    model = mlp(width=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    options |= {"probe": lambda: X} if kind is ReDo else {}
    with setting():
        wrapper = kind(model, optimizer, example_inputs=X, every=2, lowest=0.25, **options)
    for _ in range(4):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        with setting():
            optimizer.step()
    return [*model.parameters(), *[state["momentum_buffer"] for state in optimizer.state.values()]], wrapper


@pytest.mark.sampled(7)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [(ReGraMa, {}), (ReGraMa, {"outgoing": "fresh", "batches": 2, "protect": 1}), (ReDo, {"initializer": "snapshot"})],
    ids=["regrama", "regrama fresh", "redo snapshot"],
)
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_a_run_is_the_same_bit_for_bit(kind, options, setting):
    expected, plain = run(kind, nullcontext, **options)
    found, wrapper = run(kind, SETTINGS[setting], **options)
    assert wrapper.neurons_reset == plain.neurons_reset > 4
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
