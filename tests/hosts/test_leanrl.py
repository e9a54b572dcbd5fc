"""Critics as LeanRL makes them: one module of stacked parameters, called under vmap, in an update that is compiled."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import neuroactivity as na
from neuroactivity_torch import ReGraMa, gradients, layout_of, parameters

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
tensordict = pytest.importorskip("tensordict")


class Critic(nn.Module):
    def __init__(self, device=None):
        super().__init__()
        self.fc1 = nn.Linear(4, 12, device=device)
        self.fc2 = nn.Linear(12, 12, device=device)
        self.fc3 = nn.Linear(12, 1, device=device)

    def forward(self, seen, acted):
        return self.fc3(self.fc2(self.fc1(torch.cat([seen, acted], 1)).relu()).relu())


class Agent:
    """The critics, their targets and one update of them."""

    def __init__(self):
        torch.manual_seed(0)
        self.params = make_params()
        self.targets = self.params.data.clone()
        self.critic = Critic("meta")  # a shell that either is put into
        self.params.to_module(self.critic)
        self.optimizer = torch.optim.Adam(self.critic.parameters(), 1e-2, capturable=False)

    def call(self, params, seen, acted):
        with params.to_module(self.critic):
            return self.critic(seen, acted)

    def loss(self, params, seen, acted, goal):
        return functional.mse_loss(self.call(params, seen, acted), goal)

    def update(self, seen, acted, reward):
        self.optimizer.zero_grad()
        with torch.no_grad():
            goal = reward + 0.9 * torch.vmap(self.call, (0, None, None))(self.targets, seen, acted).min(0).values
        torch.vmap(self.loss, (0, None, None, None))(self.params, seen, acted, goal).sum().backward()
        self.optimizer.step()


class Compiled(Agent):
    """The same, compiled with its optimizer's step.

    PyTorch 2.13 fails to compile ``to_module``, without a wrapper too, so parameters go in by ``functional_call``.
    """

    def __init__(self):
        super().__init__()
        torch.compiler.reset()
        self.graphs = []
        self.update = torch.compile(super().update, backend=self.run)

    def run(self, graph, inputs):
        """Run what was compiled as it is."""
        self.graphs.append(graph)
        return graph.forward

    def call(self, params, seen, acted):
        params = {name: params[tuple(name.split("."))] for name, _ in self.critic.named_parameters()}
        return torch.func.functional_call(self.critic, params, (seen, acted))


def make_params():
    return tensordict.from_modules(Critic(), Critic(), as_module=True)


def train(agent, steps=6):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        agent.update(*(torch.randn(16, size, generator=generator) for size in (3, 1, 1)))
        agent.targets.lerp_(agent.params.data, 0.05)


def attach(agent, **options):
    layout = na.stacked(layout_of(Critic(), torch.zeros(4, 3), torch.zeros(4, 1)))
    options = {"every": 3, "tau": 0.4, "max_fraction": 0.5, **options}
    fresh = lambda key: parameters(make_params())  # noqa: E731
    return ReGraMa(agent.params, agent.optimizer, layout=layout, initializer=fresh, **options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize("make", [Agent, Compiled])
def test_every_measurement_sees_the_gradients_of_its_step_and_resets_member_by_member(make):
    agent, seen = make(), []
    targets = agent.targets

    def look(report):
        scores = na.grama(gradients(agent.params), wrapper.layout)
        masks = na.reset_masks(scores, tau=0.4, max_fraction=0.5)
        for group in report.groups:
            torch.testing.assert_close(torch.tensor(group.scores), scores[group.name])
        weights = parameters(agent.params)
        assert torch.equal((weights["fc3.weight"] == 0).all(1), masks["fc2"])  # stack out neuron
        means = agent.optimizer.state[dict(agent.params.named_parameters())["fc1.weight"]]["exp_avg"]
        assert not means[masks["fc1"]].any()
        seen.append(int(masks["fc1"].sum() + masks["fc2"].sum()))

    wrapper = attach(agent, on_report=look)
    train(agent)
    assert wrapper.steps == 6
    assert len(seen) == 2
    assert wrapper.neurons_reset == sum(seen) > 0
    assert agent.targets is targets
    assert all(value.isfinite().all() for value in agent.params.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_update_that_is_measured_learns_the_same():
    plain, measured = Agent(), Compiled()
    attach(measured, max_fraction=0)
    train(plain)
    train(measured)
    assert measured.graphs
    for old, new in zip(plain.params.parameters(), measured.params.parameters(), strict=True):
        torch.testing.assert_close(old, new)
