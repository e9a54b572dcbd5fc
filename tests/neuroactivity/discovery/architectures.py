"""Whole architectures from the grammar: a front of convolutions or none, a body of blocks, one or two heads."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.neuroactivity.discovery.grammar import Builder, Choose, Feature, Grown, Known, Value

WIDTHS = (2, 3, 4, 5, 6, 6, 8, 8, 1)
HIDDEN_WIDTHS = (3, 4, 5, 6, 8)  # a normalisation of one or two features leaves nothing of them
THIN_WIDTHS = (1, 2, 2, 3, 4, 4, 6)


def grow(choose: Choose, *, thin: bool = False, hidden: bool = False) -> tuple[Grown, dict[str, Known]]:
    """Choose an architecture.

    Args:
        choose: Returns one of several options.
        thin: Whether it has few neurons, few biases and few activation functions, so that silence goes on from layer to
            layer and what reads a neuron is hard to tell from what lies behind.
        hidden: Whether it has what gradients in evaluation mode do not show: paths without gradient, heads in training
            mode alone, layers with two names.

    Returns:
        The network and what is true of its groups.
    """
    images = not thin and not hidden and choose((False, False, True))
    builder = Builder(choose, images=images, thin=thin, widths=HIDDEN_WIDTHS if hidden else WIDTHS)
    x = flatten(builder, convolutions(builder, builder.input)) if images else builder.input
    for _ in range(choose((1, 2, 3, 4))):
        x = choose(THIN_BLOCKS if thin else HIDDEN_BLOCKS if hidden else BLOCKS)(builder, x)
    for _ in range(choose((1, 2))):
        builder.head(x, choose((1, 2, 3)))
    return builder.finish(twice=hidden and choose((True, False))), builder.known


def layer(builder: Builder, x: Value, width: int | None = None) -> Value:
    """A dense layer with or without a bias, perhaps a normalisation, perhaps an activation function, dropout."""
    if builder.thin:
        x = builder.dense(x, width or builder.choose(THIN_WIDTHS), bias=builder.choose((True, False)))
        return builder.activation(x) if builder.choose((True, False)) else x
    x = builder.dense(x, width or builder.choose(builder.widths), bias=builder.choose((True, True, True, False)))
    norm = builder.choose((None, None, None, None, builder.batch_norm, builder.layer_norm, builder.bare_norm))
    x = norm(x) if norm else x
    x = builder.activation(x) if builder.choose((True, True, True, False)) else x
    if builder.choose((True, False, False)):
        dropout = nn.Dropout(0.5)
        x = builder.step(lambda layers, x: functional.dropout(x, dropout.p, False), x, features=x.features)
    return x


def skip_by_addition(builder: Builder, x: Value) -> Value:
    """A residual block, before or behind a normalisation."""
    inside = builder.layer_norm(x) if builder.choose((True, False)) else x
    return builder.sum(x, builder.dense(layer(builder, inside), len(x.features)))


def skip_by_concatenation(builder: Builder, x: Value) -> Value:
    """The block's input beside its output, in either order, perhaps reversed."""
    parts = [x, layer(builder, x)]
    joined = builder.concatenate(*(parts if builder.choose((True, False)) else reversed(parts)))
    return builder.permute(joined) if builder.choose((True, False)) else joined


def beside_the_input(builder: Builder, x: Value) -> Value:
    """The observation once more beside the features."""
    other = builder.input if not builder.input.side else layer(builder, x)
    return builder.concatenate(*((other, x) if builder.choose((True, False)) else (x, other)))


def split(builder: Builder, x: Value) -> Value:
    """Each part of the features through a layer of its own."""
    width = len(x.features)
    if width < 2:
        return layer(builder, x)
    cut = builder.choose(range(1, width))
    parts = [builder.part(x, 0, cut), builder.part(x, cut, width)]
    return builder.concatenate(*(layer(builder, part) for part in parts))


def branches(builder: Builder, x: Value) -> Value:
    """Two branches that come together by concatenation, addition or multiplication."""
    width = builder.choose(THIN_WIDTHS if builder.thin else WIDTHS)
    parts = [layer(builder, x, width) for _ in range(2)]
    return builder.choose((builder.concatenate, builder.sum, builder.product))(*parts)


def gate(builder: Builder, x: Value) -> Value:
    """A gate with a layer of its own, or fused."""
    width = builder.choose(WIDTHS[:-1])
    if builder.choose((True, False)):
        return builder.glu(x, width)
    return builder.product(builder.activation(builder.dense(x, width)), builder.dense(x, width))


def attention(builder: Builder, x: Value) -> Value:
    """Attention with its output projection, perhaps with a skip around it."""
    out = builder.dense(builder.attention(x), len(x.features))
    return builder.sum(x, out) if builder.choose((True, False)) else out


def experts(builder: Builder, x: Value) -> Value:
    return builder.experts(x, builder.choose(WIDTHS))


