"""The published networks at small width, and the usual agents' networks, with the truth of each."""

import torch
from torch import Tensor, nn
from torch.nn import functional

import neuroactivity as na
from tests.neuroactivity.discovery.truth import (
    HEAD,
    SHARED,
    STACKED,
    Example,
    Truth,
    at,
    channels_first,
    exclusive,
    through_norm,
)

OBS, ACTION = torch.zeros(16, 5), torch.zeros(16, 2)


class BroNet(nn.Module):
    """BRO: a stream behind a normalisation, to which each block adds a normalised update."""

    def __init__(self, inputs: int, width: int, blocks: int, heads: tuple[int, ...]) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(inputs, width), nn.LayerNorm(width)
        parts = [nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width)]
        self.blocks = nn.ModuleList(nn.Sequential(*parts) for _ in range(1))
        for _ in range(blocks - 1):
            again = [nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU()]
            self.blocks.append(nn.Sequential(*again, nn.Linear(width, width), nn.LayerNorm(width)))
        self.heads = nn.ModuleList(nn.Linear(width, head) for head in heads)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        stream = functional.relu(self.norm(self.embed(torch.cat(inputs, dim=-1))))
        for block in self.blocks:
            stream = stream + block(stream)
        return [head(stream) for head in self.heads]

    @staticmethod
    def truth(prefix: str, blocks: int, heads: int) -> dict[str, Truth]:
        truth = {f"{prefix}embed": through_norm(), f"{prefix}norm": SHARED}
        for block in range(blocks):
            path = f"{prefix}blocks.{block}"
            truth |= {f"{path}.0": through_norm(f"{path}.3"), f"{path}.1": exclusive(f"{path}.3")}
            truth |= {f"{path}.3": through_norm(), f"{path}.4": SHARED}
        return truth | {f"{prefix}heads.{head}": HEAD for head in range(heads)}


class BroAgent(nn.Module):
    """Twin critics with quantiles, and an actor with a mean and a standard deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = BroNet(7, 16, 2, (6,)), BroNet(7, 16, 2, (6,))
        self.actor = BroNet(5, 12, 1, (2, 2))

    def forward(self, obs: Tensor, action: Tensor) -> list[list[Tensor]]:
        return [self.first(obs, action), self.second(obs, action), self.actor(obs)]


def dense_of(name: str, stacked: str) -> na.NeuronGroup:
    """Describe a layer of independent copies held in a bare parameter."""
    return na.dense(name, weight=(f"{name}_weight", f"{stacked} in neuron"), bias=(f"{name}_bias", f"{stacked} neuron"))


def stack_rule(name: str, parameter: nn.Parameter) -> na.NeuronGroup | None:
    """Group the bare parameters ``*_weight`` with ``*_bias``, and ``*_scale`` with ``*_shift``."""
    layer, _, kind = name.rpartition("_")
    if kind == "weight":
        return dense_of(layer, "stack")
    if kind == "scale":
        return na.norm(layer, scale=(name, "stack neuron"), shift=(f"{layer}_shift", "stack neuron"))
    return None


class Stacked(nn.Module):
    """Layers of two independent copies, each held in one array."""

    def dense(self, name: str, inputs: int, outputs: int) -> None:
        self.register_parameter(f"{name}_weight", nn.Parameter(torch.randn(2, inputs, outputs) / inputs**0.5))
        self.register_parameter(f"{name}_bias", nn.Parameter(torch.zeros(2, outputs)))

    def norm(self, name: str, width: int) -> None:
        self.register_parameter(f"{name}_scale", nn.Parameter(torch.ones(2, width)))
        self.register_parameter(f"{name}_shift", nn.Parameter(torch.zeros(2, width)))

    def apply_dense(self, name: str, x: Tensor) -> Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return torch.einsum("sbi,sio->sbo", x, weight) + bias[:, None]

    def apply_norm(self, name: str, x: Tensor) -> Tensor:
        scale, shift = getattr(self, f"{name}_scale"), getattr(self, f"{name}_shift")
        return functional.layer_norm(x, x.shape[-1:]) * scale[:, None] + shift[:, None]


class TwinCritics(Stacked):
    """SAC's two critics in one array."""

    def __init__(self) -> None:
        super().__init__()
        self.dense("first", 7, 12)
        self.dense("second", 12, 10)
        self.dense("value", 10, 1)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([obs, action], dim=-1).expand(2, -1, -1)
        x = functional.relu(self.apply_dense("first", x))
        x = functional.relu(torch.baddbmm(self.second_bias[:, None], x, self.second_weight))
        return self.apply_dense("value", x)


class SimbaCritics(Stacked):
    """SimBa's clipped double critics: a stream that only normalisations read."""

    def __init__(self) -> None:
        super().__init__()
        self.dense("embed", 7, 8)
        self.norm("norm", 8)
        self.dense("wide", 8, 24)
        self.dense("narrow", 24, 8)
        self.norm("last", 8)
        self.dense("value", 8, 1)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        x = self.apply_dense("embed", torch.cat([obs, action], dim=-1).expand(2, -1, -1))
        hidden = functional.relu(self.apply_dense("wide", self.apply_norm("norm", x)))
        return self.apply_dense("value", self.apply_norm("last", x + self.apply_dense("narrow", hidden)))


