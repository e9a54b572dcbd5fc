"""Networks that tell what the readers of their neurons see, for tests of activations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity_torch import activations, layout_of
from neuroactivity_torch.layers import list_groups


class Telling(nn.Module):
    """A network made of layers by name and a function ``run(net, *inputs)``; ``net.tell(a=values)`` tells the truth."""

    def __init__(self, run: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run, self.truth = run, {}
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs: Any) -> Any:
        self.truth = {}
        return self.run(self, *inputs)

    def tell(self, **values: Tensor) -> None:
        """Keep copies of what is read, the neurons in the last axis; several calls add samples."""
        for name, value in values.items():
            self.truth.setdefault(name, []).append(value.detach().clone())


def kill(layer: nn.Module, neurons: int = 3) -> None:
    """Make the first neurons of a layer dead behind a ReLU."""
    with torch.no_grad():
        layer.bias[:neurons] = -100.0


def dormancy(values: list[Tensor]) -> Tensor:
    """Score neurons by the formula."""
    means = torch.cat([value.flatten(0, -2) if value.ndim > 1 else value[None] for value in values]).abs().mean(0)
    return means / means.mean()


def listed(model: nn.Module) -> na.Layout:
    """List the groups of a model without searching what they feed."""
    return na.Layout(list_groups(model))


def assert_reads(model: Telling, *inputs: Any, layout: na.Layout | None = None, search: bool = False) -> None:
    """What is measured is what the model tells, with a layout that is listed, given, or also one that is found."""
    for groups in [listed(model) if layout is None else layout, *([layout_of(model, *inputs)] if search else [])]:
        seen = activations(model, *inputs, layout=groups)
        model.eval()
        with torch.no_grad():
            model(*inputs)
        scores = na.tau_dormant(seen, groups)
        for name, values in model.truth.items():
            assert seen[name] is not None, (name, groups[name].status)
            torch.testing.assert_close(scores[name], dormancy(values), msg=lambda text, n=name: f"{n}: {text}")
