"""A grammar of architectures: each rule builds a part of a network, and writes down beside it what is true of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Source = tuple[str, int]
"""A neuron: the name of its group, its number."""

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]


@dataclass(frozen=True)
class Feature:
    """Where one feature comes from.

    Args:
        factors: Neurons of which each, if silent, makes the feature zero or constant.
        summands: Neurons that it is a sum of, together with others.
        linear: Whether no activation function has been applied since the layer that made it.
        hard: Whether it does not become zero when a factor is silenced by a bias, so that nothing can be proved.
    """

    factors: frozenset[Source] = frozenset()
    summands: frozenset[Source] = frozenset()
    linear: bool = False
    hard: bool = False

    @property
    def sources(self) -> frozenset[Source]:
        return self.factors | self.summands


@dataclass(frozen=True)
class Value:
    """A tensor of the network: its number in the program, its features, and its pixels if it is an image."""

    number: int
    features: tuple[Feature, ...]
    side: int = 0


@dataclass
class Known:
    """What is true of a group: how it is used, and which positions of which parameter's axis read which neuron."""

    neurons: int
    uses: set[str] = field(default_factory=set)
    feeds: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)
    biased: bool = True
    hard: bool = False

    @property
    def can_be_exclusive(self) -> bool:
        """Whether its readers are entries of weights alone, each its own."""
        return bool(self.feeds) and self.uses <= {"read", "product", "batch norm"}

    @property
    def is_plain(self) -> bool:
        """Whether discovery has no excuse not to call it exclusive. A single neuron cannot be told from its layer."""
        return self.can_be_exclusive and "batch norm" not in self.uses and not self.hard and self.neurons > 1

    def masks(self, shapes: dict[str, tuple[int, ...]], chosen: np.ndarray) -> dict[str, np.ndarray]:
        """The entries that the chosen neurons feed."""
        masks: dict[str, np.ndarray] = {}
        for (param, axis), positions in self.feeds.items():
            rows = np.array([chosen[positions[p]] if p in positions else False for p in range(shapes[param][axis])])
            thin = [-1 if i == axis else 1 for i in range(len(shapes[param]))]
            mask = np.broadcast_to(rows.reshape(thin), shapes[param])
            masks[param] = mask | masks.get(param, False)
        return {param: mask for param, mask in masks.items() if mask.any()}


