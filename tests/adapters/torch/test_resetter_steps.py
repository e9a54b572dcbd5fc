"""The engine of ReGraMa and ReDo: which steps count, and what happens at one."""

import warnings

import pytest
import torch
from torch import optim

import neuroactivity as na
from neuroactivity_torch import ReGraMa, gradients
from tests.adapters.torch.models import X, mlp, step


def test_measurements_fall_on_every_nth_step():
    model, due = mlp(), []
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    regrama = ReGraMa(
        model, optimizer, example_inputs=X, every=3, max_fraction=0.0, on_report=lambda _: due.append(regrama.steps)
    )
    for _ in range(10):
        step(model, optimizer, X)
    assert due == [3, 6, 9]


def test_a_closure_is_measured_with_the_gradients_of_its_step():
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1, max_fraction=0.0)
    model(torch.zeros(3, 5)).sum().backward()  # stale

    def closure():
        optimizer.zero_grad()
        loss = model(X).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = na.grama(gradients(model), regrama.layout)["0"]
    assert regrama.last_report["0"].highest == pytest.approx(expected.max().item())


def test_a_step_whose_measurement_fails_is_not_counted(monkeypatch):
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1)
    with monkeypatch.context() as patch:
        patch.setattr(regrama, "_signals", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            step(model, optimizer, X)
    assert (regrama.steps, regrama.measurements) == (0, 0)
    step(model, optimizer, X)
    assert (regrama.steps, regrama.measurements) == (1, 1)


def test_a_step_is_one_unless_gradient_scaling_called_it_off():
    model = mlp()
    optimizer = optim.Adam(model.parameters(), fused=True)
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1)
    model(X).sum().backward()
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert (regrama.steps, regrama.last_report) == (0, None)
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert (regrama.steps, regrama.measurements) == (1, 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_a_compiled_step_is_measured():
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.7, every=1)
    compiled = torch.compile(optimizer.step, backend="eager")
    model(X).square().mean().backward()
    compiled()
    assert regrama.neurons_reset > 0


def test_a_step_that_a_cuda_graph_captures_is_refused(monkeypatch):
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match=r"^the optimizer cannot be followed: a CUDA graph captures its step"):
        step(model, optimizer, X)
    regrama.detach()
    step(model, optimizer, X)


def test_a_score_is_called_without_recording():
    recorded = []

    def score(grads, layout):
        recorded.append(torch.is_grad_enabled())
        return na.magnitudes(grads, layout)

    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    ReGraMa(model, optimizer, example_inputs=X, every=1, score=score)
    step(model, optimizer, X)
    assert recorded == [False, False]  # tried, and measured


def test_neurons_are_reset_between_start_and_stop():
    model, reset = mlp(), []
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    options = {"every": 1, "lowest": 0.25, "start": 2, "stop": 3, "protect": 0}
    ReGraMa(model, optimizer, example_inputs=X, on_report=lambda r: reset.append(r.total.reset), **options)
    for _ in range(4):
        step(model, optimizer, X)
    assert reset == [0, 8, 8, 0]


@pytest.mark.parametrize(("inputs", "message"), [(X / 0, "could not be judged"), (X, "resets do not last")])
def test_warnings_name_the_line_that_steps(inputs, message):
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    ReGraMa(model, optimizer, example_inputs=X, every=1, tau=0.7, reset_silent=True)
    with warnings.catch_warnings(record=True, action="always") as caught:
        for _ in range(2):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    assert {warning.filename for warning in caught} == {__file__}
    assert message in str(caught[-1].message)


FOURTH = 0.1 / (1 - 0.9**4) * ((1 - 0.999**4) / 0.001) ** 0.5
"""How long Adam's fourth step is, without earlier ones in its moments."""


@pytest.mark.parametrize(("clock", "share"), [("own", 1.0), ("run", FOURTH)])
def test_the_step_after_a_reset_is_the_first_of_what_was_written(clock, share):
    """Adam's first is as long as its learning rate, whatever the gradient is."""
    model = mlp()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=3, lowest=0.25, clock=clock)
    for _ in range(3):
        step(model, optimizer, X)
    before, mask = model[4].weight.detach().clone(), torch.tensor(regrama.last_report["2"].mask[0])
    step(model, optimizer, X)
    lengths = (model[4].weight - before)[:, mask].abs()[model[4].weight.grad[:, mask].abs() > 1e-4]
    assert len(lengths) > 0
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.01 * share), rtol=1e-3, atol=0)
