"""ReDo tries its probe when it is made, and never stops a training step."""

import warnings

import pytest
import torch
from torch import nn, optim

import neuroactivity as na
from neuroactivity_torch import ReDo, layout_of
from tests.adapters.torch.models import X, mlp, step
from tests.adapters.torch.reading import listed


class Odd(nn.Module):
    """A layer whose outputs go through something that nobody has described."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(5, 16), nn.Linear(5, 16), nn.Linear(16, 2)

    def forward(self, x):
        return self.out(self.a(x).cumsum(0).relu() + self.b(x).relu())


def redo(model, **options):
    options = {"layout": listed(model), "every": 1, "max_fraction": 0, **options}
    return ReDo(model, optim.SGD(model.parameters(), lr=0.1), **options)


def test_groups_that_cannot_be_measured_are_named_once_when_the_wrapper_is_made():
    model = Odd()
    with pytest.warns(
        na.ActivityWarning, match="ReDo does not measure a: what their readers see cannot be told"
    ) as seen:
        wrapper = redo(model, probe=lambda: X)
    assert len(seen) == 1
    assert "test_probes" in seen[0].filename
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, wrapper.optimizer, X)
    assert wrapper.last_report.absent == ("a",)
    assert "not measured: a" in str(wrapper.last_report)


def test_a_layout_that_contradicts_the_model_is_refused_when_the_wrapper_is_made():
    model = mlp()
    group = na.dense("0", weight=("0.weight", "neuron in"), outgoing=[("2.weight", "out neuron")], activation="neuron")
    with pytest.raises(na.LayoutError, match="expected an axis for the samples"):
        redo(model, layout=na.Layout([group]), probe=lambda: X)


def test_a_wrapper_that_could_not_be_made_is_not_attached():
    model = mlp()
    optimizer, options = optim.SGD(model.parameters(), lr=0.1), {"layout": layout_of(model, X)}
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        ReDo(model, optimizer, probe=lambda: X[:, 1:], **options)
    assert not optimizer._optimizer_step_post_hooks
    ReDo(model, optimizer, probe=lambda: X, **options)


@pytest.mark.parametrize("rules", [None, na.rules.DOPAMINE])
@pytest.mark.parametrize("example_inputs", [(), X])
def test_a_probe_that_has_no_batch_yet_is_no_error(example_inputs, rules):
    model, batches = mlp(), []
    score = {} if rules is None else {"score": rules.options["score"]}
    wrapper = redo(model, probe=lambda: batches[0], example_inputs=example_inputs, **score)
    batches.append(X)
    step(model, wrapper.optimizer, X)
    assert wrapper.last_report.absent == ()


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize(("nothing", "told"), [(None, "None"), (X[:0], r"shapes \(0, 5\)"), ((X[:0],), r"shapes")])
def test_a_probe_without_a_single_sample_is_no_error_at_first_and_one_clear_error_later(nothing, told):
    model = mlp()
    wrapper = redo(model, probe=lambda: nothing, example_inputs=X)
    before = model[0].weight.detach().clone()
    with pytest.raises(ValueError, match=f"probe: expected a batch of model inputs, got {told}"):
        step(model, wrapper.optimizer, X)
    torch.testing.assert_close(model[0].weight.detach(), before - 0.1 * model[0].weight.grad)
    assert (wrapper.steps, wrapper.measurements) == (0, 0)


def test_trying_the_probe_draws_nothing_from_the_global_generator():
    generator = torch.get_rng_state()
    redo(mlp(), probe=lambda: torch.randn(8, 5))
    assert torch.equal(torch.get_rng_state(), generator)
