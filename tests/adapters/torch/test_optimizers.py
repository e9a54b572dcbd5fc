"""A reset clears the optimizer's state to what the optimizer itself starts with, where it wrote, and only there."""

import pytest
import torch
from torch import nn, optim

import neuroactivity as na
from neuroactivity_torch import ReGraMa, clear_moments, layout_of
from tests.adapters.torch.models import X, mlp, step, values

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5, nesterov=False),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
    "Adam amsgrad": lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    "Adam fused": lambda p: optim.Adam(p, lr=0.1, fused=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.0),
    "NAdam": lambda p: optim.NAdam(p, lr=0.1),
    "RAdam": lambda p: optim.RAdam(p, lr=0.1),
    "Adamax": lambda p: optim.Adamax(p, lr=0.1),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.25),
    "Adadelta": lambda p: optim.Adadelta(p, lr=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
    "Rprop": lambda p: optim.Rprop(p, lr=0.07),
    "ASGD": lambda p: optim.ASGD(p, lr=0.1, t0=2, lambd=0.0),
}
EPSILON = 1e-8  # Adamax's first step adds its eps to a moment that starts at zero
NUMBERS = {"step", "mu_product", "eta", "mu"}


@pytest.fixture(params=list(OPTIMIZERS))
def make_optimizer(request):
    return OPTIMIZERS[request.param]


def trained(make_optimizer):
    """A model and an optimizer with a history, and masks for some of its neurons."""
    model = mlp()
    optimizer = make_optimizer(model.parameters())
    for seed in range(4):
        step(model, optimizer, torch.randn(16, 5, generator=torch.Generator().manual_seed(seed)))
    masks = {"0": torch.arange(16) % 3 == 0, "2": torch.arange(16) < 5}
    return model, optimizer, masks, layout_of(model, X)


def written(model, masks, layout):
    """Where a reset writes, by parameter: a reset of ones to twos."""
    ones = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    twos = {name: 2 * one for name, one in ones.items()}
    return {name: value != 1 for name, value in na.reset(ones, twos, masks, layout).items()}


def fresh_state(make_optimizer, parameter):
    """What the optimizer itself starts with for a parameter: its state after one step without gradient."""
    twin = nn.Parameter(parameter.detach().clone())
    optimizer = make_optimizer([twin])
    twin.grad = torch.zeros_like(twin)
    optimizer.step()
    return optimizer.state[twin]


def test_written_entries_are_fresh_and_all_others_keep_their_bits(make_optimizer):
    model, optimizer, masks, layout = trained(make_optimizer)
    before = {name: dict(optimizer.state[p]) for name, p in model.named_parameters()}
    before = {n: {k: v.clone() if torch.is_tensor(v) else v for k, v in s.items()} for n, s in before.items()}
    clear_moments(optimizer, model, masks, layout)
    where = written(model, masks, layout)
    assert where["2.weight"].any()
    for name, parameter in model.named_parameters():
        fresh = fresh_state(make_optimizer, parameter)
        assert set(fresh) == set(before[name])
        for key, value in optimizer.state[parameter].items():
            if key in NUMBERS:
                assert value == before[name][key], "step counts are shared with healthy neurons"
            elif torch.is_tensor(value):
                torch.testing.assert_close(value[where[name]], fresh[key][where[name]], rtol=0, atol=EPSILON)
                assert torch.equal(value[~where[name]], before[name][key][~where[name]]), (name, key)
            else:
                assert value == before[name][key]


@pytest.mark.sampled(5)
def test_healthy_neurons_take_the_step_they_would_have_taken(make_optimizer):
    model, optimizer, masks, layout = trained(make_optimizer)
    twin, twin_optimizer, *_ = trained(make_optimizer)
    clear_moments(optimizer, model, masks, layout)
    where = written(model, masks, layout)
    gradients = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    for net, opt in ((model, optimizer), (twin, twin_optimizer)):
        for name, parameter in net.named_parameters():
            parameter.grad = gradients[name].clone()
        opt.step()
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(a[~where[name]], b[~where[name]])


def test_state_is_found_by_identity_not_by_order():
    """Published fault 8: the optimizer lists the parameters in another order, among those of another model."""
    model, other = mlp(), mlp(seed=1)
    backwards = (reversed(list(net.parameters())) for net in (other, model))
    mixed = [parameter for pair in zip(*backwards, strict=True) for parameter in pair]
    optimizer = optim.Adam(mixed)
    for net in (model, other):
        net(torch.randn(8, 5)).square().sum().backward()
    optimizer.step()
    other_before = {p: {k: v.clone() for k, v in optimizer.state[p].items()} for p in other.parameters()}
    masks = {"0": torch.ones(16, dtype=torch.bool)}
    clear_moments(optimizer, model, masks, layout_of(model, X))
    for key in ("exp_avg", "exp_avg_sq"):
        assert (optimizer.state[model[0].weight][key] == 0).all()
        assert (optimizer.state[model[0].bias][key] == 0).all()
        assert (optimizer.state[model[2].weight][key] == 0).all()
        assert (optimizer.state[model[2].bias][key] != 0).any()
    for parameter, state in other_before.items():
        assert all(torch.equal(value, optimizer.state[parameter][key]) for key, value in state.items())


def test_an_unknown_optimizer_is_refused_when_attached():
    model = mlp()
    with pytest.raises(ValueError, match=r"optimizer LBFGS is not known.*known are torch\.optim's ASGD, Adadelta"):
        ReGraMa(model, optim.LBFGS(model.parameters()), example_inputs=X)


class Renamed(optim.AdamW):
    """AdamW under another name, which steps as AdamW does."""

    def __init__(self, params, lr=0.1) -> None:
        super().__init__(params, lr=lr, weight_decay=0.0)


