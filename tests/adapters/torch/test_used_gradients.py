"""Scores are of the gradients that a step used, also where the optimizer leaves others behind."""

import pytest
import torch
from torch import optim

import neuroactivity as na
from neuroactivity_torch import ReGraMa, gradients, layout_of
from tests.adapters.torch.models import X, mlp

LAYOUT = layout_of(mlp(), X)


class Decaying(optim.Optimizer):
    """Adds weight decay to the gradients themselves, as some optimizers outside PyTorch do."""

    def __init__(self, params, lr=0.01) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        if closure is not None:
            with torch.enable_grad():
                closure()
        for parameter in self.param_groups[0]["params"]:
            parameter.grad.add_(parameter, alpha=0.1)
            parameter.sub_(parameter.grad, alpha=self.param_groups[0]["lr"])


def nesterov(params):
    return optim.SGD(params, lr=0.01, momentum=0.9, nesterov=True, foreach=True)


@pytest.mark.counts(faults=2)
@pytest.mark.parametrize("closure", [None, "positional", "keyword"])
@pytest.mark.parametrize("make", [nesterov, Decaying])
@pytest.mark.parametrize("several", [False, True])
def test_scores_are_of_the_gradients_before_the_step(make, closure, several):
    """Of a neuron that has died the momentum, or the weight decay, is left in the gradient; its score is zero."""
    model = mlp()
    params = [[*model[:4].parameters()], [*model[4:].parameters()]] if several else [[*model.parameters()]]
    optimizers = [make(own) for own in params]
    regrama = ReGraMa(model, optimizers, layout=LAYOUT, max_fraction=0, every=2)
    for number in range(6):
        if number == 3:
            with torch.no_grad():
                model[0].bias[3] = -100.0

        def backward():
            model.zero_grad()
            loss = model(X).square().mean()
            loss.backward()
            backward.gradients = {name: value.clone() for name, value in gradients(model).items()}
            return loss

        for place, optimizer in enumerate(optimizers):
            if closure is None or place:  # a second closure would begin again
                if not place:
                    backward()
                optimizer.step()
            elif closure == "keyword":
                optimizer.step(closure=backward)
            else:
                optimizer.step(backward)
    expected = na.grama(backward.gradients, LAYOUT)
    assert expected["0"][3] == 0
    assert (model[0].weight.grad[3] != 0).any()  # what a score after the step would have seen
    for name, activity in regrama.last_report.items():
        torch.testing.assert_close(torch.as_tensor(activity.scores[0]), expected[name].detach(), rtol=1e-6, atol=0)


def test_what_leaves_gradients_alone_costs_no_copy():
    model = mlp()
    for make in (optim.Adam, optim.AdamW, optim.SGD, optim.RMSprop):
        regrama = ReGraMa(model, make(model.parameters(), lr=0.1), layout=LAYOUT, every=1)
        (stepper,) = regrama._steppers
        assert not stepper.alters_gradients
        regrama.detach()


def test_an_optimizer_that_takes_something_else_than_a_closure_is_given_it():
    class ByLoss(optim.Optimizer):
        @torch.no_grad()
        def step(self, loss=None):
            assert isinstance(loss, torch.Tensor)
            for parameter in self.param_groups[0]["params"]:
                parameter.grad.add_(parameter, alpha=0.1)

    model = mlp()
    optimizer = ByLoss(model.parameters(), {})
    regrama = ReGraMa(model, optimizer, layout=LAYOUT, max_fraction=0, every=1)
    loss = model(X).square().mean()
    loss.backward()
    expected = na.grama(gradients(model), LAYOUT)
    expected = {name: score.clone() for name, score in expected.items()}
    optimizer.step(loss)
    torch.testing.assert_close(torch.as_tensor(regrama.last_report["0"].scores[0]), expected["0"], rtol=1e-6, atol=0)
