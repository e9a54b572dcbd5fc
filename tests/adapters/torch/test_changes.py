"""What an optimizer trains is looked up at every measurement: frozen, replaced, removed and added parameters."""

import pytest
import torch
from torch import nn, optim

import neuroactivity as na
from neuroactivity_torch import ReGraMa, layout_of
from neuroactivity_torch.changes import fitting_groups
from tests.adapters.torch.models import X, kill, mlp, step, values


def attached(model=None, *, params=None, **options):
    """A model with dead neurons in front of both hidden readers, and what trains it."""
    model = mlp() if model is None else model
    kill(model[0], [2, 9])
    optimizer = optim.SGD(model.parameters() if params is None else params(model), lr=0.1)
    options = {"layout": layout_of(mlp(), X), "tau": 0.0, "every": 1, **options}
    return model, optimizer, ReGraMa(model, optimizer, **options)


def measured(regrama):
    return {group.name: group.reset for group in regrama.last_report.groups}


def test_a_frozen_reader_that_the_optimizer_holds_is_refused_when_attached():
    model = mlp()
    model[2].requires_grad_(False)
    with pytest.raises(ValueError, match=r"group '0': a reset would write parameter '2\.weight', which this optimizer"):
        ReGraMa(model, optim.Adam(model.parameters()), example_inputs=X)


def test_a_reader_that_is_frozen_later_is_not_written_and_named():
    model, optimizer, regrama = attached()
    model[2].requires_grad_(False)
    before = values(model)
    with pytest.warns(na.ActivityWarning, match=r"frozen: 2\.weight, 2\.bias; no longer measured: 2; .* reset: 0\)"):
        step(model, optimizer, X)
    assert torch.equal(model[2].weight, before["2.weight"])
    assert torch.equal(model[0].weight[[2, 9]], before["0.weight"][[2, 9]])
    assert measured(regrama) == {"0": 0, "4": 0}
    assert regrama.last_report["0"].inactive == 2
    model[2].requires_grad_(True)
    with pytest.warns(na.ActivityWarning, match=r"trained now: 2\.weight, 2\.bias\)"):
        step(model, optimizer, X)
    assert regrama.last_report["0"].reset == 2


def test_nothing_is_measured_where_all_is_frozen():
    model, optimizer, regrama = attached()
    model(X).square().mean().backward()
    model.requires_grad_(False)
    with pytest.warns(na.ActivityWarning, match="frozen: 0.weight"):
        optimizer.step()
    assert regrama.last_report.absent == ("0", "2", "4")
    assert (regrama.steps, regrama.measurements, regrama.resets) == (1, 1, 0)


def test_a_replaced_parameter_that_the_optimizer_does_not_hold_is_named_and_left_alone():
    model, optimizer, regrama = attached()
    model[0].weight = nn.Parameter(torch.zeros(16, 5))
    with pytest.warns(na.ActivityWarning, match=r"replaced, and not in the optimizer: 0\.weight; .* measured: 0"):
        step(model, optimizer, X)
    assert (model[0].weight == 0).all()
    assert regrama.last_report.absent == ("0",)


def test_a_replaced_parameter_that_the_optimizer_holds_is_measured_and_reset():
    model, optimizer, regrama = attached()
    model[0] = nn.Linear(5, 16)
    kill(model[0], [3])
    optimizer.param_groups[0]["params"] = list(model.parameters())
    with pytest.warns(na.ActivityWarning, match=r"\(replaced: 0\.weight, 0\.bias\)"):
        step(model, optimizer, X)
    assert regrama.last_report["0"].reset == 1
    assert (model[2].weight[:, 3] == 0).all()
    assert (model[0].weight[3] != 0).all()


@pytest.mark.parametrize("initializer", ["layer", "snapshot"])
def test_a_parameter_group_that_is_added_later_is_measured_and_reset(initializer):
    model, optimizer, regrama = attached(params=lambda m: m[4].parameters(), initializer=initializer)
    assert list(regrama._trained_layout) == ["4"]
    optimizer.add_param_group({"params": [*model[0].parameters(), *model[2].parameters()]})
    with pytest.warns(na.ActivityWarning, match=r"trained now: 0\.weight, 0\.bias, 2\.weight, 2\.bias\)"):
        step(model, optimizer, X)
    assert measured(regrama)["0"] == 2
    assert (model[2].weight[:, [2, 9]] == 0).all()


