"""Fresh values: from the right distribution, with keys of their own, and none of the user's generators touched."""

import math

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import ReGraMa, layout_of, parameters
from neuroactivity_torch.initializers import FreshValues
from tests.adapters.torch.models import IMAGES, X, convnet, mlp, step, values


def fresh_values(model, initializer="layer", seed=0, layout=None, inputs=X):
    return FreshValues(model, layout or layout_of(model, inputs), initializer, seed=seed)


NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize("initializer", ["layer", "snapshot", lambda key: parameters(mlp_from_global_generator())])
def test_draws_depend_on_seed_event_and_name_alone(initializer):
    model = mlp()
    first = fresh_values(model, initializer).draw(3, NAMES)
    torch.manual_seed(99)
    torch.randn(7)
    again = fresh_values(model, initializer).draw(3, reversed(NAMES))
    assert set(first) == set(NAMES)
    assert all(torch.equal(first[name], again[name]) for name in NAMES)
    for other in (
        fresh_values(model, initializer).draw(4, NAMES),
        fresh_values(model, initializer, seed=1).draw(3, NAMES),
    ):
        assert not any(torch.equal(first[name], other[name]) for name in NAMES)


def mlp_from_global_generator():
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


@pytest.mark.parametrize("initializer", ["layer", "snapshot", lambda key: parameters(mlp_from_global_generator())])
def test_model_and_generator_stay_as_they_were(initializer):
    model = mlp()
    before, generator = values(model), torch.get_rng_state()
    fresh_values(model, initializer).draw(1, NAMES)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_parameters_of_one_shape_draw_different_values():
    """Published fault 13."""
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)), nn.Linear(8, 1))
    names = [f"{i}.weight" for i in range(4)]
    drawn = fresh_values(model, inputs=torch.zeros(4, 8)).draw(1, names)
    assert len({tuple(value.flatten().tolist()) for value in drawn.values()}) == 4


def test_the_layers_own_distribution_is_used():
    """Published fault 12: drawn values fill the layer's own bounds, not sqrt(6) times them."""
    model = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 1))
    bound = 1 / math.sqrt(400)
    drawn = fresh_values(model, inputs=torch.zeros(4, 400)).draw(1, ["0.weight", "0.bias"])
    for value in drawn.values():
        assert value.abs().max() <= bound
        assert value.abs().max() > 0.98 * bound
    assert drawn["0.weight"].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_normalisations_are_fresh_at_one_and_zero_and_keep_their_statistics():
    """Published fault 2: a normalisation under the default initialiser."""
    norms = nn.BatchNorm1d(8), nn.LayerNorm(8)
    model = nn.Sequential(nn.Linear(3, 8), norms[0], nn.Linear(8, 8), norms[1], nn.Linear(8, 1))
    model(torch.randn(8, 3)).sum().backward()
    before = values(model)
    drawn = fresh_values(model, inputs=torch.zeros(8, 3)).draw(1, ["1.weight", "1.bias", "3.weight", "3.bias"])
    assert [value.unique().tolist() for value in drawn.values()] == [[1.0], [0.0], [1.0], [0.0]]
    assert torch.equal(model[1].running_mean, before["1.running_mean"])


def test_a_composite_module_is_not_touched_by_its_own_initialiser():
    """MultiheadAttention's initialiser writes into a child's bias."""
    model = nn.MultiheadAttention(8, 2)
    with torch.no_grad():
        model.out_proj.bias.fill_(7.0)
    fused = ("in_proj_weight", "(qkv neuron dim) in", {"qkv": 3})
    layout = na.Layout([na.attention("attn", heads=2, qkv=fused, output=("out_proj.weight", "out (neuron dim)"))])
    drawn = fresh_values(model, layout=layout).draw(1, ["in_proj_weight"])
    assert drawn["in_proj_weight"].std() > 0.1
    assert (model.out_proj.bias == 7.0).all()


def test_snapshot_rows_come_from_the_start():
    model = convnet()
    start = values(model)
    fresh = fresh_values(model, "snapshot", inputs=IMAGES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    drawn = fresh.draw(1, ["0.0.weight", "2.0.weight", "2.0.bias"])
    rows = {tuple(row.flatten().tolist()) for row in start["0.0.weight"]}
    picked = [tuple(row.flatten().tolist()) for row in drawn["0.0.weight"]]
    assert set(picked) <= rows
    assert picked != [tuple(row.flatten().tolist()) for row in start["0.0.weight"]]


def test_snapshot_keeps_to_the_positions_of_a_fused_parameter():
    model = nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(6.0)[:, None].expand(6, 3))
    even = na.ParamView("0.weight", "neuron in", index=[0, -1, 1, -1, 2, -1])
    odd = na.ParamView("0.weight", "neuron in", index=[-1, 0, -1, 1, -1, 2])
    layout = na.Layout([na.NeuronGroup("even", [even]), na.NeuronGroup("odd", [odd])])
    drawn = fresh_values(model, "snapshot", layout=layout).draw(1, ["0.weight"])["0.weight"][:, 0]
    assert (drawn[::2] % 2 == 0).all()
    assert (drawn[1::2] % 2 == 1).all()


