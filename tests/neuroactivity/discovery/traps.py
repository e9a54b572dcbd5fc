"""Models that invite a wrong claim, and the truth of each."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.neuroactivity.discovery.layers import Net, X
from tests.neuroactivity.discovery.truth import (
    HEAD,
    SHARED,
    Example,
    Feed,
    Truth,
    at,
    exclusive,
    through_norm,
)

SHORT = torch.zeros(16, 1, 5)
IDS = torch.arange(16) % 7
NOT_PROVED = Truth(("unproved",), partners=None)


def _one_wide(m: Net, x: Tensor) -> Tensor:
    """Return a chain through single neurons with a skip past one of them."""
    a = torch.tanh(m.a(x))
    return m.c(torch.tanh(m.b(a))) + m.d(a)


def _one_apart(m: Net, x: Tensor) -> Tensor:
    """Return one neuron read by a layer without bias, which falls silent with it, and the others by another layer."""
    a = torch.tanh(m.a(x))
    one = m.further(m.one(a[:, :1])) if hasattr(m, "further") else m.one(a[:, :1])
    return m.out(torch.cat([one, torch.relu(m.others(a[:, 1:]))], dim=-1))


def _one_never_live(m: Net, x: Tensor) -> Tensor:
    """Return one neuron read as before, by a layer of which one neuron is never live."""
    a = torch.tanh(m.a(x))
    one = m.further(m.one(a[:, :1]) * torch.tensor([1.0, 0.0, *[1.0] * 5]))
    return m.out(torch.cat([one, torch.relu(m.others(a[:, 1:]))], dim=-1))


def _one_gate(m: Net, x: Tensor) -> Tensor:
    return m.out(m.hidden(x).relu() * torch.sigmoid(m.gate(x)))


def _zeros_beside(m: Net, x: Tensor) -> Tensor:
    return m.b(torch.cat([m.a(x).relu(), x.new_zeros(len(x), 8)], dim=-1))


def _conditioned(m: Net, x: Tensor, ids: Tensor) -> Tensor:
    return m.out(m.a(x) * m.by(ids))


def _timed(m: Net, x: Tensor) -> Tensor:
    return m.out(m.a(x) * m.by(x[:, :1]))


def _gated_update(m: Net, x: Tensor) -> Tensor:
    stream = m.embed(x)
    return m.out(stream + m.gate(stream) * m.norm(m.update(stream)))


def _two_streams(m: Net, x: Tensor) -> Tensor:
    left = torch.relu(m.left_a(x) + m.left_b(x.flip(-1)))
    right = torch.relu(m.right_a(x) + m.right_b(x.flip(-1)))
    return m.left(left) + m.right(right)


def _positions(m: Net, tokens: Tensor) -> Tensor:
    stream = m.tokens(tokens) + m.positions(torch.arange(tokens.shape[1], device=tokens.device))
    return m.out(m.last(stream + m.narrow(torch.relu(m.wide(m.norm(stream))))))


def _memory(m: Net, series: Tensor) -> Tensor:
    return m.head(m.memory(series)[0])


def _larger_half(m: Net, x: Tensor) -> Tensor:
    a = torch.tanh(m.a(x))
    return m.out(functional.softplus(m.norm(m.c(torch.tanh(m.b(a * (a >= a.median(-1, keepdim=True).values)))))))


def _experts(m: Net, x: Tensor) -> Tensor:
    shares = m.router(x).softmax(dim=-1)[:, None]
    outputs = [m.out1(torch.relu(m.in1(x))), m.out2(torch.relu(m.in2(x)))]
    return m.head((torch.stack(outputs, dim=-1) * shares).sum(dim=-1))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs)


_BY = {"a": exclusive("out", partners=None), "by": exclusive("out", partners=None), "out": HEAD}
_PLAIN_MEMORY = {"memory": Truth(("exclusive", "unproved"), exclusive("head", ("memory.weight_hh_l0", Feed(1))).feeds)}

EXAMPLES = [
    Example(
        "one neuron wide",
        lambda: Net(_one_wide, a=_linear(5, 1), b=_linear(1, 1), c=_linear(1, 2), d=_linear(1, 2)),
        (X,),
        {
            "a": Truth(("exclusive", "unproved"), exclusive("b", "d").feeds),
            "b": Truth(("exclusive", "unproved"), exclusive("c").feeds),
        }
        | {"c": HEAD, "d": HEAD},
    ),
    *(
        Example(
            f"one neuron apart, behind it {' and '.join(behind)} without bias",
            lambda behind=behind: Net(
                _one_apart,
                a=_linear(5, 4),
                **{name: nn.Linear(1 if name == "one" else 8, 8, bias=False) for name in behind},
                others=_linear(3, 8),
                out=_linear(16, 2),
            ),
            (X,),
            {
                "a": exclusive(("one.weight", Feed(1, lambda p, n: 0)), ("others.weight", Feed(1, lambda p, n: p + 1))),
                "one": exclusive("further") if "further" in behind else exclusive(("out.weight", at(0))),
                "others": exclusive(("out.weight", at(8))),
                "out": HEAD,
            }
            | ({"further": exclusive(("out.weight", at(0)))} if "further" in behind else {}),
        )
        for behind in (("one",), ("one", "further"))
    ),
    Example(
        "one neuron apart, behind it one that is never live",
        lambda: Net(
            _one_never_live,
            a=_linear(5, 4),
            one=nn.Linear(1, 7, bias=False),
            further=nn.Linear(7, 8, bias=False),
            others=_linear(3, 8),
            out=_linear(16, 2),
        ),
        (X,),
        {
            "a": exclusive(("one.weight", Feed(1, lambda p, n: 0)), ("others.weight", Feed(1, lambda p, n: p + 1))),
            "one": NOT_PROVED,
            "further": exclusive(("out.weight", at(0))),
            "others": exclusive(("out.weight", at(8))),
            "out": HEAD,
        },
    ),
    Example(
        "one gate for all",
        lambda: Net(_one_gate, hidden=_linear(5, 8), gate=_linear(5, 1), out=_linear(8, 2)),
        (X,),
        {"hidden": exclusive("out", partners=None), "gate": Truth(("unproved", "partner"), partners=None), "out": HEAD},
    ),
    Example(
        "zeros beside the neurons",
        lambda: Net(_zeros_beside, a=_linear(5, 8), b=_linear(16, 4)),
        (X,),
        {"a": exclusive(("b.weight", at(0))), "b": HEAD},
    ),
    Example(
        "multiplied by an embedding",
        lambda: Net(_conditioned, a=_linear(5, 8), by=nn.Embedding(7, 8), out=_linear(8, 2)),
        (X, IDS),
        _BY,
    ),
    Example(
        "multiplied by one input",
        lambda: Net(_timed, a=_linear(5, 8), by=nn.Linear(1, 8, bias=False), out=_linear(8, 2)),
        (X,),
        _BY,
    ),
    Example(
        "gated update of a stream",
        lambda: Net(
            _gated_update,
            embed=_linear(5, 8),
            gate=_linear(8, 8),
            update=_linear(8, 8),
            norm=nn.RMSNorm(8),
            out=_linear(8, 2),
        ),
        (X,),
        {
            "embed": Truth(("shared", "unproved")),
            "gate": Truth(("partner", "unproved", "shared"), partners=None),
            "norm": Truth(("partner", "unproved", "shared"), partners=None),
            "update": Truth(("through_norm", "unproved")),
            "out": HEAD,
        },
    ),
    Example(
        "normalised output",
        lambda: nn.Sequential(_linear(5, 8), nn.ReLU(), _linear(8, 6), nn.LayerNorm(6)),
        (X,),
        {"0": exclusive("2"), "2": Truth(("head", "through_norm", "unproved")), "3": HEAD},
    ),
    Example(
        "two streams of one width",
        lambda: Net(
            _two_streams,
            **{f"{side}_{part}": _linear(5, 8) for side in ("left", "right") for part in "ab"},
            left=_linear(8, 2),
            right=_linear(8, 2),
        ),
        (X,),
        {f"{side}_{part}": SHARED for side in ("left", "right") for part in "ab"} | {"left": HEAD, "right": HEAD},
    ),
    Example(
        "learned positions",
        lambda: Net(
            _positions,
            tokens=nn.Embedding(7, 8),
            positions=nn.Embedding(3, 8),
            norm=nn.LayerNorm(8),
            wide=_linear(8, 16),
            narrow=_linear(16, 8),
            last=nn.LayerNorm(8),
            out=_linear(8, 2),
        ),
        (torch.arange(30).reshape(10, 3) % 7,),
        {"tokens": SHARED, "positions": SHARED, "norm": exclusive("wide"), "wide": exclusive("narrow")}
        | {"narrow": SHARED, "last": exclusive("out"), "out": HEAD},
    ),
    Example(
        "lstm on one step",
        lambda: Net(_memory, memory=nn.LSTM(5, 8, batch_first=True), head=_linear(8, 2)),
        (SHORT,),
        _PLAIN_MEMORY | {"head": HEAD},
    ),
    Example(
        "larger half, and a normalisation of the same width",
        lambda: Net(
            _larger_half,
            a=_linear(5, 4),
            b=_linear(4, 3),
            c=_linear(3, 4),
            norm=nn.RMSNorm(4),
            out=_linear(4, 2),
        ),
        (X,),
        {"a": NOT_PROVED, "b": exclusive("c"), "c": through_norm(), "norm": NOT_PROVED, "out": HEAD},
    ),
    Example(
        "experts",
        lambda: Net(
            _experts,
            **{f"in{i}": _linear(5, 8) for i in (1, 2)},
            **{f"out{i}": _linear(8, 6) for i in (1, 2)},
            router=_linear(5, 2),
            head=_linear(6, 2),
        ),
        (X,),
        {"in1": exclusive("out1"), "in2": exclusive("out2"), "out1": SHARED, "out2": SHARED}
        | {"router": NOT_PROVED, "head": HEAD},
    ),
]