def test_a_layer_that_is_added_later_is_named_as_in_no_group():
    model, optimizer, regrama = attached()
    model.append(nn.Linear(2, 2))
    optimizer.add_param_group({"params": model[5].parameters()})
    with pytest.warns(na.ActivityWarning, match=r"in no neuron group: 5\.weight, 5\.bias"):
        step(model, optimizer, X)
    assert measured(regrama)["0"] == 2


def test_a_parameter_that_is_gone_leaves_its_group_unmeasured():
    model, optimizer, regrama = attached()
    model[0].bias = None
    before = values(model)
    with pytest.warns(na.ActivityWarning, match=r"no longer in the model: 0\.bias; no longer measured: 0\)"):
        step(model, optimizer, X)
    assert torch.equal(model[0].weight[2], before["0.weight"][2])
    assert regrama.last_report.absent == ("0",)


@pytest.mark.parametrize("initializer", ["layer", "snapshot"])
def test_layers_of_another_size_are_measured_and_reset(initializer):
    model, optimizer, regrama = attached(initializer=initializer)
    model[0], model[2] = nn.Linear(5, 8), nn.Linear(8, 16)
    kill(model[0], [1])
    optimizer.param_groups[0]["params"] = list(model.parameters())
    with pytest.warns(na.ActivityWarning, match=r"replaced: 0\.weight, 0\.bias, 2\.weight, 2\.bias\)"):
        step(model, optimizer, X)
    assert measured(regrama)["0"] == 1
    assert (model[2].weight[:, 1] == 0).all()


def test_nothing_is_said_while_nothing_changes(recwarn):
    model, optimizer, regrama = attached()
    for _ in range(3):
        step(model, optimizer, X)
    assert regrama.measurements == 3
    assert not [warning for warning in recwarn.list if "resets do not last" not in str(warning.message)]


def expanded(model):
    model[2].bias = nn.Parameter(torch.zeros(1).expand(16))


def tied_by_memory(model):
    model[2].weight = nn.Parameter(torch.ones(16, 16))
    model[4].weight = nn.Parameter(model[2].weight.data[:2])


def partly_tied_by_memory(model):
    """Rows of one matrix, one of which is in both."""
    rows = torch.randn(17, 16)
    model[2].weight, model[4].weight = nn.Parameter(rows[:16]), nn.Parameter(rows[15:])


@pytest.mark.parametrize("axis", [0, 1])
def test_parameters_that_lie_side_by_side_in_memory_are_none_that_share_it(axis):
    model, whole = mlp(outputs=16), torch.randn(32, 32) * 0.15
    for layer, part in zip((model[2], model[4]), whole.narrow(1 - axis, 0, 16).chunk(2, axis), strict=True):
        layer.weight = nn.Parameter(part)
    kill(model[0], [2, 9])
    regrama = ReGraMa(model, optim.Adam(model.parameters()), layout=layout_of(mlp(), X), tau=0.0, every=1)
    step(model, regrama.optimizer, X)
    assert regrama.last_report["0"].reset == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (expanded, r"parameter '2\.bias': its entries share memory, as in an expanded tensor; clone it first"),
        (partly_tied_by_memory, r"parameter '2\.weight' shares its memory with '4\.weight', but is another parameter"),
        (tied_by_memory, r"parameter '2\.weight' shares its memory with '4\.weight', but is another parameter"),
    ],
)
def test_parameters_that_cannot_be_written_row_by_row_are_refused_when_attached(change, message):
    model = mlp()
    change(model)
    optimizer = optim.Adam(model.parameters())
    with pytest.raises(ValueError, match=message):
        ReGraMa(model, optimizer, layout=layout_of(mlp(), X))
    assert ReGraMa(model, optimizer, layout=layout_of(mlp(), X), max_fraction=0).steps == 0


