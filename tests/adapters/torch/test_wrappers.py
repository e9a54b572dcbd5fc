"""ReGraMa and ReDo on the optimizer's step."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn, optim

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa, gradients, layout_of, parameters
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


def test_measurements_fall_on_every_nth_step():
    model, due = mlp(), []
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    regrama = ReGraMa(
        model, optimizer, example_inputs=X, every=3, max_fraction=0.0, on_report=lambda _: due.append(regrama.steps)
    )
    for _ in range(10):
        step(model, optimizer, X)
    assert due == [3, 6, 9]


def test_a_closure_is_measured_with_the_gradients_of_its_step():
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1, max_fraction=0.0)
    model(torch.zeros(3, 5)).sum().backward()  # stale

    def closure():
        optimizer.zero_grad()
        loss = model(X).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = na.grama(gradients(model), regrama.layout)["0"]
    assert regrama.last_report["0"].highest == pytest.approx(expected.max().item())


def test_a_step_that_gradient_scaling_called_off_is_no_step():
    model = mlp()
    optimizer = optim.Adam(model.parameters(), fused=True)
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1)
    model(X).sum().backward()
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert (regrama.steps, regrama.last_report) == (0, None)


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


def test_a_reset_that_would_write_into_another_optimizers_parameter_is_refused():
    model = TwoHeaded()
    optimizer = optim.Adam([*model.trunk.parameters(), *model.mean.parameters()])
    with pytest.raises(
        ValueError, match=r"group 'trunk\.2': a reset would write parameter 'log_std\.weight', which this"
    ):
        ReGraMa(model, optimizer, layout=model.layout())
    assert not optimizer._optimizer_step_post_hooks


def test_another_models_optimizer_is_refused():
    with pytest.raises(ValueError, match="the optimizer trains none of the model's neuron groups"):
        ReGraMa(mlp(), optim.Adam(mlp().parameters()), example_inputs=X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every: expected a whole number of steps of 1 or more, got 0"),
        ({"tau": -1.0}, "tau: expected a finite number of 0 or more, got -1.0"),
        ({"tau": math.nan}, "tau: expected a finite number"),
        ({"max_fraction": 1.5}, r"max_fraction: expected a number in \[0, 1\] or None, got 1.5"),
        ({"initializer": "orthogonal"}, "initializer: expected 'layer'"),
        ({"layout": na.Layout([na.dense("a", weight=("nope", "neuron in"))])}, "parameter 'nope' is missing"),
        ({"layout": na.Layout([na.dense("a", weight=("0.bias", "neuron in"))])}, "expected 2 axes, got shape"),
    ],
)
def test_bad_options_are_refused_before_anything_is_attached(options, message):
    model = mlp()
    optimizer = optim.Adam(model.parameters())
    with pytest.raises(ValueError, match=message):
        ReGraMa(model, optimizer, example_inputs=X, **options)
    assert not optimizer._optimizer_step_post_hooks


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


@pytest.mark.parametrize("initializer", ["layer", "snapshot"])
def test_resumed_equals_uninterrupted(initializer):
    def run(pause: int | None):
        model = mlp(activation=nn.Tanh)
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        options = {"tau": 0.6, "every": 2, "seed": 3, "initializer": initializer}
        regrama = ReGraMa(model, optimizer, example_inputs=X, **options)
        for i in range(8):
            if i == pause:
                state = copy.deepcopy((model.state_dict(), optimizer.state_dict(), regrama.state_dict()))
                model = mlp(seed=5, activation=nn.Tanh)
                optimizer = optim.Adam(model.parameters(), lr=0.05)
                regrama = ReGraMa(model, optimizer, example_inputs=X, **options)
                for part, saved in zip((model, optimizer, regrama), state, strict=True):
                    part.load_state_dict(saved)
            step(model, optimizer, X)
        return model, regrama

    (model, regrama), (resumed, again) = run(None), run(5)
    assert regrama.resets >= 3
    assert all(torch.equal(value, values(resumed)[name]) for name, value in values(model).items())
    assert again.state_dict().keys() == regrama.state_dict().keys()
    assert again.neurons_reset == regrama.neurons_reset


def test_a_state_of_another_form_is_refused():
    model = mlp()
    regrama = ReGraMa(model, optim.Adam(model.parameters()), example_inputs=X)
    with pytest.raises(ValueError, match=r"state: expected the keys \['measurements'"):
        regrama.load_state_dict({"steps": 3})
    snapshot = ReGraMa(model, optim.Adam(model.parameters()), example_inputs=X, initializer="snapshot").state_dict()
    with pytest.raises(ValueError, match="snapshot does not hold the parameters"):
        regrama.load_state_dict(snapshot)
    assert regrama.steps == 0


def test_equal_seeds_write_equal_values_whatever_the_global_generator_does():
    weights = []
    for noise in (1, 2):
        model = mlp()
        optimizer = optim.Adam(model.parameters())
        torch.manual_seed(noise)
        ReGraMa(model, optimizer, example_inputs=X, tau=0.7, every=1, seed=4)
        step(model, optimizer, X)
        weights.append(model[0].weight.detach().clone())
    assert torch.equal(*weights)


def test_every_reset_draws_anew():
    model, keys = mlp(), []

    def initializer(key: int) -> dict[str, torch.Tensor]:
        keys.append(key)
        return parameters(mlp(seed=len(keys)))

    optimizer = optim.SGD(model.parameters(), lr=0.0)
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.7, every=1, max_fraction=0.2, initializer=initializer)
    for _ in range(3):
        step(model, optimizer, X)
    assert regrama.resets == 3
    assert len(set(keys)) == len(keys) == 4  # one to check the initializer, one a reset


def test_a_measurement_leaves_no_trace():
    """Published fault 9."""
    model = mlp()
    model[1].eval()
    optimizer = optim.Adam(model.parameters())
    ReGraMa(model, optimizer, example_inputs=X, tau=0.7, every=1)
    ReDo(model, optimizer, example_inputs=X, tau=0.7, every=1, probe=lambda: X)
    model(X).square().mean().backward()
    kept = {name: gradient.clone() for name, gradient in gradients(model).items()}
    generator = torch.get_rng_state()
    optimizer.step()
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(gradient, kept[name]) for name, gradient in gradients(model).items())
    assert [module.training for module in model] == [True, False, True, True, True]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_detach_leaves_the_optimizer():
    model = mlp()
    optimizer = optim.Adam(model.parameters())
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1)
    regrama.detach()
    step(model, optimizer, X)
    assert regrama.steps == 0
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_a_compiled_step_is_measured():
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.7, every=1)
    compiled = torch.compile(optimizer.step, backend="eager")
    model(X).square().mean().backward()
    compiled()
    assert regrama.neurons_reset > 0


def test_bfloat16_parameters_keep_their_dtype():
    model = mlp().bfloat16()
    optimizer = optim.Adam(model.parameters())
    regrama = ReGraMa(model, optimizer, example_inputs=X.bfloat16(), tau=0.7, every=1)
    step(model, optimizer, X.bfloat16())
    assert regrama.neurons_reset > 0
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in optimizer.state[model[0].weight].values() if value.ndim} == {torch.bfloat16}


def test_a_failing_initializer_leaves_everything_as_the_step_left_it():
    model, calls = mlp(), []

    def initializer(key: int) -> dict[str, torch.Tensor]:
        calls.append(key)
        if len(calls) > 1:
            raise RuntimeError("no fresh values today")
        return {name: torch.zeros_like(p) for name, p in model.named_parameters()}

    optimizer = optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.7, every=1, initializer=initializer)
    before = values(model)
    with pytest.raises(RuntimeError, match="no fresh values today"):
        step(model, optimizer, X)
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())
    assert regrama.neurons_reset == 0


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
