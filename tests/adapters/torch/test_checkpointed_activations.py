"""Models that compute parts of themselves again in the backward pass."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from neuroactivity import LayoutError
from neuroactivity_torch import layout_of


class Block(nn.Module):
    """A residual block, checkpointed in training as the blocks of language models are."""

    def __init__(self, *, reentrant=False, always=False):
        super().__init__()
        self.up, self.down, self.drop = nn.Linear(6, 10), nn.Linear(10, 6), nn.Dropout(0.1)
        self.reentrant, self.always = reentrant, always

    def inner(self, x):
        return self.down(self.drop(torch.relu(self.up(x))))

    def forward(self, x):
        if self.always or self.training:
            return x + checkpoint(self.inner, x, use_reentrant=self.reentrant)
        return x + self.inner(x)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_layout_is_that_without_checkpoints(always, training):
    model = nn.Sequential(nn.Linear(3, 6), Block(always=always), Block(always=always), nn.Linear(6, 1)).train(training)
    layout = layout_of(model, torch.randn(8, 3))
    assert [view.param for view in layout["1.up"].outgoing] == ["1.down.weight"]
    assert layout["1.up"].status == layout["2.up"].status == "exclusive"
    assert model.training == training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_checkpoints_that_autograd_cannot_follow_are_named():
    model = nn.Sequential(nn.Linear(3, 6), Block(reentrant=True, always=True), nn.Linear(6, 1))
    with pytest.raises(LayoutError, match="use_reentrant=False"):
        layout_of(model, torch.randn(8, 3))
