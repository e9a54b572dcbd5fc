"""Tiny networks of the kinds that people attach the library to, with layers of their own."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from tests.adapters.torch.transformers import GPT, GPT2, Llama, Mixer, ViT

__all__ = ["GPT", "GPT2", "Llama", "Mixer", "ViT"]

TOKENS = torch.arange(24).reshape(4, 6) % 7
PIXELS = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
STATES = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))


def mappo(width: int = 8) -> nn.Module:
    """Each normalisation stands behind the activation function."""
    return nn.Sequential(
        nn.LayerNorm(5),
        *(nn.Linear(5, width), nn.ReLU(), nn.LayerNorm(width)),
        *(nn.Linear(width, width), nn.ReLU(), nn.LayerNorm(width)),
        nn.Linear(width, 2),
    )


class RunningNorm(nn.Module):
    """Observations by their running mean and variance: no parameters."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / (self.var + 1e-8).sqrt()


class SimBa(nn.Module):
    """An embedding, a residual block behind a LayerNorm, a LayerNorm and the head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.rsnorm, self.embed, self.norm = RunningNorm(5), nn.Linear(5, width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 16), nn.Linear(16, width)
        self.post, self.head = nn.LayerNorm(width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(self.rsnorm(x))
        return self.head(self.post(x + self.down(F.relu(self.up(self.norm(x))))))


class Scaler(nn.Module):
    """A learned factor for each feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scaler = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.scaler * x


class SimbaV2(nn.Module):
    """Features on a sphere: no biases, learned factors, a step from the old features to the new ones."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed, self.embed_scale = nn.Linear(6, width, bias=False), Scaler(width)
        self.up, self.up_scale, self.down = (
            nn.Linear(width, 16, bias=False),
            Scaler(16),
            nn.Linear(16, width, bias=False),
        )
        self.step = Scaler(width)
        self.mid, self.mid_scale, self.head = nn.Linear(width, width, bias=False), Scaler(width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.normalize(torch.cat([x, torch.full_like(x[:, :1], 3.0)], dim=-1), dim=-1)
        x = F.normalize(self.embed_scale(self.embed(x)), dim=-1)
        new = F.normalize(self.down(F.relu(self.up_scale(self.up(x)))), dim=-1)
        x = F.normalize(x + self.step(new - x), dim=-1)
        return self.head(self.mid_scale(self.mid(x)))


class Experts(nn.Module):
    """Dense layers side by side, chosen for each sample: by all of the router's weights, or by the largest."""

    def __init__(self, width: int = 8, *, top1: bool = False) -> None:
        super().__init__()
        self.embed, self.router = nn.Linear(5, width), nn.Linear(width, 3)
        self.experts = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 12), nn.ReLU(), nn.Linear(12, width)) for _ in range(3)]
        )
        self.head, self.top1 = nn.Linear(width, 2), top1

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.embed(x))
        gate = self.router(x).softmax(-1)
        if self.top1:
            gate = gate * F.one_hot(gate.argmax(-1), 3)
        return self.head(F.relu((gate[..., None] * torch.stack([expert(x) for expert in self.experts], -2)).sum(-2)))


class StackedExperts(nn.Module):
    """The same with all experts in one array."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.randn(3, width, 12)), nn.Parameter(torch.randn(3, 12, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("beh,ehd->bd", F.relu(torch.einsum("bd,edh->beh", x, self.w1)), self.w2)


class BatchRenorm(nn.Module):
    """CrossQ's: statistics of the batch, brought to the running ones by factors without gradient."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, unbiased=False)
            with torch.no_grad():
                self.running_mean.lerp_(mean, 0.01)
                self.running_var.lerp_(var, 0.01)
        return self.scale * (x - mean) / (var + 1e-3).sqrt() + self.bias


