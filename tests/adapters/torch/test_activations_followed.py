"""Groups that no parameter reads alone are followed from their layer to where they are read."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import neuroactivity as na
from neuroactivity_torch import activations, layout_of
from tests.adapters.torch.reading import Telling, assert_reads, kill, listed

X, Y = torch.randn(32, 5, generator=torch.Generator().manual_seed(1)), torch.randn(32, 4)


def linear(*sizes, dead=0):
    layer = nn.Linear(*sizes)
    kill(layer, dead)
    return layer


def sum_of_two(net, x):
    a, b = torch.relu(net.a(x)), torch.relu(net.b(x))
    net.tell(a=a, b=b)
    return net.out(a + b)


def late_fusion(net, x):
    hidden = torch.relu(net.a(x) + net.b(x))
    net.tell(a=hidden, b=hidden)
    return net.out(hidden)


def fusion_behind_a_norm(net, x):
    hidden = functional.elu(functional.layer_norm(net.a(x) + net.b(x), (16,)))
    net.tell(a=hidden, b=hidden)
    return net.out(hidden)


def handmade_activation(net, x):
    a, b = net.a(x), net.b(x)
    a, b = a * torch.sigmoid(a), 0.5 * b * (1 + torch.tanh(0.8 * (b + 0.04 * b**3)))
    net.tell(a=a, b=b)
    return net.out(a + b)


def in_place(net, x):
    a, b = net.a(x).relu_(), torch.tanh(net.b(x))
    net.tell(a=a, b=b)
    hidden = a.reshape(32, 16)
    hidden += b
    hidden[:, 0] = 7.0
    return net.out(hidden)


@pytest.mark.parametrize("run", [sum_of_two, late_fusion, fusion_behind_a_norm, handmade_activation, in_place])
def test_two_layers_that_are_added(run):
    """Each one's own part where it has its activation function; what the function returns where it comes behind."""
    model = Telling(run, a=linear(5, 16, dead=3), b=linear(5, 16), out=linear(16, 2))
    assert_reads(model, X, search=run is late_fusion)


def test_dead_relu_neurons_score_zero_whatever_is_known_of_their_group():
    model = Telling(sum_of_two, a=linear(5, 64, dead=3), b=linear(5, 64), out=linear(64, 2))
    for layout in (layout_of(model, X), listed(model)):
        scores = na.tau_dormant(activations(model, X, layout=layout), layout)
        assert (scores["a"] == 0).nonzero().flatten().tolist() == [0, 1, 2]


def norm_module(net, x):
    a = torch.relu(net.a(x))
    b = torch.relu(net.b(net.norm(a)))
    net.tell(a=a, b=b)
    return net.out(net.norm2(b))


def norm_by_hand(net, x):
    def normal(h):
        h = h - h.mean(-1, keepdim=True)
        return h / h.square().mean(-1, keepdim=True).sqrt()

    a = torch.relu(net.a(x))
    b = torch.relu(net.b(normal(a)))
    net.tell(a=a, b=b)
    return net.out(normal(b))


def rms_norm(net, x):
    a = torch.relu(net.a(x))
    net.tell(a=a)
    return net.out(net.b(functional.rms_norm(a, (16,))))


@pytest.mark.parametrize("run", [norm_module, norm_by_hand, rms_norm])
def test_a_norm_behind_the_activation_function_reads(run):
    """As in MAPPO's networks; behind the norm a dead neuron would be alive."""
    norms = {"norm": nn.LayerNorm(16), "norm2": nn.LayerNorm(16)} if run is norm_module else {}
    assert_reads(
        Telling(run, a=linear(5, 16, dead=3), b=linear(16, 16, dead=3), out=linear(16, 2), **norms), X, search=True
    )


def test_a_norm_before_the_activation_function_is_followed():
    def run(net, x):
        hidden = torch.relu(net.norm(net.a(x)))
        net.tell(a=hidden, norm=hidden)
        return net.out(hidden) + net.skip(hidden)

    assert_reads(Telling(run, a=linear(5, 16, dead=2), norm=nn.LayerNorm(16), out=linear(16, 2), skip=linear(16, 2)), X)


def test_a_residual_writer_is_what_it_adds_to_the_stream():
    def run(net, x):
        x = net.embed(x)
        net.tell(embed=x)
        inner = functional.gelu(net.up(functional.layer_norm(x, (16,))))
        net.tell(up=inner, down=net.down(inner))
        x = x + net.down(inner)
        gated = torch.sigmoid(net.gate(x))
        net.tell(gate=gated)
        return net.out(x + gated)

    sizes = {"embed": (5, 16), "up": (16, 24), "down": (24, 16), "gate": (16, 16), "out": (16, 2)}
    assert_reads(Telling(run, **{name: linear(*size) for name, size in sizes.items()}), X)