def test_a_subclass_that_steps_as_its_parent_does_is_known():
    model = mlp()
    optimizer = Renamed(model.parameters())
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.7, every=1)
    step(model, optimizer, X)
    assert regrama.neurons_reset > 0
    assert (optimizer.state[model[0].weight]["exp_avg"] == 0).any()


def test_a_subclass_with_a_step_of_its_own_may_do_anything_and_is_refused():
    class MyAdam(optim.Adam):
        def step(self, closure=None):
            return super().step(closure)

    model = mlp()
    with pytest.raises(ValueError, match="optimizer MyAdam is not known"):
        ReGraMa(model, MyAdam(model.parameters()), example_inputs=X)


class Signed(optim.Optimizer):
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter].setdefault("trace", torch.full_like(parameter, 3.0)).add_(1.0)


def test_an_unknown_optimizer_can_be_taught():
    model = mlp()
    optimizer = Signed(model.parameters(), {})
    moments = {"trace": lambda parameter, options: torch.full_like(parameter, 3.0)}
    regrama = ReGraMa(model, optimizer, example_inputs=X, tau=0.5, every=1, moments=moments)
    step(model, optimizer, torch.randn(8, 5))
    assert regrama.neurons_reset > 0
    assert set(optimizer.state[model[0].weight]["trace"].unique().tolist()) == {3.0, 4.0}


class Several(optim.Optimizer):
    """Keeps several tensors of a parameter under one key, as AggMo and SOAP do."""

    def __init__(self, params, kind) -> None:
        super().__init__(params, {})
        self.kind = kind

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            both = [torch.zeros_like(parameter), torch.ones_like(parameter)]
            self.state[parameter]["buffers"] = dict(enumerate(both)) if self.kind is dict else self.kind(both)


@pytest.mark.counts(faults=3)
@pytest.mark.parametrize("kind", [list, tuple, dict])
@pytest.mark.parametrize("moments", [{}, {"buffers": lambda rows, options: torch.zeros_like(rows)}])
def test_state_of_several_tensors_under_one_key_is_refused_when_attached(kind, moments):
    model = mlp()
    with pytest.raises(
        ValueError, match=r"optimizer Several, state 'buffers' of parameter '\d\.weight': .*got several"
    ):
        ReGraMa(model, Several(model.parameters(), kind), layout=layout_of(model, X), moments=moments)


def test_unknown_state_is_refused_and_nothing_is_written():
    model = mlp()
    optimizer = optim.Adam(model.parameters())
    step(model, optimizer, torch.randn(8, 5))
    optimizer.state[model[2].weight]["secret"] = torch.ones_like(model[2].weight)
    stepped = values(model)
    message = r"optimizer Adam, state 'secret' of parameter '2\.weight': expected one of exp_avg"
    with pytest.raises(ValueError, match=message):
        ReGraMa(model, optimizer, example_inputs=X)
    with pytest.raises(ValueError, match=message):
        clear_moments(optimizer, model, {"0": torch.ones(16, dtype=torch.bool)}, layout_of(model, X))
    assert all(torch.equal(value, stepped[name]) for name, value in values(model).items())
    assert (optimizer.state[model[0].weight]["exp_avg"] != 0).any()


def test_measuring_only_works_with_any_optimizer():
    model = mlp()
    optimizer = optim.SparseAdam([torch.nn.Parameter(torch.zeros(1))])
    optimizer.add_param_group({"params": list(model.parameters())})
    assert ReGraMa(model, optimizer, example_inputs=X, max_fraction=0.0).neurons_reset == 0


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"nope": torch.ones(16, dtype=torch.bool)}, "group 'nope' of the masks is not in the layout"),
        (
            {"0": torch.ones(8, dtype=torch.bool)},
            r"group '0': expected a boolean mask of shape \(16,\), got torch.bool",
        ),
        ({"0": torch.ones(16)}, r"group '0': expected a boolean mask of shape \(16,\), got torch.float32"),
    ],
)
def test_custom_loops_are_told_of_masks_that_do_not_fit(masks, message):
    model = mlp()
    with pytest.raises(na.LayoutError, match=message):
        clear_moments(optim.Adam(model.parameters()), model, masks, layout_of(model, X))


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize(
    ("start", "message"),
    [
        (0.0, r"^moments\['trace'\]: expected a function of rows and options, got 0\.0$"),
        (lambda rows, options: 0.0, r"^moments\['trace'\] of parameter '0\.weight': expected shape \(1, 5\) and dtype"),
        (lambda rows, options: torch.zeros(16, 5), r"^moments\['trace'\] of parameter '0\.weight': expected shape"),
    ],
)
def test_start_values_that_could_not_be_written_are_refused_when_attached(start, message):
    model = mlp()
    with pytest.raises(ValueError, match=message):
        ReGraMa(model, Signed(model.parameters(), {}), layout=layout_of(model, X), moments={"trace": start})


@pytest.mark.parametrize("model", [nn.Linear, mlp().parameters(), len])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match=r"^model: expected a torch\.nn\.Module, got "):
        ReGraMa(model, optim.Adam(mlp().parameters()), example_inputs=X)
    with pytest.raises(TypeError, match=r"^model: expected a torch\.nn\.Module, got "):
        layout_of(model, X)


def test_a_layout_as_it_is_saved_is_no_layout_yet():
    model = mlp()
    with pytest.raises(
        TypeError, match=r"^layout: expected a neuroactivity\.Layout, got dict; neuroactivity\.Layout\.from"
    ):
        ReGraMa(model, optim.Adam(model.parameters()), layout=layout_of(model, X).to_dict())
