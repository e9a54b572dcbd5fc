"""Gradients of what layers return before their activation functions."""

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import activation_gradients, gradients, layout_of
from tests.adapters.torch.models import IMAGES, TwoHeaded, X, convnet, kill, mlp, values
from tests.adapters.torch.reading import listed


def square(output):
    return output.square().mean()


@pytest.mark.parametrize("inplace", [False, True])
def test_they_find_dead_relu_neurons_which_gradients_of_outputs_do_not(inplace):
    model = mlp(width=256, activation=lambda: nn.ReLU(inplace=inplace))
    kill(model[0], list(range(64)))
    layout = listed(model)
    scores = na.grama(activation_gradients(model, X, loss=square, layout=layout), layout, signal="activations")
    assert (scores["0"] == 0).nonzero().flatten().tolist() == list(range(64))
    hidden = torch.relu(model[0](X)).detach().requires_grad_()
    behind = {"0": torch.autograd.grad(square(model[2:](hidden)), hidden)[0]}
    assert (na.grama(behind, na.Layout([layout["0"]]), signal="activations")["0"] == 0).sum() == 0


def test_they_are_the_gradients_of_each_sample():
    model = mlp(activation=nn.Tanh)
    first = model[0](X)
    second = model[2](model[1](first))
    expected = torch.autograd.grad(square(model[4](model[3](second))), (first, second))
    found = activation_gradients(model, X, loss=square, layout=listed(model))
    torch.testing.assert_close(found["0"], expected[0])
    torch.testing.assert_close(found["2"], expected[1])


def test_they_have_the_form_of_the_activation_pattern_and_none_where_there_is_nothing():
    model = convnet()
    found = activation_gradients(model, IMAGES, loss=square, layout=layout_of(model, IMAGES))
    assert found["0.0"].shape == (32, 6, 6, 6)
    lstm, x = nn.LSTM(3, 4), torch.ones(5, 2, 3)
    assert activation_gradients(lstm, x, loss=lambda out: out[0].sum(), layout=listed(lstm)) == {"lstm": None}
    heads = TwoHeaded()
    found = activation_gradients(heads, X, loss=lambda out: out[:, :2].detach().sum() + heads.mean.weight.sum())
    assert set(found.values()) == {None}


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
    square(model(X)).backward()
    before, held = values(model), {name: gradient.clone() for name, gradient in gradients(model).items()}
    generator = torch.get_rng_state()
    activation_gradients(model, X, loss=square, layout=listed(model))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())
    assert all(torch.equal(gradient, held[name]) for name, gradient in gradients(model).items())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