def test_parameters_outside_the_model_are_remarked():
    critic, other = mlp(outputs=1), mlp()
    optimizer = optim.Adam([*critic.parameters(), *other.parameters()])
    regrama = ReGraMa(critic, optimizer, example_inputs=X)
    remark = (
        "proved: feeds nothing else in Sequential; the optimizer also trains 6 parameters outside it: give readers= if "
        "they read it"
    )
    assert remark in regrama.layout.describe()
    regrama.detach()
    again = ReGraMa(critic, optimizer, layout=na.Layout.from_dict(regrama.state_dict()["layout"]))
    assert again.layout == regrama.layout
    own = ReGraMa(critic, optim.Adam(critic.parameters()), example_inputs=X)
    assert "outside" not in own.layout.describe()


def test_groups_that_no_longer_fit_are_nobody_s_partners():
    listed = [("a", ["b", "gone"]), ("b", ["a"]), ("gone", ["a"])]
    layout = na.Layout([na.NeuronGroup(name, [(name, "neuron in")], partners=partners) for name, partners in listed])
    left = fitting_groups(layout, {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3), "gone": torch.zeros(2)})
    assert {name: group.partners for name, group in left.items()} == {"a": ("b",), "b": ("a",)}


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("initializer", ["layer", "snapshot"])
def test_a_layer_that_grows_in_place_is_measured_and_reset_as_it_is(initializer):
    model, optimizer, regrama = attached(initializer=initializer)
    step(model, optimizer, X)
    for parameter, rows, axis in ((model[0].weight, torch.zeros(2, 5), 0), (model[2].weight, torch.ones(16, 2), 1)):
        parameter.data = torch.cat([parameter.data, rows], axis)
    model[0].bias.data = torch.cat([model[0].bias.data, -torch.ones(2)])
    for parameter in model.parameters():
        parameter.grad = None
    with pytest.warns(na.ActivityWarning, match=r"of another shape: 0\.weight, 0\.bias, 2\.weight\)"):
        step(model, optimizer, X)
    assert regrama.last_report["0"].neurons == 18
    assert not model[2].weight[:, 16:].any()
    assert model[0].weight[16:].any(1).all()


def trunk_and_heads():
    """Two networks that share a trunk."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
    return nn.Sequential(trunk, nn.Linear(8, 2)), nn.Sequential(trunk, nn.Linear(8, 1))


@pytest.mark.sampled(2)
@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("trained", [slice(None), slice(1, None)])
@pytest.mark.parametrize("order", [1, -1])
def test_a_reader_that_another_wrapper_knows_is_not_forgotten(trained, order):
    """Whether or not the second network's optimizer trains the trunk too, and whichever wrapper is made first."""
    critic, actor = trunk_and_heads()
    pairs = [(critic, optim.Adam(critic.parameters())), (actor, optim.Adam(actor[trained].parameters()))][::order]
    first = ReGraMa(*pairs[0], example_inputs=X)
    with pytest.raises(ValueError, match=r"group '0\.0': its neurons are read by '1\.weight' of Sequential too"):
        ReGraMa(*pairs[1], example_inputs=X)
    first.detach()
    for (model, optimizer), (other, _) in zip(pairs, pairs[::-1], strict=True):
        ReGraMa(model, optimizer, layout=layout_of(model, X, readers=[other]))


def test_a_new_optimizer_may_take_over_before_the_old_wrapper_is_detached():
    model, _, regrama = attached()
    again = ReGraMa(model, optim.Adam(model.parameters()), layout=regrama.layout, every=1)
    step(model, again.optimizer, X)
    assert (regrama.steps, again.steps) == (0, 1)


@pytest.mark.counts(faults=1)
def test_a_parameter_that_two_of_the_optimizers_train_is_refused():
    model = mlp()
    optimizers = [optim.Adam(model.parameters()), optim.SGD(model[0].parameters())]
    with pytest.raises(ValueError, match=r"optimizer: expected each parameter in one of several, got '0\.weight' in 2"):
        ReGraMa(model, optimizers, example_inputs=X)
