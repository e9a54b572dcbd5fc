"""Custom training loops: a module's parameters as arrays by name, and back."""

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import clear_moments, gradient_function, gradients, layout_of, parameters, write
from neuroactivity_torch.parameters import swapped
from tests.adapters.torch.models import X, mlp, values


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


def test_a_custom_loop_resets_model_and_optimizer():
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


class Aliased(nn.Module):
    """One module under two names, a tied parameter, one buffer twice, lists of parameters, and state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.twin, self.rnn = (
            nn.Linear(4, 4),
            nn.Linear(4, 4, bias=False),
            nn.GRU(4, 4, batch_first=True),
        )
        self.alias, self.twin.weight = self.features, self.features.weight
        self.register_buffer("scale", torch.ones(4))
        self.register_buffer("again", self.scale)
        self.plain = [self.features.bias, {"scale": self.scale}]
        self.calls, self.mean = 0, torch.zeros(4)

    def forward(self, x):
        self.calls += 1
        self.mean += x.detach().mean()
        self.scale.add_(1.0)
        self.again = self.again * 2.0
        self.last = self.rnn(self.alias(x) + self.plain[0] + self.plain[1]["scale"])[0] + self.twin(x)
        return self.last


def identities(model):
    """Everything that the modules hold, by identity."""
    tables = [table for module in model.modules() for table in (vars(module), module._parameters, module._buffers)]
    return [(id(table), name, id(value)) for table in tables for name, value in table.items()]


def test_swapped_parameters_are_used_wherever_they_are_registered_and_the_originals_come_back():
    model, x = Aliased(), torch.randn(2, 3, 4)
    before, kept, start = identities(model), values(model), model.plain[0]
    mean = model.mean
    zeros = {name: torch.zeros_like(value).requires_grad_() for name, value in parameters(model).items()}
    with swapped(model, zeros, {"scale": torch.full((4,), 3.0)}):
        assert model.features.weight is model.alias.weight is model.twin.weight is zeros["features.weight"]
        assert model.plain[0] is zeros["features.bias"]
        grads = torch.autograd.grad(model(x).sum(), list(zeros.values()), allow_unused=True)
        assert model.scale.tolist() == [4.0] * 4
    assert all(gradient is not None for gradient in grads)
    assert identities(model) == before
    assert model.plain[0] is start
    assert model.mean is mean
    assert (mean == 0).all()
    assert all(torch.equal(value, kept[name]) for name, value in values(model).items())


def test_originals_come_back_when_the_model_fails():
    model = Aliased()
    before = identities(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), swapped(model, parameters(model), {}):
        model(torch.ones(2, 3, 5))
    assert identities(model) == before


def test_finding_a_layout_leaves_a_model_with_aliases_as_it_was():
    model = Aliased()
    before, kept, trained = identities(model), values(model), {id(p) for p in model.parameters()}
    layout_of(model, torch.zeros(2, 3, 4))
    assert identities(model) == before
    assert all(torch.equal(value, kept[name]) for name, value in values(model).items())
    assert {id(p) for p in model.parameters()} == trained


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own
def test_a_probe_leaves_computed_weights_as_they_were():
    """Hooks of the older ``weight_norm`` and ``spectral_norm`` put what they computed into plain attributes."""
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(5, 8)), nn.ReLU(), nn.utils.spectral_norm(nn.Linear(8, 2)))
    before = identities(model)
    gradient_function(model, X)(parameters(model))
    assert identities(model) == before


def test_example_inputs_take_the_models_dtype():
    layout = layout_of(mlp().double(), X)
    assert [group.status for group in layout.values()] == ["exclusive", "exclusive", "head"]


def test_layouts_are_found_under_a_default_device():
    model = mlp()
    with torch.device("meta"):
        assert layout_of(model, X) == layout_of(model, X)
    assert layout_of(model, X)["0"].status == "exclusive"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_a_model_whose_parameters_cannot_be_exchanged_is_refused():
    scripted = torch.jit.script(mlp())
    with pytest.raises(na.LayoutError, match="cannot be exchanged to probe it; give layout="):
        gradient_function(scripted, X)(parameters(scripted))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_a_compiled_model_is_probed_with_the_values_it_is_given():
    model = mlp()
    plain, compiled = gradient_function(model, X), gradient_function(torch.compile(model, backend="eager"), X)
    for seed in range(3):
        params = parameters(mlp(seed))
        found = compiled({f"_orig_mod.{name}": value for name, value in params.items()})
        for name, gradient in plain(params).items():
            torch.testing.assert_close(found[f"_orig_mod.{name}"], gradient)
