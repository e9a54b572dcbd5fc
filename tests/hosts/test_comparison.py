"""One network and one batch, given to ReGraMa, to AgileRL and to ccbp-pytorch: what each resets, and what it writes."""

import copy
import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn

from neuroactivity_torch import ReGraMa, layout_of

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
DEAD, CUT_OFF, CANCELS, RARE = (0, 1, 2), 3, 4, 5
LAYERS = "encoder.0", "head_net.0"
BOUND = 1 / math.sqrt(8)  # of the values that PyTorch draws for the first layer


class Net(nn.Module):
    """Two hidden layers of 64; AgileRL looks for these two names."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU())
        self.head_net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x):
        return self.head_net(self.encoder(x))


def plant(net):
    """Make six neurons of the first layer what the table says, and the first of the second layer dead."""
    first, second = net.encoder[0], net.head_net[0]
    with torch.no_grad():
        first.bias[list(DEAD)] = -100
        second.bias[0] = -100
        second.weight[:, CUT_OFF] = 1e-12
        first.weight[[CANCELS, RARE]] = 0
        first.weight[CANCELS, 0] = first.weight[RARE, 1] = 1
        first.bias[CANCELS], first.bias[RARE] = 0, -10
        second.weight[:, RARE] *= 0.2


def batch():
    """Return inputs, and the gradients of the loss with respect to the outputs.

    The first half comes in pairs of one input and opposite gradients; one input has a large entry.
    """
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(256, 8, generator=generator)
    x[128:, 0] = -x[128:, 0].abs()
    x[1:128:2] = x[0:128:2]
    x[255, 1] = 50
    signs = torch.randint(0, 2, (256, 1), generator=generator) * 2.0 - 1
    signs[1:128:2] = -signs[0:128:2]
    return x, signs


def make(wrap=lambda net, optimizer: optimizer, scale=1.0):
    """Return a network that has learnt for one step and has the batch's gradients, and what is to make its next step.

    ``wrap`` attaches to network and optimizer as they are made, as users do.
    """
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    stepping = wrap(net, optimizer)
    net(torch.randn(64, 8)).square().mean().backward()
    stepping.step()
    plant(net)
    backward(net, scale)
    return net, stepping


def backward(net, scale=1.0):
    net.zero_grad()
    x, signs = batch()
    (net(x) * signs * scale).mean().backward()


def stepped(**kwargs):
    """Return the network and its optimizer after a step without anything else."""
    net, optimizer = make(**kwargs)
    optimizer.step()
    return net, optimizer


def written(net, old):
    """Return which neurons of the first layer were written, in and out, and which of the second, in."""
    first, second = [net.get_parameter(f"{name}.weight") != old.get_parameter(f"{name}.weight") for name in LAYERS]
    found = first.all(1), second.all(0), second.all(1)
    return [set(mask.nonzero().flatten().tolist()) for mask in found]


def moments(optimizer, param):
    state = optimizer.state[param]
    return state["exp_avg"], state["exp_avg_sq"]


def attach(net, optimizer):
    return ReGraMa(net, optimizer, layout=layout_of(net, batch()[0][:4]), every=1, start=2)


def attached(**kwargs):
    """Return the network, its optimizer and the wrapper after a step at which ReGraMa resets."""
    wrappers = []
    net, optimizer = make(lambda *given: wrappers.append(attach(*given)) or given[1], **kwargs)
    optimizer.step()
    return net, optimizer, wrappers[0]


def test_neuroactivity():
    (old, _), (net, optimizer, wrapper) = stepped(), attached()
    reset = {*DEAD, CUT_OFF, CANCELS}
    assert written(net, old) == [reset, reset, {0}]
    first, second, those = net.encoder[0], net.head_net[0], sorted(reset)
    assert first.weight[those].abs().max() <= BOUND  # as the layer draws them
    assert first.bias[those].abs().max() <= BOUND
    assert first.bias[those].all()
    assert not second.weight[:, those].any()
    assert all(not moment[those].any() and moment[10].any() for moment in moments(optimizer, first.weight))
    assert all(not moment[:, those].any() for moment in moments(optimizer, second.weight))
    first, second, _ = wrapper.last_report.groups
    assert first.scores[0][CANCELS] < 1e-6
    assert first.scores[0][RARE] > 0.1
    assert min(second.scores[0][1:]) > 0.01


def test_neuroactivity_without_gradients():
    _, _, wrapper = attached(scale=0.0)
    assert wrapper.neurons_reset == 0


@pytest.fixture
def agilerl():
    return pytest.importorskip("agilerl.algorithms.core"), pytest.importorskip("agilerl.utils.mutation_utils")


def capture(core, utils, net, scale=1.0):
    """Return the scores that AgileRL's hooks read from the batch, not yet divided by their means."""
    layers = utils.target_activations(net)
    found = [[None] * len(layers)]
    handles = [
        layer.register_full_backward_hook(core.EvolvableAlgorithm._grama_hook(found, 0, number))
        for number, layer in enumerate(layers)
    ]
    for factor in (100, 1):  # the latest counts
        backward(net, factor * scale)
    for handle in handles:
        handle.remove()
    return found[0]


