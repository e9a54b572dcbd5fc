"""What models return, and what keeps a layout from being found."""

import contextlib
import warnings
import weakref
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal
from torch.nn.utils import parametrizations

import neuroactivity as na
from neuroactivity_torch import gradient_function, layout_of, parameters
from neuroactivity_torch.probing import _without_cudnn, probe_functions
from tests.adapters.torch.models import X, mlp


@dataclass
class Output:
    """An output that is no container."""

    policy: Tensor
    value: Tensor


class ActorCritic(nn.Module):
    """A trunk with a policy and a value, returned in some form."""

    def __init__(self, returned) -> None:
        super().__init__()
        self.trunk, self.pi, self.v = nn.Linear(5, 12), nn.Linear(12, 3), nn.Linear(12, 1)
        self.returned = returned

    def forward(self, x: Tensor):
        hidden = torch.relu(self.trunk(x))
        return self.returned(self.pi(hidden), self.v(hidden))


@pytest.mark.parametrize(
    "returned",
    [
        lambda pi, v: (Categorical(logits=pi), v),
        lambda pi, v: (Independent(Normal(pi, 1.0), 1), v),
        lambda pi, v: {"out": [Output(pi, v)], "log": "text", "steps": 3, "nothing": None},
    ],
    ids=["categorical", "independent normal", "dataclass in a dictionary"],
)
def test_outputs_are_found_in_distributions_and_objects(returned):
    layout = layout_of(ActorCritic(returned), X)
    assert {view.param for view in layout["trunk"].outgoing} == {"pi.weight", "v.weight"}
    assert [layout[name].status for name in ("trunk", "pi", "v")] == ["exclusive", "head", "head"]


def test_a_head_that_no_gradient_reaches_is_warned_of():
    """A sampled action carries no gradient: what the policy reads cannot be seen."""
    model = ActorCritic(lambda pi, v: (pi.argmax(-1), v))
    with pytest.warns(na.ActivityWarning, match="no gradient reaches pi from what the model returns"):
        layout = layout_of(model, X)
    assert not layout["pi"].resettable


def test_weights_of_no_group_make_no_heads_of_hidden_layers():
    class Noisy(nn.Linear):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs)
            self.spread = nn.Parameter(torch.ones(outputs, inputs))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.weight + 0.1 * self.spread, self.bias)

    layout = layout_of(nn.Sequential(Noisy(5, 8), nn.ReLU(), Noisy(8, 2)), X)
    assert [group.status for group in layout.values()] == ["unproved", "head"]


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (
            mlp(),
            (torch.ones(4, 7),),
            r"example_inputs: the model fails with inputs like these \(torch.Size\(\[4, 7\]\)\): mat1",
        ),
        (nn.ModuleList([nn.Linear(2, 2)]), (X,), r"ModuleList has no forward\(\); give layout="),
        (
            ActorCritic(lambda pi, v: pi.argmax(-1)),
            (X,),
            "cannot be probed: expected an output with a gradient, got Tensor",
        ),
        (nn.ReLU(), (X,), "ReLU: found no layer with neurons; give rule= or layout="),
    ],
)
def test_what_cannot_be_probed_is_said_in_one_line(model, inputs, message):
    with pytest.raises(na.LayoutError, match=message):
        layout_of(model, *inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "head"}, "attention: expected 'channels' or 'heads', got 'head'"),
        ({"shared": "skipped"}, "shared: expected 'incoming' or 'skip', got 'skipped'"),
    ],
)
def test_options_are_checked_before_anything_else(options, message):
    with pytest.raises(ValueError, match=message):
        layout_of(mlp(), **options)


def test_the_default_seed_is_zero():
    """Of the probes, and of the gradient function: noise for inputs, weights of the projection."""

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            return super().forward(x)

    seen: list[Tensor] = []
    model = Watched(5, 2)
    for options in ({}, {"seed": 0}, {"seed": 1}):
        gradient_function(model, X, **options)(parameters(model))
        layout_of(model, X, **options)
    length = len(seen) // 3
    default, zero, one = [seen[start : start + length] for start in (0, length, 2 * length)]
    assert all(map(torch.equal, default, zero))
    assert not any(map(torch.equal, default, one))
    default, zero, one = [
        gradient_function(mlp(), X, **options)(parameters(mlp())) for options in ({}, {"seed": 0}, {"seed": 1})
    ]
    assert all(torch.equal(default[name], zero[name]) for name in default)
    assert not torch.equal(default["4.bias"], one["4.bias"])


