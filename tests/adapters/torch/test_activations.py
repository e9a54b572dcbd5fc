"""Neuron outputs: what the next layer reads, in the form that the activation pattern names."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import activations, layout_of
from tests.adapters.torch.models import TwoHeaded, X, convnet, mlp, values


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
    model.mean = nn.Linear(18, 2)
    model.forward = lambda x: model.mean(model.trunk(x).repeat(1, 2)[:, :18])
    where = r"group 'trunk\.2', activation '\.\.\. neuron', read at the input of 'mean\.weight': "
    with pytest.raises(na.LayoutError, match=where + "an axis of 18 features cannot be read as neuron, 12 neurons"):
        activations(model, torch.ones(2, 5), layout=model.layout())


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("neuron", "expected an axis for the samples in the activation pattern"),
        ("... neuron neuron", "the pattern has 2 axes called 'neuron', the outputs 1"),
    ],
)
def test_a_pattern_that_the_outputs_cannot_have_is_refused(activation, message):
    model = mlp()
    layout = in_the_form(activation, na.dense("0", weight=("0.weight", "neuron in"), outgoing=TO_THE_NEXT))
    with pytest.raises(na.LayoutError, match=f"group '0', activation '{activation}', read at .*'2.weight': {message}"):
        activations(model, X, layout=layout)


def in_the_form(activation, group, neurons=None):
    return na.Layout([replace(group, activation=activation, neurons=neurons)])


def assert_form(model, x, group, forms):
    """Whatever form a pattern names, the outputs are brought into it, and score the same."""
    group = group if isinstance(group, na.NeuronGroup) else layout_of(model, x)[group]
    neurons = group.count({name: tuple(value.shape) for name, value in model.named_parameters()})
    expected = None
    for activation, outputs in forms.items():
        layout = in_the_form(activation, group, neurons)
        seen = activations(model, x, layout=layout)
        assert torch.equal(seen[group.name], outputs), activation
        score = na.tau_dormant(seen, layout)[group.name]
        expected = score if expected is None else expected
        torch.testing.assert_close(score, expected)


TO_THE_NEXT = [("2.weight", "out neuron")]


@pytest.mark.parametrize("group", ["0", "4"])
def test_the_forms_of_a_dense_layers_outputs(group):
    """Of a hidden layer, which is read at the next one, and of a head, which is read at its own output."""
    model, x = mlp(outputs=3), torch.randn(7, 5)
    outputs = (model[:2] if group == "0" else model)(x).detach()
    forms = {
        "... neuron": outputs,
        "neuron batch": outputs.T,
        "batch neuron": outputs,
        "... (neuron dim)": outputs,
        "batch time neuron": outputs[:, None],
    }
    assert_form(model, x, group, forms)


def test_as_many_samples_as_neurons_do_not_hide_which_axis_is_which():
    """The scores of samples were once returned for those of neurons."""
    model = mlp()
    group = na.dense("0", weight=("0.weight", "neuron in"), outgoing=TO_THE_NEXT, activation="neuron batch")
    x = torch.randn(16, 5)
    score = na.tau_dormant(activations(model, x, layout=na.Layout([group])), na.Layout([group]))["0"]
    means = model[:2](x).abs().mean(dim=0)
    torch.testing.assert_close(score, means / means.mean())


def test_the_forms_of_outputs_with_a_time_axis():
    model, x = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(7, 3, 5)
    outputs = model[:2](x).detach()
    forms = {
        "... neuron": outputs,
        "batch time neuron": outputs,
        "batch neuron": outputs.flatten(0, 1),
        "neuron batch": outputs.flatten(0, 1).T,
        "... (neuron dim)": outputs.transpose(1, 2).flatten(1),
        "batch neuron time": outputs.movedim(2, 1),
    }
    assert_form(model, x, "0", forms)


def convolution(after):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), *after)


@pytest.mark.parametrize("after", [[nn.Conv2d(6, 3, 2)], [nn.Identity()]], ids=["read by another", "a head"])
def test_the_forms_of_a_convolutions_outputs(after):
    model, x = convolution(after), torch.randn(7, 1, 5, 6)
    maps = model[:2](x).detach()
    last = maps.movedim(1, -1)
    forms = {
        "batch neuron ...": maps,
        "batch neuron h w": maps,
        "batch h w neuron": last,
        "... neuron": last,
        "batch time neuron": last.flatten(1, 2),
        "neuron batch": last.flatten(0, 2).T,
        "batch neuron": last.flatten(0, 2),
        "... (neuron dim)": last.transpose(2, 3).flatten(2),
    }
    assert_form(model, x, "0", forms)


def test_the_forms_of_a_flattened_convolutions_outputs():
    model, x = convnet(), torch.randn(7, 1, 8, 8)
    maps = model[0](x).detach().flatten(2)
    forms = {
        "batch neuron ...": maps,
        "batch h w neuron": maps.movedim(1, -1)[:, :, None],
        "... neuron": maps.movedim(1, -1),
        "neuron batch": maps.movedim(1, 0).flatten(1),
    }
    assert_form(model, x, "0.0", forms)


class Attention(nn.Module):
    """Two heads of three channels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v, self.o = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 4)

    def inside(self, x):
        heads = [layer(x).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (self.q, self.k, self.v)]
        return nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)

    def forward(self, x):
        return self.o(self.inside(x))


