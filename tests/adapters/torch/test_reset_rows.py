"""A reset by rows is the core's reset of whole arrays with the whole draw, and its reset of moments."""

import itertools

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import ReGraMa, parameters
from neuroactivity_torch.initializers import FreshValues
from tests.neuroactivity.cases import CASES, VARIED, draw

OUTGOING = ("zero", "small", "fresh", "keep")


class Uniform(nn.Module):
    """A layer whose entries are all drawn alike."""

    def reset_parameters(self):
        for parameter in self._parameters.values():
            nn.init.uniform_(parameter, 1.0, 2.0)


class Whole(Uniform):
    """A layer that draws its entries together."""

    def reset_parameters(self):
        for parameter in self._parameters.values():
            parameter.data.copy_(torch.randn(parameter.shape).cumsum(0))


def network(case, layer=Uniform):
    """A model that has the parameters of a case, with gradients."""
    model = layer()
    values, gradients = draw(case.shapes, 1), draw(case.shapes, 2)
    for name, value in values.items():
        owner = model
        *path, last = name.split(".")
        for key in path:
            if key not in owner._modules:
                owner.add_module(key, layer())
            owner = owner.get_submodule(key)
        parameter = nn.Parameter(torch.tensor(value))
        parameter.grad = torch.tensor(gradients[name])
        owner.register_parameter(last, parameter)
    return model


@pytest.mark.sampled(48)
@pytest.mark.filterwarnings("ignore:.*standard deviation")
@pytest.mark.parametrize(
    ("case", "layer", "initializer", "outgoing"),
    [
        *itertools.product(CASES, [Uniform], ["layer"], OUTGOING),
        *itertools.product(VARIED, [Whole], ["layer"], OUTGOING),
        *itertools.product(VARIED, [Uniform], ["function"], OUTGOING),
        # where neurons read each other each draws its own donor, which no draw of whole arrays shows
        *itertools.product(VARIED, [Uniform], ["snapshot"], ["zero", "keep"]),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", str(value))),
)
def test_a_reset_by_rows_is_the_reset_of_whole_arrays(case, layer, initializer, outgoing):
    initializer = (lambda key: parameters(network(case))) if initializer == "function" else initializer
    model, twin = network(case, layer), network(case, layer)
    optimizer, other = [torch.optim.Adam(net.parameters(), lr=0.125) for net in (model, twin)]
    regrama = ReGraMa(
        model,
        optimizer,
        layout=case.layout,
        every=1,
        lowest=0.5,
        outgoing=outgoing,
        initializer=initializer,
    )
    fresh = FreshValues(twin, case.layout, initializer, seed=0, outgoing=outgoing)
    optimizer.step()
    other.step()
    masks = {group.name: torch.tensor(group.mask) for group in regrama.last_report.groups}
    masks = {name: mask.reshape(case.scores[name]) for name, mask in masks.items()}
    assert regrama.neurons_reset > 0
    expected = na.reset(parameters(twin), fresh.draw(1, case.shapes), masks, case.layout, outgoing=outgoing)
    for name, value in parameters(model).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12 if outgoing == "small" else 0, atol=0)
    for key in ("exp_avg", "exp_avg_sq"):
        own, its = [
            {name: adam.state[param][key] for name, param in net.named_parameters()}
            for net, adam in ((model, optimizer), (twin, other))
        ]
        cleared = na.reset_moments(its, masks, case.layout, outgoing=outgoing)
        assert all(torch.equal(value, cleared[name]) for name, value in own.items())


def test_own_moments_start_from_rows():
    """``moments`` are given the new values of the rows that were reset, the first axis of which counts neurons."""
    shapes = []

    class Momentum(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.5})

        def step(self):
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["average"] = parameter.detach().clone().fill_(9.0)

    def start(rows, options):
        shapes.append(tuple(rows.shape))
        return rows * options["lr"]

    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = Momentum(model.parameters())
    regrama = ReGraMa(
        model, optimizer, example_inputs=torch.ones(4, 3), every=1, lowest=0.25, moments={"average": start}
    )
    shapes.clear()  # it has been tried
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    mask = torch.tensor(regrama.last_report["0"].mask[0])
    assert sorted(shapes) == [(2,), (2, 2), (2, 3)]
    for parameter, average in [(p, optimizer.state[p]["average"]) for p in (model[0].weight, model[0].bias)]:
        assert torch.equal(average[mask], 0.5 * parameter[mask])
        assert (average[~mask] == 9.0).all()
    assert torch.equal(optimizer.state[model[2].weight]["average"] == 0.0, mask.expand(2, 8))
