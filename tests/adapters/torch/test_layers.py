"""Which layer has which groups, and what a user's rule says before them."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import neuroactivity as na
from neuroactivity_torch import layout_of
from neuroactivity_torch.layers import list_groups, resting_statistics
from tests.adapters.torch.models import X, mlp


def test_a_rule_is_asked_first_for_every_parameter():
    asked = []

    def rule(name, value):
        asked.append((name, tuple(value.shape)))

    assert list_groups(mlp(), rule=rule) == list_groups(mlp())
    assert asked == [(name, tuple(value.shape)) for name, value in mlp().named_parameters()]


def test_a_rule_overrides_a_known_layer():
    """The layer is known no more, and the groups stand in the order of the parameters."""

    def rule(name, value):
        return na.dense("mine", weight=(name, "neuron in"), bias="2.bias") if name == "2.weight" else None

    layout = layout_of(mlp(), X, rule=rule)
    plain = layout_of(mlp(), X)
    assert list(layout) == ["0", "mine", "4"]
    assert layout["mine"] == replace(plain["2"], name="mine")
    assert (layout["0"], layout["4"]) == (plain["0"], plain["4"])


def test_a_rule_is_not_asked_of_what_it_has_taken():
    asked = []

    def rule(name, value):
        asked.append(name)
        return na.dense("mine", weight=(name, "neuron in"), bias="0.bias") if name == "0.weight" else None

    assert [group.name for group in list_groups(mlp(), rule=rule)] == ["mine", "2", "4"]
    assert asked == ["0.weight", "2.weight", "2.bias", "4.weight", "4.bias"]


def test_a_rule_that_takes_a_fused_projection_takes_its_channels():
    model = nn.MultiheadAttention(8, 2)

    def rule(name, value):
        return na.dense("all", weight=(name, "neuron in")) if name == "in_proj_weight" else None

    assert [group.name for group in list_groups(model)] == ["query", "key", "value", "out_proj"]
    assert [group.name for group in list_groups(model, rule=rule)] == ["all", "out_proj"]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_neurons_of_attention(fused, bias):
    widths = {} if fused else {"kdim": 6, "vdim": 10}
    model = nn.MultiheadAttention(8, 2, bias=bias, **widths)
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    channels = list_groups(model)[:3]
    assert [group.name for group in channels] == ["query", "key", "value"]
    assert [group.bind(shapes).shape for group in channels] == [(8,)] * 3
    (heads, _) = list_groups(model, attention="heads")
    assert heads.bind(shapes).shape == (2,)
    assert len(heads.incoming) == (1 if fused else 3)
    assert [len(group.unscored) for group in (*channels, heads)] == [int(bias)] * 4
    grads = {name: torch.randn(shape) for name, shape in shapes.items()}
    weights = grads["in_proj_weight"].split(8) if fused else [grads[f"{part}_proj_weight"] for part in "qkv"]
    means = weights[1].abs().mean(dim=1)
    torch.testing.assert_close(na.grama(grads, na.Layout(channels))["key"], means / means.mean())
    sums = sum(weight.abs().reshape(2, -1).sum(dim=1) for weight in weights)
    torch.testing.assert_close(na.grama(grads, na.Layout([heads]))[heads.name], sums / sums.mean())


def own_views(module):
    """Parameters and patterns by group."""
    return {
        group.name: [(view.param, view.pattern) for view in group.incoming + group.unscored]
        for group in list_groups(module)
    }


def module_of(name, **shapes):
    """A module of a class of this name, with parameters of these shapes."""
    module = type(name, (nn.Module,), {})()
    for parameter, shape in shapes.items():
        module.register_parameter(parameter, nn.Parameter(torch.ones(shape)))
    return nn.Sequential(module)


@pytest.mark.parametrize(
    ("name", "shapes", "expected"),
    [
        ("LlamaRMSNorm", {"weight": (8,)}, [("0.weight", "neuron")]),
        ("T5LayerNorm", {"weight": (8,)}, [("0.weight", "neuron")]),
        ("BatchRenorm1d", {"scale": (8,), "bias": (8,)}, [("0.scale", "neuron"), ("0.bias", "neuron")]),
        ("LayerNorm2d", {"gamma": (8,), "beta": (8,)}, [("0.gamma", "neuron"), ("0.beta", "neuron")]),
        ("ActNormalization", {"scale": (8,), "shift": (8,)}, [("0.scale", "neuron"), ("0.shift", "neuron")]),
        ("Conv1D", {"weight": (4, 8), "bias": (8,)}, [("0.weight", "in neuron"), ("0.bias", "neuron")]),
        (
            "NoisyDense",
            {"weight_mu": (8, 4), "weight_sigma": (8, 4), "bias_mu": (8,), "bias_sigma": (8,)},
            [
                *[("0.weight_mu", "neuron in"), ("0.weight_sigma", "neuron in")],
                *[("0.bias_mu", "neuron"), ("0.bias_sigma", "neuron")],
            ],
        ),
        (
            "NoisyConv",
            {"mu_w": (8, 4, 3, 3), "sigma_w": (8, 4, 3, 3)},
            [("0.mu_w", "neuron in h w"), ("0.sigma_w", "neuron in h w")],
        ),
        (
            "NoisyFlax",
            {"mu_kernel": (4, 8), "sigma_kernel": (4, 8), "mu_bias": (8,), "sigma_bias": (8,)},
            [
                *[("0.mu_kernel", "in neuron"), ("0.sigma_kernel", "in neuron")],
                *[("0.mu_bias", "neuron"), ("0.sigma_bias", "neuron")],
            ],
        ),
    ],
)
def test_layers_of_any_library_are_known_by_names_and_shapes(name, shapes, expected):
    assert own_views(module_of(name, **shapes)) == {"0": expected}


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("LayerScale", {"gamma": (8,)}),
        ("ScaleNorm", {"scale": (1,)}),
        ("Normal", {"scale": (8,)}),
        ("PositionNorm", {"weight": (8,), "bias": (4,)}),
        ("FilmNorm", {"weight": (8,), "bias": (8,), "gate": (8,)}),
        ("Tokens", {"cls": (1, 1, 8), "pos_embed": (1, 6, 8), "latents": (6, 8), "log_std": (6, 8)}),
    ],
)
def test_features_with_factors_tokens_and_positions_are_neither_listed_nor_warned_of(name, shapes):
    assert own_views(module_of(name, **shapes)) == {}


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (module_of("Mix", theta=(4, 8)), r"0 \(Mix: theta \(4, 8\)\)"),
        (nn.Sequential(nn.Bilinear(3, 4, 5)), r"0 \(Bilinear: weight \(5, 3, 4\)\)"),
        (nn.Sequential(nn.LSTM(3, 4, proj_size=2)), r"0 \(LSTM: weight_ih_l0 \(16, 3\)"),
        (module_of("Conv1D", weight=(4, 8)), r"0 \(Conv1D: weight"),
        (nn.Sequential(nn.ParameterList([torch.ones(4, 8)])), r"0 \(ParameterList: 0 \(4, 8\)\)"),
    ],
)
def test_modules_with_trained_weights_in_no_group_are_named_once(model, named):
    with pytest.warns(na.ActivityWarning, match=f"no neuron group has the trained weights of {named}") as caught:
        list_groups(model)
    assert len(caught) == 1
    list_groups(model.requires_grad_(False))


def test_a_rule_that_lists_them_ends_the_warning():
    model = module_of("Mix", theta=(4, 8))
    assert len(list_groups(model, rule=lambda name, value: na.dense("mix", weight=(name, "in neuron")))) == 1


def test_shared_parameters_and_norms_without_any_are_no_reason_to_warn():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7), nn.LayerNorm(7, elementwise_affine=False))
    model[1].weight = model[0].weight
    model.append(nn.BatchNorm1d(7, affine=False))
    assert [group.name for group in list_groups(model)] == ["0"]


def test_a_pruned_layer_is_measured_and_not_reset():
    model = mlp()
    prune.l1_unstructured(model[2], "weight", 0.3)
    with pytest.warns(na.ActivityWarning, match=r"the weights of 2 are computed from other parameters \(prune\)"):
        layout = layout_of(model, X)
    assert layout["2"].incoming == (na.ParamView("2.weight_orig", "neuron in"),)
    assert layout["0"].outgoing == (na.ParamView("2.weight_orig", "out neuron"),)
    assert [(group.status, group.resettable) for group in layout.values()] == [
        ("exclusive", True), ("exclusive", False), ("head", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "reparametrise",
    [
        lambda lstm: nn.utils.weight_norm(lstm, "weight_hh_l0"),
        lambda lstm: parametrizations.weight_norm(lstm, "weight_hh_l0"),
        lambda lstm: parametrizations.orthogonal(lstm, "weight_hh_l0"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*:FutureWarning")
def test_a_recurrent_layer_with_a_computed_weight_is_named_and_left_out(reparametrise):
    model = nn.Sequential(reparametrise(nn.LSTM(3, 4, num_layers=2)))
    with pytest.warns(na.ActivityWarning, match="the weights of 0 are computed from other parameters") as caught:
        assert [group.name for group in list_groups(model)] == ["0.l1"]
    assert len(caught) == 1


def test_a_spectral_norm_is_not_moved_by_listing():
    model = nn.Sequential(parametrizations.spectral_norm(nn.MultiheadAttention(8, 2), "in_proj_weight"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.warns(na.ActivityWarning, match="the weights of 0 are computed"):
        list_groups(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_integers_are_in_no_group():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].weight = nn.Parameter(torch.ones(2, 4, dtype=torch.int8), requires_grad=False)
    assert [group.name for group in list_groups(model)] == ["0"]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layers_without_neurons_or_without_shapes_are_one_clear_error():
    with pytest.raises(
        na.LayoutError, match=r"group '0': expected neurons, got parameter '0.weight' of shape \(0, 5\)"
    ):
        list_groups(nn.Sequential(nn.Linear(5, 0)))
    with pytest.raises(na.LayoutError, match=r"'0\.weight' has no shape yet: call the model on example"):
        list_groups(nn.Sequential(nn.LazyLinear(4)))


def test_running_statistics_of_foreign_norms_are_brought_to_rest():
    norm = module_of("BatchRenorm", scale=(3,), bias=(3,))
    for name in ("running_mean", "running_var", "steps"):
        norm[0].register_buffer(name, torch.full((3,), 5.0) if name != "steps" else torch.tensor(7))
    resting = resting_statistics(nn.Sequential(norm, nn.BatchNorm1d(3)))
    assert {name: value.tolist() for name, value in resting.items()} == {
        "0.0.running_mean": [0, 0, 0], "0.0.running_var": [1, 1, 1],
    }  # fmt: skip


def test_a_model_may_name_its_parameters_by_a_method_with_fewer_arguments():
    class Names(nn.Sequential):
        def named_parameters(self, prefix="", recurse=True):
            yield from super().named_parameters(prefix, recurse)

    assert [group.name for group in list_groups(Names(nn.Linear(5, 3), nn.Linear(3, 2)))] == ["0", "1"]
