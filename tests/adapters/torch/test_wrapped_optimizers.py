"""Optimizers inside wrappers, several optimizers of one model, and state that cannot be reset neuron by neuron."""

import pytest
import torch
from torch import optim

import neuroactivity as na
from neuroactivity_torch import ReGraMa, gradients, layout_of
from tests.adapters.torch.models import X, kill, mlp, step

LAYOUT = layout_of(mlp(), X)


class Accelerated(optim.Optimizer):
    """Forwards to an optimizer inside it, and has no hooks of its own."""

    def __init__(self, optimizer) -> None:
        self.optimizer = optimizer

    state = property(lambda self: self.optimizer.state)
    param_groups = property(lambda self: self.optimizer.param_groups)

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure=None):
        return self.optimizer.step(closure)


class Lookahead(optim.Optimizer):
    """Draws the weights towards a slow copy at every second step."""

    def __init__(self, optimizer) -> None:
        self._base_optimizer, self.param_groups, self.state = optimizer, optimizer.param_groups, {}
        self.steps = 0

    def zero_grad(self, set_to_none=True):
        self._base_optimizer.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure=None):
        self._base_optimizer.step(closure)
        self.steps += 1
        for parameter in self.param_groups[0]["params"] if self.steps % 2 == 0 else ():
            slow = self.state.setdefault(parameter, {}).setdefault("lookahead_slow_buff", parameter.clone())
            parameter.copy_(slow.lerp_(parameter, 0.5))


class Algorithm:
    """No optimizer itself, but holds one."""

    def __init__(self, optimizer) -> None:
        self._optim = optimizer

    def step(self, loss=None):
        self._optim.step()

    def zero_grad(self):
        self._optim.zero_grad()


@pytest.mark.parametrize("wrap", [Accelerated, Lookahead, Algorithm, lambda o: Algorithm(Accelerated(o))])
def test_optimizers_inside_wrappers_are_found(wrap):
    model = mlp()
    kill(model[0], [2, 9])
    inner = optim.Adam(model.parameters())
    optimizer = wrap(inner)
    regrama = ReGraMa(model, optimizer, layout=LAYOUT, tau=0.0, every=3)
    for _ in range(4):
        step(model, optimizer, X)
    assert regrama.last_report["0"].reset == 2
    assert (regrama.steps, regrama.measurements) == (4, 1)
    if wrap is Lookahead:
        assert (optimizer.state[model[2].weight]["lookahead_slow_buff"][:, [2, 9]].abs() < 0.01).all()
        assert (model[0].weight[[2, 9]].abs() > 0).all()


def test_what_holds_no_optimizer_is_refused():
    class Wrapped(optim.Optimizer):
        def __init__(self, hidden) -> None:
            self.hidden = hidden

    model = mlp()
    for wrong in (Wrapped(optim.Adam(model.parameters())), "adam", []):
        with pytest.raises(ValueError, match="optimizer: expected an optimizer"):
            ReGraMa(model, wrong, layout=LAYOUT, max_fraction=0)


def halves(model):
    return optim.SGD(model[0].parameters(), lr=0.1, momentum=0.9), optim.AdamW(model[2:].parameters(), lr=0.1)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_list_of_optimizers_steps_when_all_have_stepped(backwards):
    model = mlp()
    kill(model[0], [2, 9])
    optimizers = halves(model)
    regrama = ReGraMa(model, list(optimizers), layout=LAYOUT, tau=0.0, every=2)
    for _ in range(3):
        model.zero_grad()
        model(X).square().mean().backward()
        counted = regrama.steps
        first, second = reversed(optimizers) if backwards else optimizers
        first.step()
        assert regrama.steps == counted
        second.step()
        assert regrama.steps == counted + 1
    assert regrama.last_report["0"].reset == 2
    assert (optimizers[1].state[model[2].weight]["exp_avg"][:, [2, 9]] == 0).any()
    regrama.detach()
    assert not any(optimizer._optimizer_step_post_hooks for optimizer in optimizers)


def test_gradients_that_are_cleared_before_all_have_stepped_are_measured_and_kept_for_that_alone():
    model, kept = mlp(), []
    kill(model[0], [2, 9])
    first, second = halves(model)
    regrama = ReGraMa(model, [first, second], layout=LAYOUT, tau=0.0, every=3)
    for _ in range(4):
        model(X).square().mean().backward()
        first.step()
        first.zero_grad()
        kept.append(len(regrama._gradients))
        second.step()
        second.zero_grad()
        assert regrama._gradients == {}
    assert kept == [0, 0, 1, 0]  # the weight alone, since biases are not scored
    assert regrama.last_report["0"].reset == 2


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("taken", [([0, 1], [1], [0, 1], [0, 1]), ([1], [0, 1], [0], [], [0, 1]), ([0], [0], [0, 1])])
def test_a_step_that_a_scaler_calls_off_for_one_of_several_does_not_mix_two_backward_passes(taken, order, to_none):
    model, factor = mlp(), 1.0
    optimizers = [optim.SGD(part.parameters(), lr=0.0) for part in (model[0], model[2:])]
    regrama = ReGraMa(model, optimizers, layout=LAYOUT, max_fraction=0, every=1)
    for steps in taken:
        for optimizer in optimizers:
            optimizer.zero_grad(to_none)
        factor += 1
        (model(X * factor) + factor).square().mean().backward()
        counted, expected = regrama.steps, na.grama(gradients(model), LAYOUT)
        for place in steps[::order]:
            optimizers[place].step()
        assert regrama.steps - counted == (len(steps) == 2)
        if len(steps) == 2:
            assert all(torch.equal(regrama._latest.scores[name], score) for name, score in expected.items())


def test_an_optimizer_that_is_given_twice_is_refused():
    model = mlp()
    optimizer = optim.Adam(model.parameters())
    with pytest.raises(ValueError, match="optimizer: expected each optimizer once, got one twice"):
        ReGraMa(model, [optimizer, Algorithm(optimizer)], layout=LAYOUT)


@pytest.mark.skipif(not hasattr(optim, "Muon"), reason="needs torch.optim.Muon")
def test_muon_beside_adamw():
    model = mlp()
    kill(model[0], [2, 9])
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    optimizers = [optim.Muon([model[0].weight, model[2].weight, model[4].weight]), optim.AdamW(vectors)]
    regrama = ReGraMa(model, optimizers, layout=LAYOUT, tau=0.0, every=1)
    model(X).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
    assert regrama.last_report["0"].reset == 2
    assert (optimizers[0].state[model[2].weight]["momentum_buffer"][:, [2, 9]] == 0).all()


def test_factored_moments_are_refused_when_attached():
    model = mlp()
    moments = {"variance": lambda parameter, options: torch.zeros_like(parameter)}
    with pytest.raises(ValueError, match="optimizer Adafactor keeps factored moments"):
        ReGraMa(model, optim.Adafactor(model.parameters()), layout=LAYOUT, moments=moments)


class RowMeans(optim.Optimizer):
    """Keeps one number for each row."""

    def __init__(self, params) -> None:
        super().__init__(params, {})

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["rows"] = torch.ones(parameter.shape[0])


def test_moments_of_another_shape_are_refused_before_anything_is_reset():
    model = mlp()
    optimizer = RowMeans(model.parameters())
    moments = {"rows": lambda parameter, options: torch.zeros_like(parameter)}
    message = r"optimizer RowMeans, state 'rows' of parameter '0\.weight': expected one of rows, of shape \(16, 5\)"
    with pytest.raises(ValueError, match=message):
        ReGraMa(model, optimizer, layout=LAYOUT, moments=moments)
