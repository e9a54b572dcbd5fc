"""What the layout promises of a reset: the function of the ablated network, a way back, and training that goes on."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils import _pytree as pytree

import neuroactivity as na
from neuroactivity_torch import ReGraMa
from tests.neuroactivity.discovery.models import EXAMPLES, discovered
from tests.neuroactivity.discovery.truth import claimed_masks, shapes_of, true_masks

ALIKE = ("transformer, channels", "transformer, heads", "transformer, q k v o")  # but for how attention is listed
MODELS = [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in EXAMPLES]


def lively(model: torch.nn.Module, seed: int) -> dict[str, Tensor]:
    """Values in float64 with which few neurons are dead: vectors near 1, all else of the size of an initialiser."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        values[name] = 1 + 0.1 * noise if parameter.ndim == 1 else noise / fan_in**0.5
    return values


def outputs(name: str, params: dict[str, Tensor], *, batch_statistics: bool = False) -> list[Tensor]:
    """Call an example's model in float64 on noise, with other parameters."""
    found = discovered(name)
    generator = torch.Generator().manual_seed(3)
    inputs = [
        torch.randn(x.shape, generator=generator, dtype=torch.float64) if x.is_floating_point() else x
        for x in found.example.inputs
    ]
    model = found.example.model().double().eval()
    if batch_statistics:
        for module in model.modules():
            module.training = "BatchNorm" in type(module).__name__
    return list(pytree.tree_leaves(functional_call(model, params, tuple(inputs))))


def chosen_neurons(group: na.NeuronGroup, shapes, seed: int) -> np.ndarray:
    """Choose a random third of the neurons, and at least one."""
    shape = group.bind(shapes).shape
    chosen = np.random.default_rng(seed).random(shape) < 0.33
    chosen[..., 0] |= ~chosen.any()
    return chosen


def one_hot(shape: tuple[int, ...], place: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[place] = True
    return mask


def projected_gradients(name: str, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a weighted sum of all outputs; zero where there is none."""
    leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
    for output in outputs(name, leaves, batch_statistics=True):
        weights = torch.linspace(1, 2, output.numel(), dtype=torch.float64).reshape(output.shape)
        (output * weights).sum().backward(retain_graph=True)
    return {key: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for key, leaf in leaves.items()}


def exclusive_groups(name: str) -> list[na.NeuronGroup]:
    return [group for group in discovered(name).layout.values() if group.status == "exclusive"]


@pytest.mark.sampled(15)
@pytest.mark.parametrize("name", MODELS)
def test_a_reset_computes_what_ablation_computes(name):
    """Alone and together: the original model with the true outgoing entries at zero, to float64 rounding."""
    found = discovered(name)
    shapes, params, fresh = shapes_of(found.model), lively(found.model, 0), lively(found.model, 1)
    groups = exclusive_groups(name)
    masks = {group.name: chosen_neurons(group, shapes, number) for number, group in enumerate(groups)}
    for some in [*([group.name] for group in groups), list(masks)]:
        reset = na.reset(params, fresh, {key: torch.tensor(masks[key]) for key in some}, found.layout)
        ablated = dict(params)
        for key in some:
            for param, mask in true_masks(found.example.truth[key].feeds, shapes, masks[key]).items():
                ablated[param] = torch.where(torch.tensor(mask.copy()), 0.0, ablated[param])
        for batch_statistics in (False, True):
            pairs = zip(
                outputs(name, reset, batch_statistics=batch_statistics),
                outputs(name, ablated, batch_statistics=batch_statistics),
                strict=True,
            )
            for came, expected in pairs:
                torch.testing.assert_close(came, expected, rtol=1e-11, atol=1e-12, msg=lambda m, s=some: f"{s}: {m}")


@pytest.mark.sampled(15)
@pytest.mark.parametrize("name", MODELS)
def test_a_reset_neuron_can_learn_again(name):
    """After a reset each neuron's zeros still have gradients, so that it can come back."""
    found = discovered(name)
    shapes, params, fresh = shapes_of(found.model), lively(found.model, 0), lively(found.model, 1)
    for number, group in enumerate(exclusive_groups(name)):
        chosen = chosen_neurons(group, shapes, number)
        reset = na.reset(params, fresh, {group.name: torch.tensor(chosen)}, found.layout)
        gradients = projected_gradients(name, reset)
        places = [tuple(place) for place in np.argwhere(chosen)]
        zeros = [claimed_masks(group, shapes, one_hot(chosen.shape, place)) for place in places]
        alive = [any(gradients[key][torch.tensor(mask)].any() for key, mask in entries.items()) for entries in zeros]
        # A fresh neuron may be dead by chance; that all are means that more than one factor of a product is zero.
        assert any(alive), f"{group.name}: no gradient reaches what was set to zero"


@pytest.mark.filterwarnings("ignore:neurons could not be judged")  # behind a head that starts at zero
@pytest.mark.filterwarnings("ignore:.*resets do not last")
@pytest.mark.sampled(15)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_with_resets(name):
    """On noise: the weights of zero inputs would have no gradient."""
    found = discovered(name)
    model, layout, generator = found.example.model(), found.layout, torch.Generator().manual_seed(0)
    inputs = [torch.randn(x.shape, generator=generator) if x.is_floating_point() else x for x in found.example.inputs]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    regrama = ReGraMa(model, optimizer, layout=layout, tau=0.9, every=1, initializer="snapshot", max_fraction=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        leaves = [leaf for leaf in pytree.tree_leaves(model(*inputs)) if torch.is_tensor(leaf)]
        sum(leaf.square().sum() + leaf.sum() for leaf in leaves).backward()
        optimizer.step()
    counts = {group.name: group.reset for group in regrama.last_report.groups}
    assert regrama.measurements == 2
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert all(count == 0 for group, count in counts.items() if not layout[group].resettable)
    judged = [group for group in regrama.last_report.groups if layout[group.name].resettable and not group.alert]
    assert regrama.neurons_reset > 0 or not judged
