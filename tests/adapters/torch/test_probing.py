"""Probing leaves a model as it was, and says what is wrong with inputs that do not fit."""

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import gradient_function, layout_of, parameters

TOKENS = torch.arange(8) % 7


class Monotone(nn.Module):
    """Keeps the weights of a layer from becoming negative, as mixing networks do."""

    def __init__(self, data=False):
        super().__init__()
        self.a, self.b, self.data = nn.Linear(5, 16), nn.Linear(16, 3), data

    def forward(self, x):
        with torch.no_grad():
            (self.b.weight.data if self.data else self.b.weight).clamp_(min=0)
        return self.b(torch.relu(self.a(x)))


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, observation):
        return self.fc(observation["state"])


class NeedsTargets(nn.Module):
    """Asks for more in training mode than it is given."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x, targets=None):
        out = self.b(torch.relu(self.a(x)))
        return (out - targets.float()).square() if self.training else out


@pytest.mark.counts(faults=2)
@pytest.mark.parametrize(
    ("make", "x"),
    [
        (
            lambda: nn.Sequential(nn.Embedding(7, 16, max_norm=0.5), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)),
            TOKENS,
        ),
        (Monotone, torch.zeros(8, 5)),
        (lambda: Monotone(data=True), torch.zeros(8, 5)),
    ],
    ids=["an embedding with a largest norm", "weights that are clamped", "clamped data"],
)
def test_a_model_that_writes_to_its_own_parameters_is_left_as_it_was(make, x):
    torch.manual_seed(0)
    model = make()
    before = {name: value.clone() for name, value in parameters(model).items()}
    layout = layout_of(model, x)
    gradient_function(model, x)(parameters(model))
    for name, value in parameters(model).items():
        assert torch.equal(value, before[name]), name
    assert {group.status for group in layout.values()} <= {"exclusive", "head", "unproved", "shared"}
    assert any(group.status == "exclusive" for group in layout.values())


@pytest.mark.counts(faults=2)
@pytest.mark.parametrize(
    ("model", "x"),
    [
        (Named(), {"obs": torch.zeros(4, 3)}),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), {"state": torch.zeros(4, 3)}),
    ],
    ids=["another key", "no tensor"],
)
def test_inputs_that_do_not_fit_are_one_clear_error(model, x):
    with pytest.raises(na.LayoutError, match="example_inputs: the model fails with inputs like these"):
        layout_of(model, x)


@pytest.mark.counts(faults=1)
def test_a_model_that_cannot_be_run_in_training_mode_is_probed_without():
    with pytest.warns(na.ActivityWarning, match="cannot be called in training mode with these inputs.*'float'"):
        layout = layout_of(NeedsTargets(), torch.zeros(8, 5))
    assert layout["a"].status == "exclusive"