def test_agilerl(agilerl):
    net, optimizer = make()
    old, before = copy.deepcopy(net), copy.deepcopy(optimizer.state_dict())
    scores = capture(*agilerl, net)
    assert all(
        torch.equal(new.grad, was.grad) for new, was in zip(net.parameters(), make()[0].parameters(), strict=True)
    )
    inputs = net.encoder[0](batch()[0]).detach().requires_grad_()
    (net.head_net(inputs.relu()) * batch()[1]).mean().backward()
    torch.testing.assert_close(scores[0], inputs.grad.abs().mean(0))
    assert scores[0][CANCELS] / scores[0].mean() > 0.5  # what cancels over the batch counts
    assert 0.001 < scores[0][RARE] / scores[0].mean() < 0.01  # how large the inputs are does not
    count = agilerl[1].reset_dormant_neurons(net, scores, 0.01, np.random.default_rng(0))
    reset = {*DEAD, CUT_OFF, RARE}
    assert count == 6
    assert written(net, old) == [reset, reset, {0}]
    first, second, those = net.encoder[0], net.head_net[0], sorted(reset)
    assert first.weight[those].abs().max() <= math.sqrt(6 / (8 + 64)) < BOUND  # Xavier's, for any layer
    assert not first.bias[those].any()
    living = old.head_net[0].weight.norm(dim=0)[[n for n in range(64) if n not in reset]].median()
    sizes = second.weight[1:, those].norm(dim=0) / living
    assert ((sizes > 0.018) & (sizes <= 0.0201)).all()  # a random direction, 2 % as long as the living are
    assert second.weight[0, those].abs().max() > 0.1 * living  # which the second layer's reset overwrites
    after = optimizer.state_dict()["state"]
    assert all(torch.equal(was, after[n][key]) for n, state in before["state"].items() for key, was in state.items())


def test_agilerl_without_gradients(agilerl):
    net, _ = make()
    scores = capture(*agilerl, net, scale=0.0)
    assert agilerl[1].reset_dormant_neurons(net, scores, 0.01, np.random.default_rng(0)) == 128


def test_agilerl_resets_where_it_mutates(agilerl):
    """At an evolution step: the policy gets noise too, and every optimizer is made anew."""
    spaces = pytest.importorskip("gymnasium.spaces")
    sizes = {"hidden_size": [64], "layer_norm": False}
    agent = pytest.importorskip("agilerl.algorithms").DQN(
        spaces.Box(-1, 1, (8,)),
        spaces.Discrete(2),
        net_config={"encoder_config": {**sizes, "output_layernorm": False}, "head_config": sizes},
    )
    agent.init_training_step(capture_grama=True)
    agent.actor(torch.randn(32, 8)).square().mean().backward()
    agent.optimizer.step()
    agent.finalize_training_step(1)
    assert len(agent.optimizer.optimizer.state) == 8
    before = {name: value.clone() for name, value in agent.actor.state_dict().items()}
    mutations = pytest.importorskip("agilerl.hpo.mutation").Mutations
    assert inspect.signature(mutations).parameters["dormant_threshold"].default == 0.01
    agent.grama_scores = None  # nothing to reset
    [mutated] = mutations(0, 0, 0, 1, 0, 0, rand_seed=0).mutation([agent])
    assert mutated.mut == "param"
    assert any(not torch.equal(value, before[name]) for name, value in mutated.actor.state_dict().items())
    assert not mutated.optimizer.optimizer.state


