"""Small models, each with one difficulty, and the truth of each."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.neuroactivity.discovery.truth import (
    CHANNELS_LAST,
    HEAD,
    NOT_RESET,
    SHARED,
    UNPROVED,
    Example,
    Feed,
    Truth,
    at,
    exclusive,
    flipped,
    through_norm,
)

X = torch.zeros(16, 5)


class Net(nn.Module):
    """Named layers, and a function that calls them."""

    def __init__(self, run, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.run = run

    def forward(self, *inputs):
        return self.run(self, *inputs)


def chain(*middle: nn.Module, width: int = 12, after: int = 12, bias: bool = True) -> nn.Module:
    """A linear layer, whatever stands between, a linear layer, tanh and a head."""
    first, second = nn.Linear(5, width, bias=bias), nn.Linear(after, 8, bias=bias)
    return nn.Sequential(
        OrderedDict(a=first, middle=nn.Sequential(*middle), b=second, act=nn.Tanh(), c=nn.Linear(8, 2))
    )


REST = {"b": exclusive("c"), "c": HEAD}
PLAIN = {"a": exclusive("b"), **REST}


def deep() -> nn.Module:
    """Twelve layers, whose names in alphabetical order are not in the order of the data."""
    layers: dict[str, nn.Module] = {}
    for i in range(12):
        layers |= {f"layer_{i}": nn.Linear(5 if i == 0 else 12, 2 if i == 11 else 12), f"act_{i}": nn.ReLU()}
    layers.pop("act_11")
    return nn.Sequential(OrderedDict(layers))


def untouched(layer: nn.Module) -> nn.Module:
    """Freeze a layer."""
    return layer.requires_grad_(False)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """Initialise a layer with zeros."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def far(layer: nn.BatchNorm1d) -> nn.BatchNorm1d:
    """Put running statistics far from what the data has."""
    layer.running_mean.fill_(30.0)
    layer.running_var.fill_(0.01)
    return layer


def _another_order(m: Net, x: Tensor) -> Tensor:
    return m.last(torch.relu(m.second(torch.relu(m.first(x)))))


def _equal(m: Net, x: Tensor) -> Tensor:
    return m.out(torch.relu(m.third(torch.relu(m.second(torch.relu(m.first(x)))))))


def _concatenation(m: Net, x: Tensor) -> Tensor:
    return m.c(torch.tanh(m.b(torch.cat([x[:, :3], torch.tanh(m.a(x)).flip(-1)], dim=-1))))


def _branches(m: Net, x: Tensor) -> Tensor:
    left, right = m.stem(x).relu().split([4, 8], dim=-1)
    return m.out(torch.cat([m.right(right).tanh(), x, m.left(left).tanh()], dim=-1))


def _gate(m: Net, x: Tensor) -> Tensor:
    return m.out(m.value(x) * torch.sigmoid(m.gate(x)))


def _swiglu(m: Net, x: Tensor) -> Tensor:
    return m.out(functional.silu(m.gate(x)) * m.value(x))


def _twice(m: Net, x: Tensor) -> Tensor:
    return m.out(torch.tanh(m.again(torch.tanh(m.again(torch.tanh(m.first(x)))))))


def _unused(m: Net, x: Tensor) -> Tensor:
    return m.b(torch.relu(m.a(x)))


def _dense_net(m: Net, x: Tensor) -> Tensor:
    first = torch.relu(m.a(x))
    both = torch.cat([first, torch.relu(m.b(first))], dim=-1)
    return m.c(torch.cat([both, torch.relu(m.d(both))], dim=-1))


def _weightless_norm(m: Net, x: Tensor) -> Tensor:
    return m.b(functional.layer_norm(m.a(x), (12,)))


def _activation(kind: type[nn.Module], *, bias: bool, truth: Truth) -> Example:
    name = f"{kind.__name__.lower()} {'with' if bias else 'without'} bias"
    return Example(name, lambda: chain(kind(), bias=bias), (X,), {"a": truth, **REST})


