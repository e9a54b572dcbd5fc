"""ReGraMa trains and resets every test model with the layout that was found."""

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from discovery_models import EXAMPLES
from neuroactivity_torch import ReGraMa, layout_of


def noise(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Replace floating-point inputs by noise: the weights of zero inputs would have no gradient."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(x.shape, generator=generator) if x.is_floating_point() else x for x in inputs)


@pytest.mark.filterwarnings("ignore:neurons could not be judged")  # behind a head that starts at zero
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_model_trains_with_resets(name):
    example = EXAMPLES[name]
    model, inputs = example.model(), noise(example.inputs)
    layout = layout_of(model, *example.inputs, **example.options)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    regrama = ReGraMa(model, optimizer, layout=layout, tau=0.9, every=1, initializer="snapshot", max_fraction=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        outputs = [leaf for leaf in pytree.tree_leaves(model(*inputs)) if torch.is_tensor(leaf)]
        sum(leaf.square().sum() + leaf.sum() for leaf in outputs).backward()
        optimizer.step()
    counts = {group.name: group.reset for group in regrama.last_report.groups}
    assert regrama.measurements == 2
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert all(count == 0 for group, count in counts.items() if not layout[group].resettable)
    judged = [group for group in regrama.last_report.groups if layout[group.name].resettable and not group.alert]
    assert regrama.neurons_reset > 0 or not judged
