"""ReGraMa and ReDo: what they measure and what they reset."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn, optim

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa, gradients, layout_of
from tests.adapters.torch.models import IMAGES, TwoHeaded, X, convnet, kill, mlp, step, values


def test_dead_neurons_are_found_and_reset_and_the_others_left_alone():
    model = mlp()
    kill(model[0], [2, 9])
    optimizer = optim.Adam(model.parameters())
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.0, every=2)
    plain = copy.deepcopy(model)
    plain_optimizer = optim.Adam(plain.parameters())
    for _ in range(2):
        step(model, optimizer, X)
        step(plain, plain_optimizer, X)
    dead = na.reset_masks(na.grama(gradients(plain), layout_of(plain, X)), tau=0.0)
    assert dead["0"].nonzero().flatten().tolist() == [2, 9]
    assert regrama.neurons_reset == sum(int(dead[name].sum()) for name in ("0", "2"))
    assert (regrama.steps, regrama.measurements, regrama.resets) == (2, 1, 1)
    assert (model[0].weight[dead["0"]] != plain[0].weight[dead["0"]]).all()
    assert torch.equal(model[0].weight[~dead["0"]], plain[0].weight[~dead["0"]])
    assert (model[2].weight[:, dead["0"]] == 0).all()
    assert (optimizer.state[model[0].weight]["exp_avg_sq"][dead["0"]] == 0).all()
    assert torch.equal(model[4].bias, plain[4].bias)


ACTIVATIONS = {
    mlp: {"0": "1", "2": "3"},
    convnet: {"0.0": "0.1", "2.0": "2.1"},
    TwoHeaded: {"trunk.0": "trunk.1", "trunk.2": "trunk.3"},
}
"""For each model the module behind which each group's neurons can be silenced."""


@pytest.mark.parametrize("make", ACTIVATIONS)
def test_a_reset_computes_what_ablation_computes(make):
    """Neurons that feed a plain next layer: the network after a reset is the network with those neurons silenced."""
    model = make().double()
    x = (IMAGES if make is convnet else X).double()
    layout = layout_of(model, x)
    ablated = copy.deepcopy(model)
    step(ablated, optim.SGD(ablated.parameters(), lr=0.01), x)
    masks = na.reset_masks(na.grama(gradients(ablated), layout), tau=0.8)
    for group, module in ACTIVATIONS[make].items():
        keep = ~masks[group].reshape(-1, *([1, 1] if group == "0.0" else []))
        ablated.get_submodule(module).register_forward_hook(lambda module, args, output, keep=keep: output * keep)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    regrama = ReGraMa(model, optimizer, layout=layout, tau=0.8, every=1)
    step(model, optimizer, x)
    assert regrama.neurons_reset == sum(int(masks[group].sum()) for group in ACTIVATIONS[make]) > 5
    torch.testing.assert_close(model(x), ablated(x), rtol=1e-14, atol=1e-15)


def test_twin_critics_under_one_optimizer():
    """Published fault 8: each wrapper resets its own critic and clears that critic's state."""
    critics = [mlp(seed=1, outputs=1), mlp(seed=2, outputs=1)]
    kill(critics[1][0], [4])
    parameters = [p for critic in reversed(critics) for p in reversed(list(critic.parameters()))]
    optimizer = optim.Adam(parameters)
    wrappers = [
        ReGraMa(critic, optimizer, example_inputs=X, tau=0.0, every=1, seed=i) for i, critic in enumerate(critics)
    ]
    with torch.no_grad():
        critics[0][0].weight.abs_()
        critics[0][0].bias.fill_(9.0)
        critics[0][2].weight.abs_()
    sum(critic(X).square().mean() for critic in critics).backward()
    optimizer.step()
    assert wrappers[0].last_report["0"].reset == 0
    assert wrappers[1].last_report["0"].reset >= 1
    assert (critics[1][2].weight[:, 4] == 0).all()
    assert (optimizer.state[critics[1][2].weight]["exp_avg"][:, 4] == 0).all()
    assert (optimizer.state[critics[0][2].weight]["exp_avg"][:, 4] != 0).any()


def test_the_actors_backward_pass_does_not_pollute_the_critics_scores():
    """Published fault 11."""
    critic, actor = mlp(seed=1, inputs=7, outputs=1), mlp(seed=2, outputs=2)
    critic_optimizer, actor_optimizer = optim.Adam(critic.parameters()), optim.Adam(actor.parameters())
    regrama = ReGraMa(critic, critic_optimizer, example_inputs=torch.zeros(8, 7), every=1, max_fraction=0.0)
    critic_optimizer.zero_grad()
    critic(torch.cat([X, X[:, :2]], dim=-1)).square().mean().backward()
    clean = {name: gradient.clone() for name, gradient in gradients(critic).items()}
    critic_optimizer.step()
    actor_optimizer.zero_grad()
    (-critic(torch.cat([X, actor(X)], dim=-1))).mean().backward()
    actor_optimizer.step()
    polluted = na.grama(gradients(critic), regrama.layout)["0"]
    expected = na.grama(clean, regrama.layout)["0"]
    assert regrama.last_report["0"].lowest == pytest.approx(expected.min().item())
    assert polluted.min().item() != pytest.approx(expected.min().item())