class SimbaActor(nn.Module):
    """SimBa's actor: pre-norm residual blocks, a last normalisation, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        block = (nn.LayerNorm(8), nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))
        self.block, self.last = nn.Sequential(*block), nn.LayerNorm(8)
        self.mean, self.log_std = nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        stream = self.embed(obs)
        features = self.last(stream + self.block(stream))
        return self.mean(features), self.log_std(features)


class Dacer(nn.Module):
    """DACER: a diffusion policy that reads observation, action and an embedded time, and a critic with two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = nn.Sequential(nn.Linear(15, 12), nn.Mish(), nn.Linear(12, 12), nn.Mish(), nn.Linear(12, 2))
        self.critic = nn.Sequential(nn.Linear(7, 12), nn.Mish(), nn.Linear(12, 12), nn.Mish(), nn.Linear(12, 2))
        self.time = nn.Sequential(nn.Linear(8, 16), nn.Mish(), nn.Linear(16, 8))

    def forward(self, obs: Tensor, action: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        angles = time[:, None] * torch.exp(torch.arange(4, device=time.device) * -1.5)
        embedded = self.time(torch.cat([angles.sin(), angles.cos()], dim=-1).to(obs))
        return self.policy(torch.cat([obs, action, embedded], dim=-1)), self.critic(torch.cat([obs, action], dim=-1))


class SacActor(nn.Module):
    """SAC's actor: a trunk with a head for the mean and one for the standard deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_std = nn.Linear(12, 2), nn.Linear(12, 2)
        self.trunk = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU())

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(obs)
        return self.mean(features).tanh(), self.log_std(features).clamp(-20, 2).exp()


class Dueling(nn.Module):
    """A value and an advantage head on a convolutional trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2), nn.ReLU(), nn.Flatten())
        self.value = nn.Sequential(nn.Linear(54, 10), nn.ReLU(), nn.Linear(10, 1))
        self.advantage = nn.Sequential(nn.Linear(54, 10), nn.ReLU(), nn.Linear(10, 4))

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.trunk(pixels)
        advantage = self.advantage(features)
        return self.value(features) + advantage - advantage.mean(dim=-1, keepdim=True)


class Impala(nn.Module):
    """IMPALA's residual convolutional network: two stages of a convolution, a pooling and a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)])
        widths = (6, 8)
        self.inner = nn.ModuleList(nn.Conv2d(width, width + 1, 3, padding=1) for width in widths)
        self.outer = nn.ModuleList(nn.Conv2d(width + 1, width, 3, padding=1) for width in widths)
        self.features, self.policy, self.value = nn.Linear(32, 16), nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = pixels
        for stage, inner, outer in zip(self.stages, self.inner, self.outer, strict=True):
            x = functional.max_pool2d(stage(x), 3, stride=2, padding=1)
            x = x + outer(functional.relu(inner(functional.relu(x))))
        features = functional.relu(self.features(functional.relu(x).flatten(1)))
        return self.policy(features), self.value(features)


EXAMPLES = [
    Example(
        "bro",
        BroAgent,
        (OBS, ACTION),
        BroNet.truth("first.", 2, 1) | BroNet.truth("second.", 2, 1) | BroNet.truth("actor.", 1, 2),
    ),
    Example(
        "simba actor",
        SimbaActor,
        (OBS,),
        {"embed": SHARED, "block.0": exclusive("block.1"), "block.1": exclusive("block.3"), "block.3": SHARED}
        | {"last": exclusive("mean", "log_std"), "mean": HEAD, "log_std": HEAD},
    ),
    Example(
        "simba stacked critics",
        SimbaCritics,
        (OBS, ACTION),
        {"embed": SHARED, "norm": exclusive(("wide_weight", STACKED)), "wide": exclusive(("narrow_weight", STACKED))}
        | {"narrow": SHARED, "last": exclusive(("value_weight", STACKED)), "value": HEAD},
        {"rule": stack_rule},
    ),
    Example(
        "dacer",
        Dacer,
        (OBS, ACTION, torch.zeros(16)),
        {"policy.0": exclusive("policy.2"), "policy.2": exclusive("policy.4"), "policy.4": HEAD}
        | {"critic.0": exclusive("critic.2"), "critic.2": exclusive("critic.4"), "critic.4": HEAD}
        | {"time.0": exclusive("time.2"), "time.2": exclusive(("policy.0.weight", at(7)))},
    ),
    Example(
        "twin critics in one array",
        TwinCritics,
        (OBS, ACTION),
        {"first": exclusive(("second_weight", STACKED)), "second": exclusive(("value_weight", STACKED)), "value": HEAD},
        {"rule": stack_rule},
    ),
    Example(
        "sac actor",
        SacActor,
        (OBS,),
        {"trunk.0": exclusive("trunk.2"), "trunk.2": exclusive("mean", "log_std"), "mean": HEAD, "log_std": HEAD},
    ),
    Example(
        "dueling",
        Dueling,
        (torch.zeros(8, 2, 8, 8),),
        {"trunk.0": exclusive(("value.0.weight", channels_first(9)), ("advantage.0.weight", channels_first(9)))}
        | {"value.0": exclusive("value.2"), "advantage.0": exclusive("advantage.2")}
        | {"value.2": HEAD, "advantage.2": HEAD},
    ),
    Example(
        "impala",
        Impala,
        (torch.zeros(8, 2, 8, 8),),
        {"stages.0": SHARED, "inner.0": exclusive("outer.0"), "outer.0": SHARED, "stages.1": SHARED}
        | {"inner.1": exclusive("outer.1"), "outer.1": SHARED, "features": exclusive("policy", "value")}
        | {"policy": HEAD, "value": HEAD},
    ),
]