def test_a_snapshot_in_another_layout_of_axes():
    """Rows are taken along the neuron axis, wherever it lies."""
    model = nn.LSTM(3, 4)
    layout = na.Layout([na.recurrent("lstm", input="weight_ih_l0", recurrent="weight_hh_l0", gates=4)])
    start = model.weight_ih_l0.detach().reshape(4, 4, 3).clone()
    drawn = fresh_values(model, "snapshot", layout=layout).draw(1, ["weight_ih_l0"])["weight_ih_l0"].reshape(4, 4, 3)
    for unit in range(4):
        assert any(torch.equal(drawn[:, unit], start[:, source]) for source in range(4))


@pytest.mark.parametrize(
    ("initializer", "message"),
    [
        ("kaiming", "initializer: expected 'layer', 'snapshot' or a function from a key, got 'kaiming'"),
        (lambda key: {}, r"initializer: expected a fresh value for parameter '0\.weight', got nothing"),
        (lambda key: parameters(mlp(width=4)), r"initializer, parameter '0\.weight': expected shape \(16, 5\)"),
    ],
)
def test_a_bad_initializer_is_refused_at_once(initializer, message):
    with pytest.raises(ValueError, match=message):
        fresh_values(mlp(), initializer)


def test_a_seed_that_is_no_whole_number_is_refused():
    with pytest.raises(ValueError, match=r"seed: expected a whole number, got 1\.5"):
        fresh_values(mlp(), seed=1.5)


def test_a_module_without_initialiser_is_refused_at_once():
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

    layout = na.Layout([na.norm("scale", scale="weight")])
    with pytest.raises(ValueError, match=r"parameter 'weight': Scale has no reset_parameters\(\).*use .*'snapshot'"):
        fresh_values(Scale(), layout=layout)
    assert fresh_values(Scale(), "snapshot", layout=layout).draw(1, ["weight"])["weight"].tolist() == [1.0] * 3


def test_what_an_initialiser_leaves_alone_is_not_made_up():
    class Half(nn.Linear):
        def reset_parameters(self):
            nn.init.zeros_(self.bias)

    model = nn.Sequential(Half(3, 8), nn.ReLU(), nn.Linear(8, 1))
    with pytest.raises(ValueError, match=r"'0.weight': Half.reset_parameters\(\) does not initialise it; use init"):
        ReGraMa(model, torch.optim.SGD(model.parameters()), example_inputs=torch.zeros(4, 3))


def test_a_snapshot_of_an_array_that_groups_share_keeps_to_their_places():
    layer = nn.Linear(2, 7)
    group = na.NeuronGroup("second", [na.ParamView("weight", "neuron in", index=(-1, 0, 0, 0, 1, 1, 1))])
    fresh = fresh_values(layer, "snapshot", seed=1, layout=na.Layout([group]))
    for event in range(4):
        rows = fresh.draw(event, ["weight"])["weight"].tolist()
        places = [layer.weight.tolist().index(row) for row in rows]
        assert places[0] == 0
        assert {tuple(places[1:4]), tuple(places[4:])} <= {(1, 2, 3), (4, 5, 6)}


def test_layers_that_draw_entry_by_entry_are_not_drawn_as_a_whole(monkeypatch):
    fresh = fresh_values(mlp())
    monkeypatch.setattr(fresh, "_draw_whole", lambda event, names: dict.fromkeys(names))
    assert fresh.draw(1, NAMES).keys() == set(NAMES)
    assert set(fresh._schemes) == set(NAMES)


def orthogonal(seed=0):
    """The network of PPO's published codes."""
    model = mlp(seed, width=64)
    for layer in (model[0], model[2], model[4]):
        nn.init.orthogonal_(layer.weight, math.sqrt(2))
        nn.init.zeros_(layer.bias)
    return model


def test_another_scheme_than_the_layers_own_is_warned_of():
    model = orthogonal()
    message = r'another standard deviation than the model.s own: .*2\.weight \(fresh .*use initializer="snapshot"'
    with pytest.warns(na.ActivityWarning, match=message) as caught:
        regrama = ReGraMa(model, torch.optim.Adam(model.parameters()), example_inputs=X)
    assert [warning.filename for warning in caught] == [__file__]
    regrama.detach()
    layout, optimizer = regrama.layout, torch.optim.Adam(model.parameters())
    for initializer in ("snapshot", lambda key: parameters(orthogonal(key % 1000))):
        ReGraMa(model, optimizer, layout=layout, initializer=initializer).detach()
    step(model, optimizer, X)
    ReGraMa(model, optimizer, layout=layout)  # weights in training have any spread


@pytest.mark.parametrize("initializer", ["layer", "snapshot", lambda key: parameters(mlp_from_global_generator())])
def test_a_default_device_changes_nothing(initializer):
    model, twin, layout = mlp(), mlp(), layout_of(mlp(), X)
    for net, device in ((model, "cpu"), (twin, "meta")):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)  # PyTorch 2.5's own Adam fails on meta
        with torch.device(device):
            regrama = ReGraMa(net, optimizer, layout=layout, tau=0.7, every=1, initializer=initializer)
            net(X).square().mean().backward()
            optimizer.step()
        assert regrama.neurons_reset > 0
    assert all(torch.equal(value, values(twin)[name]) for name, value in values(model).items())
