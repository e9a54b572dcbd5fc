"""A wrapper's hooks stand around those of the user: the last before a step and the first after it."""

import pytest
import torch
from torch import nn, optim

from neuroactivity_torch import ReGraMa, layout_of
from tests.adapters.torch.models import X, kill, mlp, step

LAYOUT = layout_of(mlp(), X)
pytestmark = pytest.mark.filterwarnings("ignore:.*resets do not last")


def network():
    """A model with two dead neurons, and what trains it."""
    model = mlp()
    kill(model[0], [2, 9])
    return model, optim.Adam(model.parameters(), lr=0.01)


def attach(model, optimizer, **options):
    return ReGraMa(model, optimizer, **{"layout": LAYOUT, "tau": 0.0, "every": 1, **options})


def halve(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 0.5


@pytest.mark.counts(faults=1)
def test_a_users_hook_that_clears_gradients_clears_them_after_they_were_measured():
    model, optimizer = network()
    optimizer.register_step_post_hook(lambda optimizer, *args: optimizer.zero_grad())
    regrama = attach(model, optimizer)
    step(model, optimizer, X)
    assert model[0].weight.grad is None
    assert regrama.last_report["0"].reset == 2


@pytest.mark.counts(faults=1)
def test_a_users_hook_that_clamps_weights_clamps_what_was_reset_too():
    model, optimizer = network()
    optimizer.register_step_post_hook(lambda *args: [p.data.clamp_(-0.1, 0.1) for p in model.parameters()])
    regrama = attach(model, optimizer)
    for _ in range(3):
        step(model, optimizer, X)
        assert all((parameter.abs() <= 0.1).all() for parameter in model.parameters())
    assert regrama.resets


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("earlier", [False, True])
def test_what_a_users_hook_changes_before_a_step_is_where_young_entries_start_from(earlier):
    model, optimizer = network()
    for first in (True, False):
        if first == earlier:
            optimizer.register_step_pre_hook(lambda *args: halve(model))
        else:
            attach(model, optimizer, stop=1)
    step(model, optimizer, X)
    for _ in range(2):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        step(model, optimizer, X)
        assert all((p - 0.5 * was).abs().max() < 0.011 for p, was in zip(model.parameters(), before, strict=True))


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("leaves", [0, 1])
def test_a_wrapper_may_be_detached_while_it_reports(leaves):
    """The one that reports, or the other one of two, whose own hook came before."""
    models = nn.ModuleList([network()[0], network()[0]])
    optimizer = optim.Adam(models.parameters())
    wrappers = [attach(model, optimizer) for model in models]
    wrappers[1].on_report = lambda report: wrappers[leaves].detach()
    for _ in range(2):
        optimizer.zero_grad()
        sum(model(X).square().mean() for model in models).backward()
        optimizer.step()
        assert len(optimizer._optimizer_step_post_hooks) == len(optimizer._optimizer_step_pre_hooks) == 1
    assert wrappers[leaves].steps == 1
    assert wrappers[1 - leaves].steps == 2


def test_a_wrapper_that_is_detached_before_its_turn_does_not_see_the_step():
    models = nn.ModuleList([network()[0], network()[0]])
    optimizer = optim.Adam(models.parameters())
    wrappers = [attach(model, optimizer) for model in models]
    wrappers[0].on_report = lambda report: wrappers[1].detach()
    sum(model(X).square().mean() for model in models).backward()
    optimizer.step()
    assert [wrapper.steps for wrapper in wrappers] == [1, 0]


def test_wrappers_come_in_the_order_in_which_they_were_made():
    model, optimizer = network()
    calls = []
    for number in (1, 2, 3):
        attach(model, optimizer, max_fraction=0, on_report=lambda report, number=number: calls.append(number))
    step(model, optimizer, X)
    assert calls == [1, 2, 3]


class Extended(optim.Adam):
    """Calls its parent's step, which PyTorch hooks as well once there is an Adam."""

    def step(self, closure=None):
        if closure is not None:
            closure()
        return super().step()


@pytest.mark.counts(faults=2)
def test_a_step_inside_of_a_step_is_a_part_of_it():
    network()  # from here on Adam's own steps are hooked
    model = mlp()
    optimizer = Extended(model.parameters(), lr=0.01)
    regrama = attach(model, optimizer, max_fraction=0)
    for _ in range(3):
        step(model, optimizer, X)
    assert (regrama.steps, regrama.measurements) == (3, 3)

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optimizer.step(fail)
    step(model, optimizer, X)
    assert regrama.steps == 4
