"""Transformers and recurrent networks, with the truth of each."""

import torch
from torch import Tensor, nn
from torch.nn import functional

import neuroactivity as na
from tests.neuroactivity.discovery.truth import (
    HEAD,
    NOT_RESET,
    SHARED,
    Example,
    Feed,
    Truth,
    at,
    exclusive,
    partner,
)

TOKENS = torch.arange(40).reshape(5, 8) % 11
SERIES = torch.zeros(4, 6, 5)


class Separate(nn.Module):
    """Attention written by hand from four linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.o, self.v, self.k, self.q = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(mixed.transpose(1, 2).flatten(2))

    @staticmethod
    def truth(path: str) -> tuple[tuple[str, ...], dict[str, Truth]]:
        own = {f"{path}.q": partner(f"{path}.k"), f"{path}.k": partner(f"{path}.q")}
        readers = tuple(f"{path}.{name}" for name in "qkv")
        return readers, own | {f"{path}.v": exclusive(f"{path}.o"), f"{path}.o": SHARED}


class Fused(nn.Module):
    """Attention with one projection to query, key and value; a neuron is a whole head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.o(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    @staticmethod
    def truth(path: str) -> tuple[tuple[str, ...], dict[str, Truth]]:
        heads = Feed(1, lambda p, n: p // 4)
        return (f"{path}.qkv",), {f"{path}.qkv": exclusive((f"{path}.o.weight", heads)), f"{path}.o": SHARED}


class Multihead(nn.Module):
    """PyTorch's own attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x, x, x, need_weights=False)[0]

    @staticmethod
    def channels(path: str) -> tuple[tuple[str, ...], dict[str, Truth]]:
        attn = f"{path}.attn"
        own = {f"{attn}.query": partner(f"{attn}.key"), f"{attn}.key": partner(f"{attn}.query")}
        return (), own | {f"{attn}.value": exclusive(f"{attn}.out_proj"), f"{attn}.out_proj": SHARED}

    @staticmethod
    def heads(path: str) -> tuple[tuple[str, ...], dict[str, Truth]]:
        attn = f"{path}.attn"
        heads = Feed(1, lambda p, n: p // 4)
        return (), {attn: exclusive((f"{attn}.out_proj.weight", heads)), f"{attn}.out_proj": SHARED}


class Transformer(nn.Module):
    """Pre-norm blocks of attention and a feed-forward network, with learned positions."""

    def __init__(self, attention: type[nn.Module]) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 8), nn.Parameter(torch.randn(8, 8))
        self.norms1, self.norms2, self.attention, self.wide, self.narrow = (nn.ModuleList() for _ in range(5))
        for _ in range(2):
            self.norms1.append(nn.LayerNorm(8))
            self.norms2.append(nn.LayerNorm(8))
            self.attention.append(attention(8, 2))
            self.wide.append(nn.Linear(8, 16))
            self.narrow.append(nn.Linear(16, 8))
        self.last, self.head = nn.LayerNorm(8), nn.Linear(8, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions
        layers = (self.norms1, self.attention, self.norms2, self.wide, self.narrow)
        for norm1, attention, norm2, wide, narrow in zip(*layers, strict=True):
            x = x + attention(norm1(x))
            x = x + narrow(functional.gelu(wide(norm2(x))))
        return self.head(self.last(x))

    @staticmethod
    def truth(attention) -> dict[str, Truth]:
        truth = {"tokens": SHARED, "positions": SHARED, "last": exclusive("head"), "head": HEAD}
        for i in range(2):
            readers, own = attention(f"attention.{i}")
            targets = readers or ((f"attention.{i}.attn.in_proj_weight", Feed(1)),)
            truth |= own | {f"norms1.{i}": exclusive(*targets), f"norms2.{i}": exclusive(f"wide.{i}")}
            truth |= {f"wide.{i}": exclusive(f"narrow.{i}"), f"narrow.{i}": SHARED}
        return truth


class Recurrent(nn.Module):
    """An encoder, a recurrent layer and a head; may return its state as well."""

    def __init__(self, kind: type[nn.Module], *, returns_state: bool = False, **options) -> None:
        super().__init__()
        self.head = nn.Linear(10 * (2 if options.get("bidirectional") else 1), 3)
        self.encoder, self.memory = nn.Linear(5, 8), kind(8, 10, batch_first=True, **options)
        self.returns_state = returns_state

    def forward(self, series: Tensor):
        x, state = self.memory(torch.tanh(self.encoder(series)))
        return (self.head(x), state) if self.returns_state else self.head(x)


class CellPolicy(nn.Module):
    """A recurrent cell in a loop that one writes oneself."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(5, 8), nn.Linear(8, 2)

    def forward(self, series: Tensor) -> Tensor:
        state, outputs = series.new_zeros(len(series), 8), []
        for step in series.unbind(1):
            state = self.cell(step, state)
            outputs.append(self.head(state))
        return torch.stack(outputs, dim=1)


class Tied(nn.Module):
    """A language model whose output matrix is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.hidden, self.out = nn.Embedding(11, 8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.logits = nn.Linear(8, 11, bias=False)
        self.logits.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.out(torch.relu(self.hidden(self.tokens(tokens)))))


def _recurrent(head: Truth | None = None) -> dict[str, Truth]:
    memory = head or exclusive("head", ("memory.weight_hh_l0", Feed(1)))
    return {"encoder": exclusive(("memory.weight_ih_l0", Feed(1))), "memory": memory, "head": HEAD}


_TWO_LAYERS = {
    "encoder": exclusive(("memory.weight_ih_l0", Feed(1))),
    "memory.l0": exclusive(("memory.weight_hh_l0", Feed(1)), ("memory.weight_ih_l1", Feed(1))),
    "memory.l1": exclusive(("memory.weight_hh_l1", Feed(1)), "head"),
    "head": HEAD,
}
_TWO_WAYS = {
    "encoder": exclusive(("memory.weight_ih_l0", Feed(1)), ("memory.weight_ih_l0_reverse", Feed(1))),
    "memory.l0": exclusive(("memory.weight_hh_l0", Feed(1)), "head"),
    "memory.l0_reverse": exclusive(("memory.weight_hh_l0_reverse", Feed(1)), ("head.weight", at(10))),
    "head": HEAD,
}


def position_rule(name: str, parameter: nn.Parameter) -> na.NeuronGroup | None:
    """Group the learned positions."""
    return na.dense(name, weight=(name, "time neuron")) if name == "positions" else None


def _transformer(name: str, kind: type[nn.Module], truth, **options) -> Example:
    options = {"rule": position_rule, **options}
    return Example(name, lambda: Transformer(kind), (TOKENS,), Transformer.truth(truth), options)


EXAMPLES = [
    _transformer("transformer, q k v o", Separate, Separate.truth),
    _transformer("transformer, fused qkv", Fused, Fused.truth),
    _transformer("transformer, channels", Multihead, Multihead.channels),
    _transformer("transformer, heads", Multihead, Multihead.heads, attention="heads"),
    Example(
        "transformer, positions unknown",
        lambda: Transformer(Separate),
        (TOKENS,),
        {name: truth for name, truth in Transformer.truth(Separate.truth).items() if name != "positions"},
    ),
    Example("lstm", lambda: Recurrent(nn.LSTM), (SERIES,), _recurrent()),
    Example("gru", lambda: Recurrent(nn.GRU), (SERIES,), _recurrent()),
    Example("lstm of two layers", lambda: Recurrent(nn.LSTM, num_layers=2), (SERIES,), _TWO_LAYERS),
    Example("gru both ways", lambda: Recurrent(nn.GRU, bidirectional=True), (SERIES,), _TWO_WAYS),
    Example("gru that returns its state", lambda: Recurrent(nn.GRU, returns_state=True), (SERIES,), _recurrent(HEAD)),
    Example(
        "gru cell",
        CellPolicy,
        (SERIES,),
        {"cell": exclusive(("cell.weight_hh", Feed(1)), "head"), "head": HEAD},
    ),
    Example(
        "tied embedding",
        Tied,
        (TOKENS,),
        {"tokens": NOT_RESET, "hidden": exclusive("out"), "out": NOT_RESET},
    ),
]
