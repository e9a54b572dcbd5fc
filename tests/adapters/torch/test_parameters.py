"""Custom training loops: a module's parameters as arrays by name, and back."""

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import clear_moments, gradients, layout_of, parameters, write
from tests.adapters.torch.models import X, mlp, values


def test_parameters_share_memory_and_need_no_gradient():
    model = mlp()
    params = parameters(model)
    assert list(params) == [name for name, _ in model.named_parameters()]
    assert not any(value.requires_grad for value in params.values())
    assert params["0.weight"].data_ptr() == model[0].weight.data_ptr()


def test_gradients_are_what_backward_left():
    model = mlp()
    assert set(gradients(model).values()) == {None}
    model(torch.ones(3, 5)).sum().backward()
    assert all(torch.equal(gradients(model)[name], parameter.grad) for name, parameter in model.named_parameters())


def test_a_sparse_gradient_is_made_dense():
    table = nn.Embedding(6, 3, sparse=True)
    table(torch.tensor([1, 4])).sum().backward()
    assert table.weight.grad.is_sparse
    expected = torch.zeros(6, 3)
    expected[[1, 4]] = 1.0
    assert torch.equal(gradients(table)["weight"], expected)


def test_write_copies_in_place():
    model = mlp()
    pointer = model[0].weight.data_ptr()
    write(model, {"0.weight": torch.full((16, 5), 2.0)})
    assert model[0].weight.data_ptr() == pointer
    assert model[0].weight.requires_grad
    assert (model[0].weight == 2.0).all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"nope": torch.zeros(2)}, r"parameter 'nope' is not in the model; there are 0\.weight"),
        (
            {"2.bias": torch.zeros(3)},
            r"parameter '2\.bias': expected shape \(16,\) and dtype torch\.float32, got \(3,\)",
        ),
        (
            {"2.bias": torch.zeros(16, dtype=torch.float64)},
            r"parameter '2\.bias': expected .* got \(16,\) and torch\.float64",
        ),
    ],
)
def test_write_writes_all_or_nothing(bad, message):
    model = mlp()
    before = values(model)
    with pytest.raises(na.LayoutError, match=message):
        write(model, {"0.weight": torch.zeros(16, 5), **bad})
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())


def test_a_custom_loop_resets_model_and_optimizer():
    model, x = mlp(), torch.randn(32, 5)
    optimizer = torch.optim.Adam(model.parameters())
    layout = layout_of(model, X)
    model(x).square().mean().backward()
    optimizer.step()
    masks = na.reset_masks(na.grama(gradients(model), layout), tau=0.5)
    assert masks["0"].any()
    fresh = parameters(mlp(seed=1))
    write(model, na.reset(parameters(model), fresh, masks, layout))
    clear_moments(optimizer, model, masks, layout)
    assert torch.equal(model[0].weight[masks["0"]], fresh["0.weight"][masks["0"]])
    assert (model[2].weight[:, masks["0"]] == 0).all()
    assert (optimizer.state[model[0].weight]["exp_avg"][masks["0"]] == 0).all()
    assert (optimizer.state[model[0].weight]["exp_avg"][~masks["0"]] != 0).any()