def test_the_forms_of_attention_heads():
    model, x = Attention(), torch.randn(7, 3, 5)
    views = {part: (f"{part[0]}.weight", "(neuron dim) in") for part in ("query", "key", "value")}
    group = na.attention("heads", heads=2, **views, output=("o.weight", "out (neuron dim)"))
    inside = model.inside(x).detach()
    last = inside.unflatten(-1, (2, 3)).transpose(-1, -2)
    forms = {
        "... (neuron dim)": inside,
        "... neuron": last,
        "... neuron dim": inside.unflatten(-1, (2, 3)),
        "batch time neuron": last.flatten(1, 2),
        "batch neuron": last.flatten(0, 2),
        "neuron batch": last.flatten(0, 2).T,
    }
    assert_form(model, x, group, forms)


@pytest.mark.parametrize(("activation", "axes"), [("stack ... neuron", (0, 1, 2)), ("... stack neuron", (1, 0, 2))])
def test_copies_stay_where_the_pattern_says(activation, axes):
    """A layer of copies may have them in front of the samples or behind."""

    class Copies(nn.Module):
        def __init__(self, letters: str) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.weight, self.letters = nn.Parameter(torch.randn(2, 5, 5)), letters

        def forward(self, x):
            return torch.einsum(f"{self.letters}i,sio->{self.letters}o", x, self.weight)

    letters = "sb" if axes[0] == 0 else "bs"
    model, x = nn.Sequential(Copies(letters), nn.ReLU(), Copies(letters)), torch.randn(2, 7, 5).permute(axes)
    weight = ("0.weight", "stack in neuron")
    group = na.dense("0", weight=weight, outgoing=[("2.weight", "stack neuron out")], activation=activation)
    layout = na.Layout([group, na.dense("2", weight=("2.weight", "stack in neuron"), activation=activation)])
    seen = activations(model, x, layout=layout)
    assert torch.equal(seen["0"], model[:2](x))
    assert torch.equal(seen["2"], model(x))
    means = model[:2](x).permute(axes).abs().mean(dim=1)
    torch.testing.assert_close(na.tau_dormant(seen, layout)["0"], means / means.mean(dim=1, keepdim=True))


def test_a_normalisation_over_several_axes_is_read_along_the_first_of_them():
    model, x = nn.LayerNorm([4, 3]), torch.randn(5, 4, 3)
    group = na.norm("norm", scale=("weight", "neuron place"), shift=("bias", "neuron place"))
    assert_form(model, x, group, {"... neuron": model(x).detach().transpose(1, 2)})


def test_the_inside_of_attention_is_not_its_output():
    model, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(3, 4, 8)
    fused, biases = ("in_proj_weight", "(qkv neuron dim) in", {"qkv": 3}), ("in_proj_bias", "(qkv neuron dim)")
    group = na.attention("heads", heads=2, qkv=fused, unscored=[(*biases, {"qkv": 3})])
    assert activations(model, x, x, x, layout=na.Layout([group])) == {"heads": None}


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
