"""Small convolutional models, each with one difficulty, and the truth of each."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from tests.neuroactivity.discovery.layers import REST, Net
from tests.neuroactivity.discovery.truth import (
    CHANNELS_LAST,
    HEAD,
    ROWS,
    SHARED,
    UNPROVED,
    Example,
    Feed,
    Target,
    Truth,
    channels_first,
    exclusive,
    through_norm,
)

PIXELS = torch.zeros(8, 3, 6, 6)


class Permute(nn.Module):
    """Channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def conv_chain(*middle: nn.Module, flat: int, bias: bool = True) -> nn.Module:
    """A convolution of 8 channels on 6 x 6 pixels, whatever stands between, and two linear layers."""
    first, second = nn.Conv2d(3, 8, 3, padding=1, bias=bias), nn.Linear(flat, 8)
    return nn.Sequential(
        OrderedDict(a=first, middle=nn.Sequential(*middle), b=second, act=nn.Tanh(), c=nn.Linear(8, 2))
    )


_SHUFFLE = [0, 4, 1, 5, 2, 6, 3, 7]


def _convolution(name: str, make, truth: dict[str, Truth], **extra: Truth) -> Example:
    return Example(name, make, (PIXELS,), {**truth, **extra, **REST})


def _one_of(*targets: Target) -> Truth:
    """Silent at any one of the targets, and free to learn again only if no more than one is zero."""
    ways = tuple(dict([target]) for target in targets)
    return Truth(("exclusive", "unproved"), ways[0], None, ways[1:])


def _squeeze(m: Net, pixels: Tensor) -> Tensor:
    x = torch.relu(m.conv(pixels))
    weights = torch.sigmoid(m.excite(torch.relu(m.squeeze(x.mean(dim=(2, 3))))))
    return m.out((x * weights[:, :, None, None]).flatten(1))


def _residual_batch_norm(m: Net, pixels: Tensor) -> Tensor:
    x = m.stem(pixels)
    x = x + m.norm2(m.conv2(torch.relu(m.norm1(m.conv1(x)))))
    return m.out(torch.relu(x).flatten(1))


def _mobile() -> nn.Module:
    """A pointwise, a depthwise and a pointwise convolution without biases, each with a normalisation."""
    layers = {"a": nn.Conv2d(3, 8, 1, bias=False), "an": nn.BatchNorm2d(8), "r1": nn.ReLU()}
    layers |= {"deep": nn.Conv2d(8, 8, 3, groups=8, bias=False), "dn": nn.BatchNorm2d(8), "r2": nn.ReLU()}
    layers |= {"b": nn.Conv2d(8, 6, 1, bias=False), "bn": nn.BatchNorm2d(6), "r3": nn.ReLU(), "flat": nn.Flatten()}
    return nn.Sequential(OrderedDict(layers | {"head": nn.Linear(96, 2)}))


EXAMPLES = [
    _convolution(
        "flatten, channels first",
        lambda: conv_chain(nn.ReLU(), nn.Flatten(), flat=288),
        {"a": exclusive(("b.weight", channels_first(36)))},
    ),
    _convolution(
        "flatten, channels last",
        lambda: conv_chain(nn.ReLU(), Permute(), nn.Flatten(), flat=288),
        {"a": exclusive(("b.weight", CHANNELS_LAST))},
    ),
    _convolution(
        "pooling",
        lambda: conv_chain(nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(3), nn.Flatten(), flat=8),
        {"a": exclusive("b")},
    ),
    _convolution(
        "channel shuffle",
        lambda: conv_chain(nn.ReLU(), nn.ChannelShuffle(2), nn.Conv2d(8, 6, 3), nn.Flatten(), flat=96),
        {"a": exclusive(("middle.2.weight", Feed(1, lambda p, n: _SHUFFLE[p])))},
        **{"middle.2": exclusive(("b.weight", channels_first(16)))},
    ),
    _convolution(
        "depthwise",
        lambda: conv_chain(
            nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.Flatten(), flat=96
        ),
        {"a": exclusive(("middle.1.weight", ROWS)), "middle.1": exclusive("middle.3")},
        **{"middle.3": exclusive(("b.weight", channels_first(16)))},
    ),
    _convolution(
        "depthwise twice without biases",
        lambda: conv_chain(
            *(nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8, bias=False)),
            *(nn.ReLU(), nn.Flatten()),
            flat=32,
            bias=False,
        ),
        {
            "a": _one_of(("middle.0.weight", ROWS), ("middle.2.weight", ROWS), ("b.weight", channels_first(4))),
            "middle.0": _one_of(("middle.2.weight", ROWS), ("b.weight", channels_first(4))),
            "middle.2": _one_of(("b.weight", channels_first(4))),
        },
    ),
    _convolution(
        "grouped",
        lambda: conv_chain(nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), flat=96),
        {"a": UNPROVED, "middle.1": exclusive(("b.weight", channels_first(16)))},
    ),
    _convolution(
        "transposed",
        lambda: conv_chain(nn.ReLU(), nn.ConvTranspose2d(8, 6, 2), nn.ReLU(), nn.Flatten(), flat=294),
        {"a": exclusive(("middle.1.weight", ROWS)), "middle.1": exclusive(("b.weight", channels_first(49)))},
    ),
    _convolution(
        "group norm",
        lambda: conv_chain(nn.GroupNorm(2, 8), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten(), flat=8),
        {"a": through_norm("b"), "middle.0": exclusive("b")},
    ),
    _convolution(
        "batch norm of images",
        lambda: conv_chain(nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), flat=288, bias=False),
        {"a": exclusive(("b.weight", channels_first(36))), "middle.0": exclusive(("b.weight", channels_first(36)))},
    ),
    Example(
        "squeeze and excitation",
        lambda: Net(
            _squeeze, conv=nn.Conv2d(3, 8, 3), squeeze=nn.Linear(8, 4), excite=nn.Linear(4, 8), out=nn.Linear(128, 2)
        ),
        (PIXELS,),
        {
            "conv": exclusive("squeeze", ("out.weight", channels_first(16)), partners=None),
            "squeeze": exclusive("excite"),
            "excite": exclusive(("out.weight", channels_first(16)), partners=None),
            "out": HEAD,
        },
    ),
    Example(
        "depthwise with batch norms",
        _mobile,
        (PIXELS,),
        {"a": exclusive(("deep.weight", ROWS)), "an": exclusive(("deep.weight", ROWS)), "deep": exclusive("b")}
        | {"dn": exclusive("b"), "b": exclusive(("head.weight", channels_first(16)))}
        | {"bn": exclusive(("head.weight", channels_first(16))), "head": HEAD},
    ),
    Example(
        "residual with batch norms",
        lambda: Net(
            _residual_batch_norm,
            stem=nn.Conv2d(3, 8, 3, padding=1),
            **{f"conv{i}": nn.Conv2d(8, 8, 3, padding=1, bias=False) for i in (1, 2)},
            **{f"norm{i}": nn.BatchNorm2d(8) for i in (1, 2)},
            out=nn.Linear(288, 2),
        ),
        (PIXELS,),
        {"stem": SHARED, "conv1": exclusive("conv2"), "norm1": exclusive("conv2"), "conv2": through_norm()}
        | {"norm2": SHARED, "out": HEAD},
    ),
]
