"""The functional route: a model to arrays by name, and back."""

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import activations, clear_moments, gradients, layout_of, parameters, write
from tests.adapters.torch.models import TwoHeaded, X, convnet, mlp, values


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


def test_a_loop_of_ones_own_resets_model_and_optimizer():
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


def test_activations_are_what_the_next_layer_reads():
    model, x = mlp(activation=nn.Tanh), torch.randn(7, 5)
    seen = activations(model, x)
    assert torch.equal(seen["0"], model[1](model[0](x)))
    assert torch.equal(seen["2"], model[:4](x))
    assert torch.equal(seen["4"], model(x))


def test_activations_behind_a_flatten_are_taken_apart():
    model, x = convnet(), torch.randn(7, 1, 8, 8)
    seen = activations(model, x)["0.0"]
    assert torch.equal(seen, model[0](x).flatten(2))
    score = na.tau_dormant(activations(model, x), layout_of(model, x))["0.0"]
    means = model[0](x).abs().mean(dim=(0, 2, 3))
    torch.testing.assert_close(score, means / means.mean())


def test_activations_of_a_functional_activation_and_two_heads():
    model, x = TwoHeaded(), torch.randn(7, 5)
    seen = activations(model, x, layout=model.layout())
    assert torch.equal(seen["trunk.2"], model.trunk(x))
    assert torch.equal(seen["mean"], model.mean(model.trunk(x)))


def test_activations_read_their_part_of_a_concatenation():
    class Concatenating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(3, 4), nn.Linear(3, 2), nn.Linear(6, 1)

        def forward(self, x):
            return self.out(torch.cat([self.a(x), self.b(x).relu()], dim=-1))

    model, x = Concatenating(), torch.randn(5, 3)
    second = na.ParamView("out.weight", "out neuron", index=[-1] * 4 + [0, 1])
    layout = na.Layout([na.dense("b", weight=("b.weight", "neuron in"), outgoing=[second])])
    assert torch.equal(activations(model, x, layout=layout)["b"], model.b(x).relu())


def test_what_no_module_shows_is_left_out():
    """The inside of attention and of a recurrent layer: never another group's outputs in its place."""
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    seen = activations(attention, torch.randn(3, 4, 8))
    hidden = {f"self_attn.{part}" for part in ("query", "key", "value", "out_proj")}
    assert {name for name, value in seen.items() if value is None} == hidden
    recurrent = nn.LSTM(3, 4, num_layers=2)
    views = {k: f"weight_{k}_l0" for k in ("ih", "hh")}
    first = na.recurrent("l0", input=views["ih"], recurrent=views["hh"], gates=4)
    assert activations(recurrent, torch.randn(5, 2, 3), layout=na.Layout([first])) == {"l0": None}


def test_activations_that_a_permutation_flattens_are_told_apart():
    """As many places as neurons: the neurons are told by the axis, not by its size."""

    class Transposing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.out = nn.Linear(3, 4), nn.Linear(16, 1)

        def forward(self, x):
            return self.out(self.a(x).relu().transpose(1, 2).flatten(1))

    model, x = Transposing(), torch.randn(5, 4, 3)
    seen = activations(model, x)["a"]
    expected = model.a(x).relu().abs().mean(dim=(0, 1))
    torch.testing.assert_close(seen.abs().mean(dim=(0, 1)), expected)


def test_another_thing_than_the_neurons_is_refused():
    model = TwoHeaded()
    model.trunk[2] = nn.Sequential()
    wrong = na.dense("trunk.0", weight=("trunk.0.weight", "neuron in"), outgoing=[("mean.weight", "out neuron")])
    model.forward = lambda x: model.mean(model.trunk(x)[:, :6].repeat(1, 2)[:, :6] @ torch.ones(6, 12))
    layout = na.Layout(
        [na.NeuronGroup("trunk.0", wrong.incoming, outgoing=wrong.outgoing, activation="batch time neuron")]
    )
    with pytest.raises(
        na.LayoutError, match=r"group 'trunk\.0', activation 'batch time neuron', read at the input of 'mean"
    ):
        activations(model, torch.ones(2, 5), layout=layout)


def test_activations_leave_everything_as_it_was():
    class Stochastic(nn.Sequential):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x))

    model = Stochastic(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
    model[2].eval()
    layout = na.Layout([na.dense("0", weight=("0.weight", "neuron in"), outgoing=[("3.weight", "out neuron")])])
    before, generator = values(model), torch.get_rng_state()
    activations(model, torch.ones(9, 5), layout=layout)
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in model] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