def test_heads_and_groups_of_other_optimizers_are_left_alone():
    model = TwoHeaded()
    optimizer = optim.Adam([*model.trunk[2].parameters(), *model.mean.parameters(), *model.log_std.parameters()])
    regrama = ReGraMa(model, optimizer, layout=model.layout(), tau=100.0, every=1)
    before = values(model)
    step(model, optimizer, X)
    assert regrama.last_report.absent == ("trunk.0",)
    assert torch.equal(model.trunk[0].weight, before["trunk.0.weight"])
    assert regrama.last_report["mean"].reset == 0
    assert regrama.last_report["trunk.2"].reset == 12
    assert (model.mean.weight == 0).all()
    assert (model.mean.bias != 0).any()


def test_at_most_a_fraction_is_reset():
    model = mlp()
    optimizer = optim.Adam(model.parameters())
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.9, max_fraction=0.2, every=1)
    step(model, optimizer, X)
    assert regrama.last_report["0"].inactive > 3
    assert [regrama.last_report[name].reset for name in ("0", "2", "4")] == [3, 3, 0]


def test_nan_gradients_reset_nothing_and_warn_once():
    """Published fault 1, and one warning for all measurements."""
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.5, every=1)
    start = values(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", ".*resets do not last")
        for _ in range(3):
            model.load_state_dict(start)
            optimizer.zero_grad()
            model(X).sum().backward()
            model[0].weight.grad[1, 1] = math.nan
            optimizer.step()
    assert [w.category for w in caught] == [na.ActivityWarning]
    assert "0 (not finite: NaN or Inf)" in str(caught[0].message)
    assert regrama.last_report["0"].reset == 0
    assert regrama.measurements == 3


def test_a_frozen_layer_is_left_out():
    model = mlp()
    model[0].requires_grad_(False)
    before = values(model)
    optimizer = optim.Adam(model.parameters())
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=100.0, every=1)
    step(model, optimizer, X)
    assert regrama.last_report.absent == ("0",)
    assert torch.equal(model[0].weight, before["0.weight"])


@pytest.mark.parametrize(("wrapper", "options"), [(ReGraMa, {}), (ReDo, {"probe": lambda: X})])
def test_a_measurement_leaves_no_trace(wrapper, options):
    """Published fault 9."""
    model = mlp()
    model[1].eval()
    optimizer = optim.Adam(model.parameters())
    wrapper(model, optimizer, example_inputs=X, tau=0.7, every=1, **options)
    model(X).square().mean().backward()
    kept = {name: gradient.clone() for name, gradient in gradients(model).items()}
    generator = torch.get_rng_state()
    optimizer.step()
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(gradient, kept[name]) for name, gradient in gradients(model).items())
    assert [module.training for module in model] == [True, False, True, True, True]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_bfloat16_parameters_keep_their_dtype():
    model = mlp().bfloat16()
    optimizer = optim.Adam(model.parameters())
    regrama = ReGraMa(model, optimizer, example_inputs=X.bfloat16(), tau=0.7, every=1)
    step(model, optimizer, X.bfloat16())
    assert regrama.neurons_reset > 0
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in optimizer.state[model[0].weight].values() if value.ndim} == {torch.bfloat16}


def test_redo_finds_planted_dormant_neurons_and_probes_only_when_due():
    model, probes = mlp(), []
    kill(model[0], [3, 5])
    optimizer = optim.SGD(model.parameters(), lr=0.0)

    def probe() -> torch.Tensor:
        probes.append(redo.steps)
        return X

    redo = ReDo(model, optimizer, example_inputs=X, tau=0.0, every=2, probe=probe)
    for _ in range(5):
        step(model, optimizer, X)
    assert probes == [2, 4]
    assert redo.last_report["0"].reset == 0, "they were reset at the first measurement"
    assert redo.neurons_reset >= 2
    assert (model[2].weight[:, [3, 5]] == 0).all()


def test_redo_is_blind_where_gradients_have_died_behind_a_saturated_tanh():
    model = mlp(activation=nn.Tanh)
    with torch.no_grad():
        model[0].weight[:4] = 0.0
        model[0].bias[:4] = 50.0  # output 1, derivative 0
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.0, every=1, max_fraction=0.0)
    redo = ReDo(model, optimizer, example_inputs=X, tau=0.02, every=1, max_fraction=0.0, probe=lambda: (X,))
    step(model, optimizer, X)
    assert regrama.last_report["0"].inactive == 4
    assert redo.last_report["0"].inactive == 0
