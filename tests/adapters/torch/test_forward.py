"""The proof looks forward: paths without gradient, readers in training mode alone, networks that share a trunk."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import neuroactivity as na
from neuroactivity_torch import layout_of, parameters, write

WIDTH = 16
X = torch.zeros(16, 5)


class Net(nn.Module):
    """An encoder and a head, with some path between them that has no gradient."""

    def __init__(self, path, *, rows: int = 3):
        super().__init__()
        self.encoder, self.head, self.gate = nn.Linear(5, WIDTH), nn.Linear(WIDTH, rows), nn.Linear(WIDTH, rows)
        self.path = path

    def forward(self, x):
        hidden = torch.relu(self.encoder(x))
        return self.path(self, hidden)


def target(net, hidden):
    return net.head(hidden), hidden.detach()


def scale(net, hidden):
    return net.head(hidden / (1 + hidden.detach().square().mean(-1, keepdim=True)))


def routing(net, hidden):
    return net.head(hidden) * nn.functional.one_hot(net.gate(hidden).argmax(-1), 3)


def topk(net, hidden):
    return net.head(hidden.masked_fill(hidden < hidden.topk(8).values[:, -1:], 0.0))


def straight_through(net, hidden):
    return net.head(hidden) + torch.sign(hidden.sum(-1, keepdim=True) - 8.0)


def choice(net, hidden):
    return net.head(hidden), net.gate(hidden).argmax(-1)


def nothing(net, hidden):
    return net.head(hidden) + net.gate(hidden)


def reset_twice(model, layout, name, *inputs):
    """Return how far the outputs of two resets with other fresh values lie apart."""
    old = {param: value.clone() for param, value in parameters(model).items()}
    mask = torch.arange(layout[name].count({param: tuple(value.shape) for param, value in old.items()})) < 4
    outputs = []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        fresh = {param: torch.randn(value.shape, generator=generator) for param, value in old.items()}
        write(model, na.reset(old, fresh, {name: mask}, layout))
        outputs.append(model(*inputs))
    write(model, old)
    return (outputs[0] - outputs[1]).abs().max().item()


@pytest.mark.filterwarnings("ignore:no gradient reaches")
@pytest.mark.parametrize("path", [target, scale, routing, topk, straight_through, choice])
def test_what_reaches_the_output_without_gradient_is_not_exclusive(path):
    layout = layout_of(Net(path), X)
    assert layout["encoder"].status == "unproved"
    assert layout["encoder"].reason == "reaches the output on a path without gradient"


def mean(net, hidden):
    return net.head(hidden) + 0.1 * hidden.detach().mean(-1, keepdim=True)


@pytest.mark.filterwarnings("ignore:no gradient reaches")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_hides_no_such_path(dtype):
    assert layout_of(Net(mean).to(dtype), X.to(dtype))["encoder"].status == "unproved"


def test_without_such_a_path_a_reset_changes_nothing():
    model = Net(nothing)
    layout = layout_of(model, X)
    assert layout["encoder"].status == "exclusive"
    assert reset_twice(model, layout, "encoder", torch.randn(8, 5)) == 0.0


class Remembering(nn.Module):
    """A network that keeps what its neurons have put out, in an attribute, and reads it when it is called again."""

    def __init__(self, keep):
        super().__init__()
        self.encoder, self.head, self.past = nn.Linear(5, WIDTH), nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 3)
        self.keep, self.last = keep, None

    def forward(self, x):
        hidden = torch.relu(self.encoder(x))
        last, self.last = self.last, self.keep(hidden)
        return self.head(hidden) if last is None else self.head(hidden) + self.past(last)


@pytest.mark.parametrize("keep", [lambda hidden: hidden, torch.Tensor.detach])
def test_what_a_later_call_reads_is_outgoing(keep):
    model = Remembering(keep)
    encoder = layout_of(model, X)["encoder"]
    assert encoder.status == "exclusive"
    assert [view.param for view in encoder.outgoing] == ["head.weight", "past.weight"]
    assert model.last is None


class Averaging(nn.Module):
    """A network that keeps a running mean of what its neurons put out, in a buffer."""

    def __init__(self, past):
        super().__init__()
        self.encoder, self.head, self.past = nn.Linear(5, WIDTH), nn.Linear(WIDTH, 3), past
        self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, x):
        hidden = torch.relu(self.encoder(x))
        result = self.head(hidden) + self.past(self.mean.clone())
        self.mean.lerp_(hidden.detach().mean(0), 0.5)
        return result


def test_what_reads_a_running_mean_of_neurons_is_outgoing():
    model = Averaging(nn.Linear(WIDTH, 3))
    assert [view.param for view in layout_of(model, X)["encoder"].outgoing] == ["head.weight", "past.weight"]
    assert not model.mean.any()


@pytest.mark.filterwarnings("ignore:no gradient reaches")
def test_a_running_mean_that_the_output_holds_is_a_path_without_gradient():
    layout = layout_of(Averaging(lambda mean: mean.softmax(-1)[:3]), X)
    assert layout["encoder"].status == "unproved"
    assert layout["encoder"].reason == "reaches the output on a path without gradient"


class Noisy(nn.Module):
    """A layer with parameters that it reads in training mode alone."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.spread = nn.Parameter(torch.randn(outputs, inputs)), nn.Parameter(torch.ones(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.randn(outputs, inputs))

    def forward(self, x):
        weight = self.weight + self.spread * self.noise if self.training else self.weight
        return nn.functional.linear(x, weight, self.bias)