@pytest.fixture
def ccbp():
    return pytest.importorskip("ccbp_pytorch").CCBP


def continual(ccbp, scale=1.0, **options):
    """Return the network after a step that resets, and what ccbp-pytorch made that step with."""
    options = {"reset_interval": 2, "utility_ema_decay": 0.0, **options}
    net, optimizer = make(
        lambda net, optimizer: ccbp(optimizer, model=nn.Sequential(*net.encoder, *net.head_net), **options), scale
    )
    optimizer.step()
    return net, optimizer


def first_gradients(net):
    weight, bias = net.encoder[0].parameters()
    return weight.grad.abs().mean(1) + bias.grad.abs()


def test_ccbp_replaces_a_fixed_part_whatever_the_scores(ccbp):
    old, base = stepped()
    net, optimizer = continual(ccbp, continuous=False, maturity_steps=0, replacement_rate=8 / 64)
    score = first_gradients(net)
    torch.testing.assert_close(optimizer.compute_neuron_utility(optimizer.neuron_configs[0]), score / score.mean())
    reset, columns, second_rows = written(net, old)
    assert len(reset) == len(second_rows) == 8
    assert reset == columns > {*DEAD, CUT_OFF, CANCELS}  # and three that learn
    assert 0 in second_rows
    first, second, those = net.encoder[0], net.head_net[0], sorted(reset)
    assert first.weight[those].abs().max() > 2 * BOUND
    assert inspect.signature(ccbp).parameters["init_fn"].default is nn.init.kaiming_normal_  # for any layer
    torch.manual_seed(0)
    assert torch.equal(first.bias[those], Net().encoder[0].bias[those])  # as when it was made
    fresh = second.weight[:, those].any(1).nonzero().flatten()
    assert set(fresh.tolist()) == second_rows  # the second layer's resets overwrite the zeros that the first's wrote
    means, squares = moments(optimizer, first.weight)
    assert not means[those].any()
    kept = [n for n in range(64) if n not in reset]
    torch.testing.assert_close(squares[those], moments(base, old.encoder[0].weight)[1][kept].mean().expand(8, 8))


def test_ccbp_without_gradients(ccbp):
    (old, _), options = stepped(scale=0.0), {"continuous": False, "maturity_steps": 0, "replacement_rate": 8 / 64}
    reset, _, second_rows = written(continual(ccbp, 0.0, **options)[0], old)
    assert len(reset) == len(second_rows) == 8


def test_ccbp_moves_every_neuron_a_little_by_default(ccbp):
    usual = inspect.signature(ccbp).parameters
    assert [
        usual[name].default for name in ("reset_interval", "replacement_rate", "utility_ema_decay", "continuous")
    ] == [
        1000,
        0.015,
        0.99,
        True,
    ]
    old, base = stepped()
    net, optimizer = continual(ccbp)
    assert len(written(net, old)[0]) > 50
    torch.testing.assert_close(net.encoder[0].bias[list(DEAD)], torch.full((3,), -100 * (1 - 0.015)), rtol=1e-4, atol=0)
    assert (net.head_net[2].weight != old.head_net[2].weight).any()  # the output layer too
    found = pytest.importorskip("ccbp_pytorch").find_neuron_configs(Net())
    assert [config.param.shape for config in found] == [(64, 8)]  # unless its name says "head", as all of "head_net"
    pairs = zip(optimizer.state.values(), base.state.values(), strict=True)
    assert all(torch.equal(one["exp_avg"], other["exp_avg"]) for one, other in pairs)