@pytest.mark.parametrize("inplace", [False, True])
def test_residual_blocks_with_operations_in_place(inplace):
    """Copies are kept: what is added in place afterwards does not change them."""

    def run(net, x):
        x = net.relu(net.stem(x))
        out = net.norm(net.conv(x))
        net.tell(stem=x.movedim(1, -1), norm=out.movedim(1, -1))
        if net.inplace:
            out += x
        else:
            out = out + x
        return net.out(net.relu(out).mean((2, 3)))

    layers = {"stem": nn.Conv2d(3, 8, 3, padding=1), "conv": nn.Conv2d(8, 8, 3, padding=1), "norm": nn.BatchNorm2d(8)}
    model = Telling(run, **layers, relu=nn.ReLU(inplace=inplace), out=linear(8, 2))
    model.inplace = inplace
    with torch.no_grad():
        model.norm.weight[:2] = 0.0
        model.norm.bias[:2] = 0.0
    x = torch.randn(6, 3, 5, 5)
    layout = layout_of(model, x)
    assert_reads(model, x, layout=layout)
    scores = na.tau_dormant(activations(model, x, layout=layout), layout)
    assert (scores["norm"] == 0).nonzero().flatten().tolist() == [0, 1]


def test_pooling_and_flattening_in_front_of_the_activation_function_are_followed():
    def run(net, x):
        a = torch.relu(functional.max_pool2d(net.a(x), 2))
        b = torch.relu(net.b(a).flatten(1))
        net.tell(a=a.movedim(1, -1), b=b.unflatten(1, (4, -1)).movedim(1, -1))
        return net.out(b)

    assert_reads(Telling(run, a=nn.Conv2d(1, 6, 3), b=nn.Conv2d(6, 4, 3), out=linear(36, 2)), torch.randn(4, 1, 12, 12))


def test_attention_by_hand():
    """Queries and keys are read by their product, values behind the sum over tokens."""

    def run(net, x):
        x = net.embed(x)
        q, k, v = net.q(x), net.k(x), net.v(x)
        net.tell(embed=x, q=q, k=k)
        inside = (q @ k.transpose(1, 2)).softmax(-1) @ v
        net.tell(v=inside)
        return net.out(inside)

    assert_reads(
        Telling(run, embed=linear(5, 8), **{n: linear(8, 8) for n in "qkv"}, out=linear(8, 2)), X.view(4, 8, 5)
    )


def test_gated_units_are_read_as_products():
    def run(net, x):
        product = functional.silu(net.gate(x)) * net.up(x)
        net.tell(gate=product, up=product)
        return net.out(product)

    assert_reads(Telling(run, gate=linear(5, 16), up=linear(5, 16), out=linear(16, 2)), X)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_graph_layer_has_its_activation_function_behind_the_sum_over_neighbours(sparse):
    def run(net, x):
        hidden = torch.relu(net.edges @ net.a(x))
        net.tell(a=hidden)
        return net.edges @ net.out(hidden)

    model = Telling(run, a=linear(5, 16, dead=3), out=linear(16, 2))
    edges = torch.rand(32, 32).round()
    model.register_buffer("edges", edges.to_sparse() if sparse else edges)
    assert_reads(model, X)


def test_a_head_is_read_where_the_model_returns_it():
    def run(net, x):
        hidden = torch.relu(net.a(x))
        mean = torch.tanh(net.mean(hidden))
        net.tell(a=hidden, mean=mean)
        return torch.distributions.Normal(mean, torch.ones(2))

    model = Telling(run, a=linear(5, 16), mean=linear(16, 2))
    assert_reads(model, X, layout=layout_of(model, X))


def test_what_cannot_be_followed_is_none_and_never_the_values_before_the_activation_function():
    """An operation that nobody has described, halves that gate each other, and neurons that are partly overwritten."""

    def run(net, x):
        a = net.a(x).cumsum(0).relu()
        b, c = net.b(x).chunk(2, -1)
        d = net.d(x).relu()
        d[:, :8] = x.sum(-1, keepdim=True)
        return net.out(a) + net.out(b * torch.sigmoid(c)) + net.out(d)

    model = Telling(run, a=linear(5, 16), b=linear(5, 32), d=linear(5, 16), out=linear(16, 2))
    seen = activations(model, X, layout=listed(model))
    assert [name for name, value in seen.items() if value is None] == ["a", "b", "d"]


def test_a_model_whose_operations_cannot_be_watched_runs_all_the_same():
    class Picky(nn.Sequential):
        def forward(self, x):
            if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
                raise RuntimeError("not while I am watched")
            return super().forward(x)

    model = Picky(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
    read = na.dense("0", weight=("0.weight", "neuron in"), outgoing=[("2.weight", "out neuron")])
    seen = activations(model, X, layout=na.Layout([read, na.dense("2", weight=("2.weight", "neuron in"))]))
    assert torch.equal(seen["0"], model[:2](X))
    assert seen["2"] is None
