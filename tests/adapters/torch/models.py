"""Small models and training steps that the PyTorch tests share."""

import torch
from torch import Tensor, nn

import neuroactivity as na

X = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def mlp(seed: int = 0, *, width: int = 16, activation: type[nn.Module] = nn.ReLU, inputs: int = 5, outputs: int = 2):
    """Build a chain of three linear layers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Linear(inputs, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, outputs))
    )


def convnet(seed: int = 0):
    """Build a convolution, a flatten and two linear layers for images of 1 x 8 x 8."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Sequential(nn.Linear(54, 16), nn.Tanh(), nn.Linear(16, 3)),
    )


class TwoHeaded(nn.Module):
    """The shape of SAC's actor: a trunk that feeds a mean and a log standard deviation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU())
        self.mean = nn.Linear(12, 2)
        self.log_std = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.trunk(x)
        return torch.cat([self.mean(hidden), self.log_std(hidden)], dim=-1)

    @staticmethod
    def layout() -> na.Layout:
        def dense(name: str, feeds: list[str], resettable: bool = True) -> na.NeuronGroup:
            outgoing = [(f"{layer}.weight", "out neuron") for layer in feeds]
            weight = (f"{name}.weight", "neuron in")
            return na.dense(name, weight=weight, bias=f"{name}.bias", outgoing=outgoing, resettable=resettable)

        return na.Layout(
            [
                dense("trunk.0", ["trunk.2"]),
                dense("trunk.2", ["mean", "log_std"]),
                dense("mean", [], resettable=False),
                dense("log_std", [], resettable=False),
            ]
        )


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    """Train one step."""
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def values(model: nn.Module) -> dict[str, Tensor]:
    """Copy a model's state."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def kill(layer: nn.Linear, neurons: list[int]) -> None:
    """Make neurons of a layer that a ReLU follows dead for good, whatever their inputs are."""
    with torch.no_grad():
        layer.weight[neurons] = 0.0
        layer.bias[neurons] = -1.0
