"""The engine of ReGraMa and ReDo: steps, options, seeds, and what a resumed run needs."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn, optim

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa, parameters
from tests.adapters.torch.models import TwoHeaded, X, mlp, step, values


def test_the_first_reset_takes_the_first_draw():
    model = mlp()
    before, optimizer = values(model)["0.weight"], optim.SGD(model.parameters(), lr=0.0)
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1, tau=0.7)
    step(model, optimizer, X)
    reset = (model[0].weight != before).any(1)
    assert 0 < reset.sum() == regrama.last_report["0"].reset
    assert torch.equal(model[0].weight[reset], regrama._fresh.draw(1, ["0.weight"])["0.weight"][reset])


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
        ({"reset_silent": "no"}, "reset_silent: expected True or False, got 'no'"),
        ({"on_report": "print"}, "on_report: expected a function of a report or None, got 'print'"),
        ({"seed": 1.5}, r"seed: expected a whole number, got 1\.5"),
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


@pytest.mark.filterwarnings("ignore:.*resets do not last")
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


@pytest.mark.parametrize("wrapper", [ReGraMa, ReDo])
def test_the_default_seed_is_zero(wrapper):
    def weights(**options):
        model = mlp()
        optimizer = optim.Adam(model.parameters())
        options |= {"probe": lambda: X} if wrapper is ReDo else {}
        resetter = wrapper(model, optimizer, example_inputs=X, tau=0.7, every=1, **options)
        step(model, optimizer, X)
        assert resetter.neurons_reset > 0
        return model[0].weight.detach()

    assert torch.equal(weights(), weights(seed=0))
    assert not torch.equal(weights(), weights(seed=1))


@pytest.mark.parametrize("wrapper", [ReGraMa, ReDo])
def test_an_unknown_option_is_refused_before_anything_is_attached(wrapper):
    model = mlp()
    optimizer = optim.Adam(model.parameters())
    options = {"probe": lambda: X} if wrapper is ReDo else {}
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_fractions'"):
        wrapper(model, optimizer, example_inputs=X, max_fractions=0.1, **options)
    assert not optimizer._optimizer_step_post_hooks


def test_options_are_read_and_set_while_training():
    model, reports = mlp(), []
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.0, every=2, max_fraction=0.2, reset_silent=True)
    assert (regrama.tau, regrama.every, regrama.max_fraction) == (0.0, 2, 0.2)
    assert (regrama.reset_silent, regrama.on_report) == (True, None)
    step(model, optimizer, X)
    assert regrama.measurements == 0
    regrama.tau, regrama.every, regrama.max_fraction, regrama.on_report = 0.9, 1, 1.0, reports.append
    step(model, optimizer, X)
    assert regrama.last_report["0"].reset > 3
    assert reports == [regrama.last_report]
    with pytest.raises(ValueError, match="tau: expected a finite number of 0 or more, got -1"):
        regrama.tau = -1.0
    assert regrama.tau == 0.9


def test_what_outgoing_parameters_become_can_be_set_while_training():
    model, fresh = mlp(), parameters(mlp(seed=7))
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.7, every=1, initializer=lambda key: fresh)
    regrama.outgoing = "fresh"
    step(model, optimizer, X)
    reset = torch.tensor(regrama.last_report["2"].mask[0])
    assert reset.any()
    assert torch.equal(model[4].weight[:, reset], fresh["4.weight"][:, reset])


def test_a_snapshot_stays_that_of_the_start_when_it_is_to_hold_more():
    model = mlp()
    start, optimizer = values(model), optim.SGD(model.parameters(), lr=0.1)
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1, initializer="snapshot")
    step(model, optimizer, X)
    regrama.outgoing = "fresh"
    snapshot = regrama.state_dict()["snapshot"]
    assert "4.weight" in snapshot
    assert torch.equal(snapshot["0.weight"], start["0.weight"])


def test_redo_has_the_options_of_regrama_and_a_threshold_of_its_own():
    model = mlp()
    regrama = ReGraMa(model, optim.Adam(model.parameters()), example_inputs=X)
    redo = ReDo(model, optim.Adam(model.parameters()), layout=regrama.layout, probe=lambda: X)
    assert (regrama.tau, redo.tau) == (0.01, 0.02)
    assert replace(redo.options, tau=regrama.tau) == regrama.options


@pytest.mark.filterwarnings("ignore:.*resets do not last")
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


def test_detach_leaves_the_optimizer():
    model = mlp()
    optimizer = optim.Adam(model.parameters())
    regrama = ReGraMa(model, optimizer, example_inputs=X, every=1)
    regrama.detach()
    step(model, optimizer, X)
    assert regrama.steps == 0
    assert not optimizer._optimizer_step_post_hooks


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
