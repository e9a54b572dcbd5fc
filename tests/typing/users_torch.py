"""What a user's type checker sees in PyTorch: mypy runs on this file, strictly, and nothing runs the code."""

from typing import assert_type

import torch

import neuroactivity as na
import neuroactivity_torch


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> dict[str, float]:
    layout = neuroactivity_torch.layout_of(model, x)
    regrama = neuroactivity_torch.ReGraMa(model, optimizer, layout=layout, every=100, batches=4, seed=0, clock="own")
    redo = neuroactivity_torch.ReDo(model, optimizer, example_inputs=(x,), probe=lambda: x, max_fraction=0)
    assert_type(regrama.last_report, na.ActivityReport | None)
    assert_type(redo.neurons_reset, int)
    neuroactivity_torch.write(model, neuroactivity_torch.parameters(model))
    return regrama.scalars("critic")