def noisy_rule(name, parameter):
    layer, _, kind = name.rpartition(".")
    if kind != "weight":
        return None
    return na.NeuronGroup(layer, [(name, "neuron in"), (f"{layer}.spread", "neuron in")], [(f"{layer}.bias", "neuron")])


def test_parameters_that_are_read_in_training_mode_alone_are_outgoing():
    model = nn.Sequential(Noisy(5, WIDTH), nn.ReLU(), Noisy(WIDTH, 3)).train()
    layout = layout_of(model, X, rule=noisy_rule)
    assert layout["0"].status == "exclusive"
    assert [view.param for view in layout["0"].outgoing] == ["2.weight", "2.spread"]
    assert reset_twice(model, layout, "0", torch.randn(8, 5)) == 0.0
    assert model.training


class Auxiliary(nn.Module):
    """A network with a further head in training mode."""

    def __init__(self):
        super().__init__()
        self.a, self.aux, self.b = nn.Linear(5, WIDTH), nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 2)

    def forward(self, x):
        hidden = torch.relu(self.a(x))
        return (self.b(hidden), self.aux(hidden)) if self.training else self.b(hidden)


def test_a_head_that_exists_in_training_mode_alone_is_a_head():
    layout = layout_of(Auxiliary().eval(), X)
    assert {name: group.status for name, group in layout.items()} == {"a": "exclusive", "aux": "head", "b": "head"}
    assert {view.param for view in layout["a"].outgoing} == {"aux.weight", "b.weight"}


def test_a_model_that_is_the_same_in_both_modes_is_probed_in_one():
    modes = []
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    model.register_forward_pre_hook(lambda module, args: modes.append(module.training))
    layout_of(model, X)
    assert modes.count(True) == 2 < modes.count(False)


class Critic(nn.Module):
    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk, self.value = trunk, nn.Linear(WIDTH, 1)

    def forward(self, x):
        return self.value(torch.relu(self.trunk(x)))


def test_a_further_network_that_reads_the_trunk_is_seen():
    trunk = nn.Linear(5, WIDTH)
    critic, actor = Critic(trunk), Critic(trunk)
    assert layout_of(critic, X)["trunk"].status == "exclusive"
    read = layout_of(critic, X, readers=[actor])["trunk"]
    assert read.status == "unproved"
    assert read.reason == "read, directly or not, by what is in no group: readers.0.value.weight"
    assert layout_of(critic, X, readers=[lambda x: actor(x).detach()])["trunk"].status == "unproved"
    assert not layout_of(critic, X, readers=[lambda x: actor(x)])["trunk"].resettable


class Checkpointed(nn.Module):
    """A residual network, some of which is computed again in the backward pass, and a head for training alone."""

    def __init__(self, again):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.block, self.head = nn.Linear(5, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 2)
        self.inner, self.auxiliary, self.again = nn.Linear(8, 8), nn.Linear(8, 1), again

    def compute(self, x):
        hidden = torch.relu(self.first(x))
        return hidden + self.inner(self.block(hidden))

    def forward(self, x):
        hidden = checkpoint(self.compute, x, use_reentrant=False) if self.again else self.compute(x)
        return self.head(hidden), self.auxiliary(hidden) if self.training else None


def test_what_an_activation_checkpoint_computes_again_is_computed_with_the_probed_values():
    plain, again = [layout_of(Checkpointed(again), X) for again in (False, True)]
    assert again == plain
    assert again["block.0"].status == "exclusive"
