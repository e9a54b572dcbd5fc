"""One layout for every kind of layer, with arrays of its shapes: the cases that the tests of the core share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView


@dataclass(frozen=True)
class Case:
    """A layout, the shapes of the parameters it names, and the shapes of its groups' outputs and scores."""

    name: str
    layout: na.Layout
    shapes: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    scores: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def draw(self, seed: int, *, scale: float = 1.0) -> dict[str, np.ndarray]:
        """Parameters (or gradients, or moments) in float64."""
        return draw(self.shapes, seed, scale=scale)

    def draw_masks(self, seed: int) -> dict[str, np.ndarray]:
        """A mask for each group, about half of it True."""
        generator = np.random.default_rng(seed)
        return {name: generator.random(shape) < 0.5 for name, shape in self.scores.items()}


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int, *, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Arrays of normal values in float64, in the order of the names."""
    generator = np.random.default_rng(seed)
    return {name: scale * generator.standard_normal(shape) for name, shape in shapes.items()}


def _case(name, groups, shapes, outputs, scores) -> Case:
    return Case(name, na.Layout(groups), *map(MappingProxyType, (shapes, outputs, scores)))


DENSE_TORCH = _case(
    "dense torch",
    [
        na.dense("fc1", weight=("fc1.weight", "neuron in"), bias="fc1.bias", outgoing=[("fc2.weight", "out neuron")]),
        na.dense("fc2", weight=("fc2.weight", "neuron in"), bias="fc2.bias", resettable=False),
    ],
    {"fc1.weight": (5, 3), "fc1.bias": (5,), "fc2.weight": (4, 5), "fc2.bias": (4,)},
    {"fc1": (6, 5), "fc2": (6, 4)},
    {"fc1": (5,), "fc2": (4,)},
)
DENSE_FLAX = _case(
    "dense flax",
    [
        na.dense("a", weight=("a/kernel", "in neuron"), bias="a/bias", outgoing=[("b/kernel", "neuron out")]),
        na.dense("b", weight=("b/kernel", "in neuron"), bias="b/bias"),
    ],
    {"a/kernel": (3, 5), "a/bias": (5,), "b/kernel": (5, 4), "b/bias": (4,)},
    {"a": (2, 3, 5), "b": (6, 4)},
    {"a": (5,), "b": (4,)},
)
CONV_TORCH = _case(
    "conv torch",
    [
        na.conv("c1", weight=("c1.w", "neuron in h w"), bias="c1.b", outgoing=[("c2.w", "out neuron h w")]),
        na.conv("c2", weight=("c2.w", "neuron in h w"), bias="c2.b"),
    ],
    {"c1.w": (4, 2, 3, 2), "c1.b": (4,), "c2.w": (3, 4, 2, 2), "c2.b": (3,)},
    {"c1": (2, 4, 3, 3), "c2": (2, 3, 2, 2)},
    {"c1": (4,), "c2": (3,)},
)
CONV_FLAX = _case(
    "conv flax",
    [
        na.conv("c1", weight=("c1/w", "h w in neuron"), bias="c1/b", outgoing=[("c2/w", "h w neuron out")]),
        na.conv("c2", weight=("c2/w", "h w in neuron"), bias="c2/b"),
    ],
    {"c1/w": (3, 2, 2, 4), "c1/b": (4,), "c2/w": (2, 2, 4, 3), "c2/b": (3,)},
    {"c1": (2, 3, 3, 4), "c2": (2, 2, 2, 3)},
    {"c1": (4,), "c2": (3,)},
)
DEPTHWISE = _case(
    "depthwise conv",
    [na.conv("c1", weight=("c1.w", "neuron in h w"), outgoing=[("deep.w", "neuron one h w")])],
    {"c1.w": (4, 2, 3, 3), "deep.w": (4, 1, 3, 3)},
    {"c1": (2, 4, 2, 2)},
    {"c1": (4,)},
)
FLATTEN_FIRST = _case(
    "flatten, channels first",
    [na.conv("conv", weight=("conv.w", "neuron in h w"), bias="conv.b", outgoing=[("fc.w", "out (neuron hw)")])],
    {"conv.w": (4, 2, 2, 2), "conv.b": (4,), "fc.w": (3, 4 * 6)},
    {"conv": (2, 4, 2, 3)},
    {"conv": (4,)},
)
FLATTEN_LAST = _case(
    "flatten, channels last",
    [na.conv("conv", weight=("conv/w", "h w in neuron"), bias="conv/b", outgoing=[("fc/w", "(hw neuron) out")])],
    {"conv/w": (2, 2, 2, 4), "conv/b": (4,), "fc/w": (6 * 4, 3)},
    {"conv": (2, 2, 3, 4)},
    {"conv": (4,)},
)
TWIN_CRITICS = _case(
    "twin critics",
    [
        na.dense("h", weight=("h/w", "stack in neuron"), bias="h/b", outgoing=[("q/w", "stack neuron out")]),
        na.dense("q", weight=("q/w", "stack in neuron"), bias="q/b", resettable=False),
    ],
    {"h/w": (2, 3, 5), "h/b": (2, 5), "q/w": (2, 5, 1), "q/b": (2, 1)},
    {"h": (2, 6, 5), "q": (2, 6, 1)},
    {"h": (2, 5), "q": (2, 1)},
)
STACK_BEHIND = _case(
    "stack behind the neurons",
    [
        NeuronGroup(
            "h",
            [("h.w", "in neuron stack"), ("g.w", "(stack neuron) in", {"stack": 3})],
            unscored=[("h.b", "neuron stack")],
            outgoing=[("q.w", "(neuron stack) out"), ("r.w", "stack out neuron")],
            activation="batch neuron stack",
        )
    ],
    {"h.w": (2, 4, 3), "g.w": (12, 2), "h.b": (4, 3), "q.w": (12, 2), "r.w": (3, 2, 4)},
    {"h": (5, 4, 3)},
    {"h": (3, 4)},
)
STACKS_APART = _case(
    "two stacks around the neurons",
    [
        NeuronGroup(
            "h",
            [("h.w", "in stack neuron stack"), ("g.w", "(stack in) (stack neuron)", {"in": 4})],
            unscored=[("h.b", "neuron stack stack")],
            outgoing=[
                ("q.w", "(neuron stack) out stack"),
                ParamView("r.w", "stack neuron stack", index=(3, 0, -1, 2, 1, 4, 0)),
            ],
            activation="stack batch (neuron stack)",
            neurons=5,
        )
    ],
    {"h.w": (4, 3, 5, 2), "g.w": (12, 10), "h.b": (5, 3, 2), "q.w": (15, 4, 2), "r.w": (3, 7, 2)},
    {"h": (3, 6, 10)},
    {"h": (6, 5)},
)
ATTENTION_TORCH = _case(
    "attention torch",
    [
        na.attention(
            "attn",
            heads=2,
            query=("q.w", "(neuron dim) in"),
            key=("k.w", "(neuron dim) in"),
            value=("v.w", "(neuron dim) in"),
            output=("o.w", "out (neuron dim)"),
            unscored=[("q.b", "(neuron dim)"), ("v.b", "(neuron dim)")],
        )
    ],
    {"q.w": (6, 4), "k.w": (6, 4), "v.w": (6, 5), "o.w": (4, 6), "q.b": (6,), "v.b": (6,)},
    {"attn": (2, 3, 6)},
    {"attn": (2,)},
)
ATTENTION_FLAX = _case(
    "attention flax",
    [
        na.attention(
            "attn",
            heads=3,
            query=("q/w", "in neuron dim"),
            key=("k/w", "in neuron dim"),
            value=("v/w", "in neuron dim"),
            output=("o/w", "neuron dim out"),
            unscored=[("v/b", "neuron dim")],
        )
    ],
    {"q/w": (4, 3, 2), "k/w": (4, 3, 2), "v/w": (4, 3, 2), "o/w": (3, 2, 4), "v/b": (3, 2)},
    {"attn": (2, 5, 3, 2)},
    {"attn": (3,)},
)
ATTENTION_CHANNELS = _case(
    "attention flax, channels of all heads",
    [
        na.dense(
            "value",
            weight=("v/w", "in neuron neuron"),
            bias="v/b",
            outgoing=[("o/w", "neuron neuron out")],
        )
    ],
    {"v/w": (4, 3, 2), "v/b": (3, 2), "o/w": (3, 2, 4)},
    {"value": (2, 5, 3, 2)},
    {"value": (6,)},
)
FUSED_QKV = _case(
    "fused qkv",
    [
        na.attention(
            "attn",
            heads=2,
            qkv=("in.w", "(qkv neuron dim) in", {"qkv": 3}),
            output=("out.w", "out (neuron dim)"),
            unscored=[("in.b", "(qkv neuron dim)", {"qkv": 3})],
        )
    ],
    {"in.w": (3 * 2 * 2, 4), "in.b": (12,), "out.w": (4, 4)},
    {"attn": (2, 5, 4)},
    {"attn": (2,)},
)
LSTM = _case(
    "lstm torch",
    [
        na.recurrent(
            "lstm", input="ih", recurrent="hh", biases=("bi", "bh"), gates=4, outgoing=[("head.w", "out neuron")]
        )
    ],
    {"ih": (4 * 3, 2), "hh": (4 * 3, 3), "bi": (12,), "bh": (12,), "head.w": (2, 3)},
    {"lstm": (2, 4, 3)},
    {"lstm": (3,)},
)
GRU = _case(
    "gru keras",
    [
        na.recurrent(
            "gru",
            input=("k", "in (gate neuron)"),
            recurrent=("r", "other (gate neuron)"),
            biases=[("b", "two (gate neuron)")],
            gates=3,
            outgoing=[("head.w", "neuron out")],
        )
    ],
    {"k": (2, 3 * 4), "r": (4, 3 * 4), "b": (2, 12), "head.w": (4, 2)},
    {"gru": (2, 3, 4)},
    {"gru": (4,)},
)
LAYER_NORM = _case(
    "layer norm",
    [
        na.dense("fc", weight=("fc.w", "neuron in"), bias="fc.b"),
        na.norm("ln", scale="ln.w", shift="ln.b", outgoing=[("head.w", "out neuron")]),
    ],
    {"fc.w": (5, 3), "fc.b": (5,), "ln.w": (5,), "ln.b": (5,), "head.w": (2, 5)},
    {"fc": (4, 5), "ln": (4, 5)},
    {"fc": (5,), "ln": (5,)},
)
RESIDUAL = _case(
    "residual stream",
    [
        na.residual(
            "stream",
            writers=[("embed.w", "neuron in"), ("block.out.w", "neuron in")],
            readers=[("block.in.w", "out neuron"), ("head.w", "out neuron")],
            unscored=[("embed.b", "neuron")],
        ),
        na.dense("block", weight=("block.in.w", "neuron in"), outgoing=[("block.out.w", "out neuron")]),
    ],
    {"embed.w": (4, 2), "block.out.w": (4, 6), "block.in.w": (6, 4), "head.w": (2, 4), "embed.b": (4,)},
    {"stream": (5, 4), "block": (5, 6)},
    {"stream": (4,), "block": (6,)},
)
CONCATENATION = _case(
    "concatenation",  # [features, observation (2), features turned round]
    [
        NeuronGroup(
            "features",
            [("f.w", "neuron in")],
            unscored=[("f.b", "neuron")],
            outgoing=[ParamView("fc.w", "out neuron", index=(0, 1, 2, -1, -1, 2, 1, 0))],
        ),
        na.dense("fc", weight=("fc.w", "neuron in"), resettable=False),
    ],
    {"f.w": (3, 4), "f.b": (3,), "fc.w": (4, 8)},
    {"features": (6, 3), "fc": (6, 4)},
    {"features": (3,), "fc": (4,)},
)
UNEVEN = _case(
    "uneven ownership",
    [
        NeuronGroup(
            "parts",
            [ParamView("w", "(neuron dim) in", index=(2, 0, -1, 0, 1, 0)), ("v", "in neuron")],
            unscored=[ParamView("b", "neuron", index=(-1, 2, 2, 1))],
            outgoing=[ParamView("o", "neuron out", index=(1, 1, 0))],
        )
    ],
    {"w": (12, 2), "v": (4, 3), "b": (4,), "o": (3, 2)},
    {"parts": (5, 3)},
    {"parts": (3,)},
)
SHARED_OUT = _case(
    "one parameter, two groups",
    [
        NeuronGroup("left", [ParamView("both.w", "neuron in", index=(0, 1, -1, -1, -1))], partners=["right"]),
        NeuronGroup(
            "right",
            [ParamView("both.w", "neuron in", index=(-1, -1, 0, 1, 2))],
            unscored=[("right.b", "neuron")],
            partners=["left"],
        ),
    ],
    {"both.w": (5, 3), "right.b": (3,)},
    {"left": (4, 2), "right": (4, 3)},
    {"left": (2,), "right": (3,)},
)

CASES = (
    DENSE_TORCH, DENSE_FLAX, CONV_TORCH, CONV_FLAX, DEPTHWISE, FLATTEN_FIRST, FLATTEN_LAST, TWIN_CRITICS, STACK_BEHIND,
    STACKS_APART, ATTENTION_TORCH, ATTENTION_FLAX, ATTENTION_CHANNELS, FUSED_QKV, LSTM, GRU, LAYER_NORM, RESIDUAL,
    CONCATENATION, UNEVEN, SHARED_OUT,
)  # fmt: skip
VARIED = (DENSE_FLAX, CONV_TORCH, STACK_BEHIND, STACKS_APART, RESIDUAL, UNEVEN)
"""A few that differ most, where every case on every library would only cost time."""