class Grown(nn.Module):
    """A network that runs a program: each step a function of earlier values."""

    def __init__(
        self, layers: dict[str, nn.Module], steps: list, outputs: list[int], auxiliary: Sequence[int], *, twice: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.alias = nn.ModuleList(layers.values()) if twice else None
        self.steps, self.outputs, self.auxiliary = steps, outputs, auxiliary

    def forward(self, x: Tensor) -> list[Tensor]:
        values = [x]
        for function, parents in self.steps:
            values.append(function(self.layers, *(values[parent] for parent in parents)))
        return [values[number] for number in [*self.outputs, *(self.auxiliary if self.training else ())]]


ZERO_AT_ZERO = (nn.ReLU(), nn.Tanh(), nn.GELU(), nn.Mish(), nn.SiLU(), nn.LeakyReLU(0.1), nn.Softsign())
POSITIVE = (nn.Sigmoid(), nn.Softplus())


def divide_by_size(x: Tensor) -> Tensor:
    """Divide by the root of the mean square."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Builder:
    """Grows a network and the truth about it."""

    def __init__(self, choose: Choose, *, images: bool, thin: bool = False, widths: Sequence[int] = ()) -> None:
        self.choose = choose
        self.thin, self.widths = thin, widths
        self.layers: dict[str, nn.Module] = {}
        self.known: dict[str, Known] = {}
        self.steps: list = []
        self.input = Value(0, (Feature(),) * (2 if images else 5), 5 if images else 0)
        self.outputs: list[int] = []
        self.auxiliary: list[int] = []

    def finish(self, *, twice: bool = False) -> Grown:
        """Return the network, its layers defined in an order of their own, perhaps twice."""
        layers = {name: self.layers[name] for name in sorted(self.layers)}
        return Grown(layers, self.steps, self.outputs, self.auxiliary, twice=twice)

    def step(self, function: Callable, *parents: Value, features: Sequence[Feature], side: int = 0) -> Value:
        """Append a step to the program."""
        self.steps.append((function, tuple(parent.number for parent in parents)))
        return Value(len(self.steps), tuple(features), side)

    def add(self, kind: str, layer: nn.Module, neurons: int) -> str:
        """Add a layer; returns its name. The names' alphabetical order is not the order of the data."""
        name = f"{kind}_{len(self.layers)}"
        self.layers[name] = layer
        self.known[f"layers.{name}"] = Known(neurons, biased=getattr(layer, "bias", None) is not None)
        return name

    def neurons(self, name: str, count: int | None = None) -> list[Feature]:
        """The features that a layer makes."""
        group = f"layers.{name}"
        return [Feature(frozenset([(group, i)]), linear=True) for i in range(count or self.known[group].neurons)]

    def use(self, features: Sequence[Feature], how: str, *, summands: bool = True) -> None:
        """Note how the neurons behind features are used."""
        for feature in features:
            for group, _ in feature.sources if summands else feature.factors:
                self.known[group].uses.add(how)

    def read(self, features: Sequence[Feature], param: str, axis: int) -> None:
        """Note that positions along an axis of a parameter read the features."""
        for position, feature in enumerate(features):
            for group, neuron in feature.factors:
                known = self.known[group]
                known.uses.add("read")
                known.feeds.setdefault((param, axis), {})[position] = neuron
                known.hard |= feature.hard
            self.use([feature], "sum") if feature.summands and not feature.factors else None

    def dense(self, x: Value, width: int, *, bias: bool = True) -> Value:
        name = self.add("dense", nn.Linear(len(x.features), width, bias=bias), width)
        self.read(x.features, f"layers.{name}.weight", 1)
        return self.step(lambda layers, x: layers[name](x), x, features=self.neurons(name))

    def activation(self, x: Value) -> Value:
        function = self.choose((*ZERO_AT_ZERO, *POSITIVE))
        features = [replace(feature, linear=False) for feature in x.features]
        if isinstance(function, POSITIVE_TYPES):
            features = [replace(f, linear=False, hard=f.hard or not self.can_be_pushed(f)) for f in x.features]
        return self.step(lambda layers, x: function(x), x, features=features, side=x.side)

    def can_be_pushed(self, feature: Feature) -> bool:
        """Whether a bias can push the feature to where a positive activation function is zero."""
        return feature.linear and len(feature.sources) == 1 and all(self.known[g].biased for g, _ in feature.factors)

    def layer_norm(self, x: Value) -> Value:
        width = len(x.features)
        kind = self.choose((nn.LayerNorm, nn.RMSNorm))
        name = self.add("norm", kind(width), width)
        self.use(x.features, "norm")
        return self.step(lambda layers, x: layers[name](x), x, features=self.neurons(name))

    def bare_norm(self, x: Value) -> Value:
        """A normalisation without parameters: each feature of the result is made of all neurons."""
        if len(x.features) < 4:  # nothing is left of one or two
            return x
        function = self.choose(
            (functional.normalize, divide_by_size, nn.LayerNorm(len(x.features), elementwise_affine=False))
        )
        self.use(x.features, "mixed")
        features = [replace(feature, linear=False, hard=True) for feature in x.features]
        return self.step(lambda layers, x: function(x), x, features=features)

    def batch_norm(self, x: Value) -> Value:
        width = len(x.features)
        name = self.add("batch", (nn.BatchNorm2d if x.side else nn.BatchNorm1d)(width), width)
        self.use(x.features, "batch norm")
        own = self.neurons(name)
        features = [
            Feature(old.factors | new.factors, old.summands, linear=not old.factors, hard=old.hard)
            for old, new in zip(x.features, own, strict=True)
        ]
        return self.step(lambda layers, x: layers[name](x), x, features=features, side=x.side)

    def concatenate(self, *parts: Value) -> Value:
        features = [feature for part in parts for feature in part.features]
        return self.step(lambda layers, *xs: torch.cat(xs, dim=1), *parts, features=features, side=parts[0].side)

    def permute(self, x: Value) -> Value:
        width = len(x.features)
        order = self.choose(
            (
                list(reversed(range(width))),
                [(i * 2 + 1) % width for i in range(width)] if width % 2 else [*range(1, width), 0],
            )
        )
        return self.step(lambda layers, x: x[:, order], x, features=[x.features[place] for place in order], side=x.side)

    def part(self, x: Value, start: int, stop: int) -> Value:
        return self.step(lambda layers, x: x[:, start:stop], x, features=x.features[start:stop], side=x.side)

    def sum(self, *parts: Value) -> Value:
        features = []
        for together in zip(*(part.features for part in parts), strict=True):
            sources = frozenset().union(*(feature.sources for feature in together))
            features.append(Feature(summands=sources, linear=True))
        self.use(features, "sum")
        return self.step(lambda layers, *xs: sum(xs), *parts, features=features, side=parts[0].side)

    def product(self, a: Value, b: Value) -> Value:
        pairs = list(zip(a.features, b.features, strict=True))
        features = [Feature(x.factors | y.factors, x.summands | y.summands, hard=x.hard or y.hard) for x, y in pairs]
        self.use(features, "product")
        return self.step(lambda layers, x, y: x * y, a, b, features=features, side=a.side)

    def glu(self, x: Value, width: int) -> Value:
        """A fused gate: neuron ``i`` has the rows ``i`` and ``width + i``."""
        name = self.add("glu", nn.Linear(len(x.features), 2 * width), width)
        self.read(x.features, f"layers.{name}.weight", 1)
        features = [replace(feature, linear=False) for feature in self.neurons(name)]
        return self.step(lambda layers, x: functional.glu(layers[name](x)), x, features=features)

    def attention(self, x: Value) -> Value:
        """Attention between the samples of the batch, by separate projections or a fused one."""
        heads, dim = 2, 2
        width = heads * dim
        if self.choose((True, False)):
            return self.fused_attention(x, heads, dim)
        q, k, v = (self.dense(x, width) for _ in range(3))
        for value in (q, k):
            self.use(value.features, "product")
            self.use(value.features, "mixed")

        def mix(layers, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (part.unflatten(1, (heads, dim)).transpose(0, 1) for part in (q, k, v))
            return functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)

        return self.step(mix, q, k, v, features=v.features)

    def fused_attention(self, x: Value, heads: int, dim: int) -> Value:
        name = self.add("qkv", nn.Linear(len(x.features), 3 * heads * dim), heads)
        self.read(x.features, f"layers.{name}.weight", 1)

        def mix(layers, x: Tensor) -> Tensor:
            q, k, v = layers[name](x).unflatten(1, (3, heads, dim)).permute(1, 2, 0, 3)
            return functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)

        own = self.neurons(name)
        features = [replace(own[place // dim], linear=False) for place in range(heads * dim)]
        return self.step(mix, x, features=features)

    def experts(self, x: Value, width: int) -> Value:
        """A mixture of two branches, by the shares that a router gives."""
        parts = [self.dense(self.activation(self.dense(x, width)), width) for _ in range(2)]
        router = self.dense(x, 2)
        for how in ("product", "mixed"):
            self.use(router.features, how)
        self.use([feature for part in parts for feature in part.features], "product")
        together = zip(parts[0].features, parts[1].features, strict=True)
        features = [Feature(summands=a.sources | b.sources) for a, b in together]
        self.use(features, "sum")

        def mix(layers, a: Tensor, b: Tensor, router: Tensor) -> Tensor:
            shares = router.softmax(dim=1)
            return a * shares[:, :1] + b * shares[:, 1:]

        return self.step(mix, *parts, router, features=features)

    def head(self, x: Value, width: int, *, auxiliary: bool = False) -> None:
        """A head, or one that exists in training mode alone."""
        head = self.dense(x, width)
        self.use(head.features, "output")
        (self.auxiliary if auxiliary else self.outputs).append(head.number)

    def without_gradient(self, function: Callable, *parents: Value) -> Value:
        """A path without gradient from the first parent, whose features the result goes on with from the last."""
        self.use(parents[0].features, "detached")
        return self.step(lambda layers, *xs: function(*xs), *parents, features=parents[-1].features)


POSITIVE_TYPES = tuple(type(function) for function in POSITIVE)