def test_nothing_is_warned_of_when_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layout_of(mlp(), X)


@pytest.mark.parametrize(
    "reparametrise", [parametrizations.weight_norm, parametrizations.spectral_norm, nn.utils.weight_norm]
)
@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*:FutureWarning")
def test_layers_with_computed_weights_are_warned_of_and_guessed_nothing(reparametrise):
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), reparametrise(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 2))
    with pytest.warns(na.ActivityWarning, match=r"weights of 2 are computed from other parameters") as caught:
        layout = layout_of(model, torch.zeros(4, 3))
    assert [warning.filename for warning in caught] == [__file__]
    assert {name: group.status for name, group in layout.items()} == {"0": "unproved", "4": "head"}


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("is_cuda", [True, False])
def test_the_probes_of_a_model_on_a_gpu_run_without_cudnn_which_is_put_back(monkeypatch, enabled, is_cuda):
    """It has no gradient of a recurrent layer in evaluation mode."""
    monkeypatch.setattr(torch.backends.cudnn, "enabled", enabled)
    model = SimpleNamespace(parameters=lambda: [SimpleNamespace(is_cuda=False), SimpleNamespace(is_cuda=is_cuda)])
    with contextlib.suppress(RuntimeError), _without_cudnn(model):
        assert torch.backends.cudnn.enabled is (enabled and not is_cuda)
        raise RuntimeError("not today")
    assert torch.backends.cudnn.enabled is enabled


def test_without_example_inputs_groups_are_listed_and_never_reset():
    layout = layout_of(mlp())
    assert [(group.name, group.status, group.resettable) for group in layout.values()] == [
        (name, "listed", False) for name in ("0", "2", "4")
    ]


class Permuted(nn.Module):
    """Two layers with a permutation between them that is a frozen parameter of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 2)
        self.order = nn.Parameter(torch.arange(8).flip(0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x))[:, self.order])


def test_frozen_integers_stay_as_they_are():
    model = Permuted()
    layout = layout_of(model, X)
    assert [group.status for group in layout.values()] == ["exclusive", "head"]
    na.verify_layout(layout, parameters(model), gradient_function(model, X))


@pytest.mark.parametrize("layer", [nn.Embedding, nn.EmbeddingBag])
def test_sparse_embeddings_are_ordinary(layer):
    model = nn.Sequential(layer(7, 8, sparse=True), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    layout = layout_of(model, torch.arange(12).reshape(6, 2) % 7)
    assert [group.status for group in layout.values()] == ["exclusive", "exclusive", "head"]


def test_a_model_without_values_is_said_to_have_none():
    with pytest.raises(na.LayoutError, match="Sequential is on the meta device, where parameters have no values"):
        layout_of(mlp().to("meta"), X)


class RootNorm(nn.Module):
    """The gradient of a square root is not finite at the variance of a feature that is constant, as a silent one is."""

    def __init__(self, size):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x):
        return (x - x.mean(0)) / (x.var(0).sqrt() + 1e-3) * self.weight + self.bias


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def test_gradients_that_are_not_finite_say_nothing_and_others_prove():
    blocks = [Residual(RootNorm(8), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)) for _ in range(2)]
    layout = layout_of(nn.Sequential(RootNorm(5), nn.Linear(5, 8), *blocks, RootNorm(8), nn.Linear(8, 1)), X)
    assert layout["0"].reason == "its gradients are not finite while neurons are silent"
    assert layout["2.0"].status == "exclusive"
    assert [view.param for view in layout["2.0"].outgoing] == ["2.1.weight"]


def test_gradients_are_handed_over_one_by_one_and_only_those_that_are_asked_for():
    model, held = mlp(), []

    def take(name, gradient):
        assert all(earlier() is None for _, earlier in held)
        held.append((name, weakref.ref(gradient)))

    gradients, _ = probe_functions(model, X)
    gradients.each(parameters(model), ["0.weight", "2.bias"], take)
    assert sorted(name for name, _ in held) == ["0.weight", "2.bias"]
    assert all(parameter.grad is None for parameter in model.parameters())