EXAMPLES = [
    Example(
        "twelve layers",
        deep,
        (X,),
        {f"layer_{i}": exclusive(f"layer_{i + 1}") for i in range(11)} | {"layer_11": HEAD},
    ),
    Example(
        "modules in another order",
        lambda: Net(_another_order, last=nn.Linear(12, 2), second=nn.Linear(12, 12), first=nn.Linear(5, 12)),
        (X,),
        {"last": HEAD, "second": exclusive("last"), "first": exclusive("second")},
    ),
    Example(
        "equal modules in another order",
        lambda: Net(_equal, **{name: nn.Linear(8, 8) for name in ("third", "first", "second")}, out=nn.Linear(8, 2)),
        (torch.zeros(16, 8),),
        {"third": exclusive("out"), "first": exclusive("second"), "second": exclusive("third"), "out": HEAD},
    ),
    Example(
        "concatenation, offset, flip",
        lambda: Net(_concatenation, a=nn.Linear(5, 8), b=nn.Linear(11, 8), c=nn.Linear(8, 2)),
        (X,),
        {"a": exclusive(("b.weight", flipped(3))), **REST},
    ),
    Example(
        "split and branches",
        lambda: Net(
            _branches, stem=nn.Linear(5, 12), left=nn.Linear(4, 6), right=nn.Linear(8, 7), out=nn.Linear(18, 2)
        ),
        (X,),
        {"stem": exclusive("left", ("right.weight", Feed(1, lambda p, n: p + 4)))}
        | {"left": exclusive(("out.weight", at(12))), "right": exclusive(("out.weight", at(0))), "out": HEAD},
    ),
    Example(
        "skips by concatenation",
        lambda: Net(_dense_net, a=nn.Linear(5, 8), b=nn.Linear(8, 8), c=nn.Linear(24, 2), d=nn.Linear(16, 8)),
        (X,),
        {"a": exclusive("b", "d", "c"), "b": exclusive(("d.weight", at(8)), ("c.weight", at(8)))}
        | {"d": exclusive(("c.weight", at(16))), "c": HEAD},
    ),
    Example("activation modules", lambda: chain(nn.ReLU(), nn.Identity(), nn.LeakyReLU()), (X,), PLAIN),
    Example("dropout", lambda: chain(nn.ReLU(), nn.Dropout(0.5)), (X,), PLAIN),
    Example(
        "no biases",
        lambda: nn.Sequential(*(nn.Linear(5, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.ReLU())).append(
            nn.Linear(8, 2, bias=False)
        ),
        (X,),
        {"0": exclusive("2"), "2": exclusive("4"), "4": NOT_RESET},
    ),
    Example(
        "zero-initialised head",
        lambda: chain(nn.ReLU()).append(zeroed(nn.Linear(2, 2))),
        (X,),
        {"a": exclusive("b"), "b": exclusive("c"), "c": exclusive("5"), "5": HEAD},
    ),
    Example(
        "frozen",
        lambda: Net(_unused, a=untouched(nn.Linear(5, 12)), b=nn.Linear(12, 2)),
        (X,),
        {"a": exclusive("b"), "b": HEAD},
    ),
    Example(
        "unused parameters",
        lambda: Net(_unused, a=nn.Linear(5, 12), spare=nn.Linear(12, 12), idle=nn.Conv2d(1, 4, 3), b=nn.Linear(12, 2)),
        (X,),
        {"a": exclusive("b"), "spare": UNPROVED, "idle": UNPROVED, "b": HEAD},
    ),
    Example(
        "layer used twice",
        lambda: Net(_twice, first=nn.Linear(5, 8), again=nn.Linear(8, 8), out=nn.Linear(8, 2)),
        (X,),
        {"first": SHARED, "again": SHARED, "out": HEAD},
    ),
    Example(
        "embedding",
        lambda: nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 2)),
        (torch.arange(30).reshape(10, 3) % 9,),
        {"0": exclusive(("2.weight", CHANNELS_LAST)), "2": exclusive("4"), "4": HEAD},
    ),
    Example(
        "gate of its own",
        lambda: Net(_gate, gate=nn.Linear(5, 8), value=nn.Linear(5, 8), out=nn.Linear(8, 2)),
        (X,),
        {"gate": exclusive("out", partners=("value",)), "value": exclusive("out", partners=("gate",)), "out": HEAD},
    ),
    Example(
        "swiglu without biases",
        lambda: Net(_swiglu, gate=nn.Linear(5, 8, bias=False), value=nn.Linear(5, 8, bias=False), out=nn.Linear(8, 2)),
        (X,),
        {"gate": exclusive("out", partners=("value",)), "value": exclusive("out", partners=("gate",)), "out": HEAD},
    ),
    Example("fused gate", lambda: chain(nn.GLU(), after=6), (X,), PLAIN),
    Example(
        "layer norm",
        lambda: chain(nn.LayerNorm(12)),
        (X,),
        {"a": through_norm("b"), "middle.0": exclusive("b"), **REST},
    ),
    Example(
        "rms norm",
        lambda: chain(nn.RMSNorm(12), nn.GELU()),
        (X,),
        {"a": through_norm("b"), "middle.0": exclusive("b"), **REST},
    ),
    Example(
        "norm without parameters",
        lambda: Net(_weightless_norm, a=nn.Linear(5, 12), b=nn.Linear(12, 2)),
        (X,),
        {"a": UNPROVED, "b": HEAD},
    ),
    Example(
        "batch norm",
        lambda: chain(nn.BatchNorm1d(12), nn.ReLU()),
        (X,),
        {"a": exclusive("b"), "middle.0": exclusive("b"), **REST},
    ),
    Example(
        "batch norm, statistics far off",
        lambda: chain(far(nn.BatchNorm1d(12)), nn.ReLU()).eval(),
        (X,),
        {"a": exclusive("b"), "middle.0": exclusive("b"), **REST},
    ),
    _activation(nn.Sigmoid, bias=True, truth=exclusive("b")),
    _activation(nn.Softplus, bias=True, truth=exclusive("b")),
    _activation(nn.LogSigmoid, bias=True, truth=exclusive("b")),
    _activation(nn.Sigmoid, bias=False, truth=UNPROVED),
    _activation(nn.Softplus, bias=False, truth=UNPROVED),
    _activation(nn.LogSigmoid, bias=False, truth=UNPROVED),
]