def twice(builder: Builder, x: Value) -> Value:
    """The same layer applied to its own output: its columns read two sources at once."""
    width = len(x.features)
    name = builder.add("twice", nn.Linear(width, width), width)
    own = builder.neurons(name)
    builder.use([*x.features, *own], "sum")
    return builder.step(lambda layers, x: layers[name](layers[name](x).tanh()), x, features=own)


def convolutions(builder: Builder, x: Value) -> Value:
    """A convolution, and one or two blocks of others."""
    x = convolution(builder, x)
    for _ in range(builder.choose((1, 2))):
        x = builder.choose((convolution, depthwise, transposed, pooling, image_skip, image_concatenation, reverse))(
            builder, x
        )
    return x


def convolution(builder: Builder, x: Value, width: int | None = None) -> Value:
    width = width or builder.choose((2, 3, 4, 6))
    name = builder.add("conv", nn.Conv2d(len(x.features), width, 3, padding=1), width)
    return _image_layer(builder, x, name, axis=1, side=x.side)


def transposed(builder: Builder, x: Value) -> Value:
    width = builder.choose((2, 3, 4))
    name = builder.add("up", nn.ConvTranspose2d(len(x.features), width, 2), width)
    return _image_layer(builder, x, name, axis=0, side=x.side + 1)


def depthwise(builder: Builder, x: Value) -> Value:
    width = len(x.features)
    name = builder.add("deep", nn.Conv2d(width, width, 3, padding=1, groups=width), width)
    return _image_layer(builder, x, name, axis=0, side=x.side)


def _image_layer(builder: Builder, x: Value, name: str, *, axis: int, side: int) -> Value:
    builder.read(x.features, f"layers.{name}.weight", axis)
    x = builder.step(lambda layers, x: layers[name](x), x, features=builder.neurons(name), side=side)
    x = builder.batch_norm(x) if builder.choose((True, False, False)) else x
    return builder.activation(x)


def pooling(builder: Builder, x: Value) -> Value:
    return builder.step(lambda layers, x: functional.avg_pool2d(x, 2), x, features=x.features, side=x.side // 2)


def image_skip(builder: Builder, x: Value) -> Value:
    return builder.sum(x, convolution(builder, x, len(x.features)))


def image_concatenation(builder: Builder, x: Value) -> Value:
    return builder.concatenate(convolution(builder, x), x)


def reverse(builder: Builder, x: Value) -> Value:
    return builder.permute(x)


def flatten(builder: Builder, x: Value) -> Value:
    """Pixels as features, channels first or last."""
    pixels = x.side**2
    if builder.choose((True, False)):
        features: list[Feature] = [feature for feature in x.features for _ in range(pixels)]
        return builder.step(lambda layers, x: x.flatten(1), x, features=features)
    return builder.step(lambda layers, x: x.permute(0, 2, 3, 1).flatten(1), x, features=list(x.features) * pixels)


def target(builder: Builder, x: Value) -> Value:
    """Features that are an output without gradient as well, as a target is."""
    copied = builder.without_gradient(lambda x: x.detach(), x)
    builder.outputs.append(copied.number)
    return x


def statistic(builder: Builder, x: Value) -> Value:
    """Features over their mean size, which counts as a constant."""
    return builder.without_gradient(lambda x: x / (1 + uneven(x) * x.detach().square().mean(1, keepdim=True)), x)


def uneven(x: Tensor) -> Tensor:
    """A factor for each feature: a normalisation further on undoes one that all have in common."""
    return torch.linspace(1.0, 0.5, x.shape[1], dtype=x.dtype)


def top_k(builder: Builder, x: Value) -> Value:
    """The larger half of the features."""
    if len(x.features) < 2:
        return layer(builder, x)

    def largest(x: Tensor) -> Tensor:
        return x * (x >= x.median(1, keepdim=True).values)

    return builder.without_gradient(largest, x)


def routing(builder: Builder, x: Value) -> Value:
    """A branch with factors that a choice among the samples gives it, without gradient."""

    def route(gate: Tensor, branch: Tensor) -> Tensor:
        means = gate.mean(1, keepdim=True)
        return branch * torch.where(means > means.median(), 1.0, 0.9 * uneven(branch))

    return builder.without_gradient(route, x, layer(builder, x))


def auxiliary(builder: Builder, x: Value) -> Value:
    """A head in training mode alone."""
    builder.head(x, 2, auxiliary=True)
    return x


BLOCKS = (
    *(layer, layer, layer, skip_by_addition, skip_by_concatenation, beside_the_input, split, branches),
    *(gate, attention, experts, twice),
)
HIDDEN_BLOCKS = (layer, layer, skip_by_addition, skip_by_concatenation, target, statistic, top_k, routing, auxiliary)
THIN_BLOCKS = (layer, layer, skip_by_concatenation, beside_the_input, split, split, branches, gate)