def crossq(width: int = 8) -> nn.Module:
    """A critic with a renormalisation in front of each layer."""
    return nn.Sequential(
        *(BatchRenorm(5), nn.Linear(5, width), nn.ReLU()),
        *(BatchRenorm(width), nn.Linear(width, width), nn.ReLU()),
        *(BatchRenorm(width), nn.Linear(width, 1)),
    )


class NoisyLinear(nn.Module):
    """NoisyNet's layer, with factorised noise in training."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight_mu = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.weight_sigma = nn.Parameter(torch.full((outputs, inputs), 0.1))
        self.bias_mu, self.bias_sigma = nn.Parameter(torch.zeros(outputs)), nn.Parameter(torch.full((outputs,), 0.1))
        self.register_buffer("weight_epsilon", torch.randn(outputs, inputs))
        self.register_buffer("bias_epsilon", torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.linear(x, self.weight_mu, self.bias_mu)
        weight = self.weight_mu + self.weight_sigma * self.weight_epsilon
        return F.linear(x, weight, self.bias_mu + self.bias_sigma * self.bias_epsilon)


class NoisySubclass(nn.Linear):
    """The same as a subclass of ``Linear``, as in TorchRL: ``weight`` and ``bias`` are computed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = inputs, outputs
        self.noisy = NoisyLinear(inputs, outputs)
        for name, value in list(self.noisy.named_parameters()):
            self.register_parameter(name, value)
        del self.noisy
        self.register_buffer("weight_epsilon", torch.randn(outputs, inputs))

    @property
    def weight(self) -> Tensor:
        return self.weight_mu + self.weight_sigma * self.weight_epsilon if self.training else self.weight_mu

    @property
    def bias(self) -> Tensor:
        return self.bias_mu + self.bias_sigma if self.training else self.bias_mu


def noisy(layer: type[nn.Module], width: int = 8) -> nn.Module:
    """Rainbow's head behind a plain layer."""
    return nn.Sequential(nn.Linear(5, width), nn.ReLU(), layer(width, width), nn.ReLU(), layer(width, 2))


class DreamerCell(nn.Module):
    """A gated recurrent unit with one normalisation over all gates, unrolled for three steps."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.inputs, self.gates, self.norm = (
            nn.Linear(5, width),
            nn.Linear(2 * width, 3 * width, bias=False),
            nn.LayerNorm(3 * width),
        )
        self.head, self.width = nn.Linear(width, 2), width

    def forward(self, x: Tensor) -> Tensor:
        hidden, fed = x.new_zeros(len(x), self.width), F.silu(self.inputs(x))
        for _ in range(3):
            reset, new, update = self.norm(self.gates(torch.cat([fed, hidden], -1))).chunk(3, -1)
            update = torch.sigmoid(update - 1)
            hidden = update * torch.tanh(torch.sigmoid(reset) * new) + (1 - update) * hidden
        return self.head(hidden)


class ResBlock(nn.Module):
    """Two convolutions behind GroupNorms, with a time embedding added in between."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(2, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time, self.norm2 = nn.Linear(8, outputs), nn.GroupNorm(2, outputs)
        self.conv2, self.skip = nn.Conv2d(outputs, outputs, 3, padding=1), nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x))) + self.time(time)[..., None, None]
        return self.conv2(F.silu(self.norm2(y))) + self.skip(x)


class UNet(nn.Module):
    """Down and up again, with a skip by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.time1, self.time2 = nn.Linear(4, 8), nn.Linear(8, 8)
        self.stem, self.down, self.up = nn.Conv2d(1, 8, 3, padding=1), ResBlock(8, 16), ResBlock(24, 8)
        self.norm, self.out = nn.GroupNorm(2, 8), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        time = F.silu(self.time2(F.silu(self.time1(time))))
        first = self.stem(x)
        x = self.down(F.avg_pool2d(first, 2), time)
        x = self.up(torch.cat([F.interpolate(x, scale_factor=2.0), first], 1), time)
        return self.out(F.silu(self.norm(x)))
