"""The networks in PyTorch."""

import numpy as np
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import ReGraMa, activations, gradients, layout_of, parameters, write
from tests.frameworks.networks import BETAS, LEARNING_RATE, Layer, Network, Values


class _Twin(nn.Module):
    """Two dense layers in one array, which no layer of PyTorch's holds."""

    def __init__(self, stack: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(stack, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(stack, outputs))

    def forward(self, x):
        return torch.einsum("bi,sio->sbo" if x.ndim == 2 else "sbi,sio->sbo", x, self.weight) + self.bias[:, None]


def _rule(name: str, parameter: nn.Parameter) -> na.NeuronGroup | None:
    """List the layers that hold a stack."""
    layer, _, kind = name.rpartition(".")
    if parameter.ndim != 3 or kind != "weight":
        return None
    return na.dense(layer, weight=(name, "stack in neuron"), bias=(f"{layer}.bias", "stack neuron"))


class TorchNet(nn.Module):
    """A program with layers of PyTorch."""

    relu, tanh, einsum, reshape = map(staticmethod, (torch.relu, torch.tanh, torch.einsum, torch.reshape))

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.program = network.run
        for name, layer in network.layers.items():
            self.add_module(name, _make(layer))

    def forward(self, x):
        return self.program(self, x)

    def dense(self, name, x):
        return self.get_submodule(name)(x)

    conv = norm = twin = dense

    def flatten(self, x):
        return x.flatten(1)

    def softmax(self, x):
        return x.softmax(-1)


def _make(layer: Layer) -> nn.Module:
    match layer.kind:
        case "dense":
            return nn.Linear(*layer.shape, bias=layer.bias)
        case "conv":
            return nn.Conv2d(layer.shape[2], layer.shape[3], layer.shape[:2])
        case "norm":
            return nn.LayerNorm(layer.shape, eps=1e-5)
        case _:
            return _Twin(*layer.shape)


def to_torch(network: Network, values: Values) -> dict[str, torch.Tensor]:
    """Bring weights into PyTorch's names and conventions."""
    named = {}
    for name, arrays in values.items():
        layer = network.layers[name]
        for kind, value in arrays.items():
            if kind == "kernel" and layer.image:
                value = value.reshape(*layer.image, -1).transpose(2, 0, 1, 3).reshape(value.shape)
            if kind == "kernel" and layer.kind == "dense":
                value = value.T
            if kind == "kernel" and layer.kind == "conv":
                value = value.transpose(3, 2, 0, 1)
            key = f"{name}.bias" if kind == "bias" else f"{name}.weight"
            named[key] = torch.from_numpy(np.ascontiguousarray(value))
    return named


class TorchSide:
    """A network in PyTorch, in float64."""

    def __init__(self, network: Network, values: Values) -> None:
        self.network = network
        self.model = TorchNet(network).double()
        write(self.model, to_torch(network, values))
        self.layout = layout_of(self.model, self.inputs(network.batch(0)), rule=_rule)

    def inputs(self, batch: np.ndarray) -> torch.Tensor:
        """Bring a batch into PyTorch's order: channels first."""
        return torch.from_numpy(np.moveaxis(batch, -1, 1).copy() if batch.ndim == 4 else batch)

    def params(self) -> dict[str, torch.Tensor]:
        return parameters(self.model)

    def loss(self, batch: np.ndarray) -> torch.Tensor:
        return sum((output**2).mean() for output in self.model(self.inputs(batch)))

    def gradients(self, batch: np.ndarray) -> dict[str, torch.Tensor]:
        self.model.zero_grad()
        self.loss(batch).backward()
        return gradients(self.model)

    def activations(self, batch: np.ndarray) -> dict[str, torch.Tensor | None]:
        return activations(self.model, self.inputs(batch), layout=self.layout)

    def reset(self, fresh: Values, masks: dict[str, np.ndarray]) -> dict:
        """Return the parameters with the masked neurons reset."""
        chosen = {name: torch.from_numpy(mask) for name, mask in masks.items()}
        return na.reset(self.params(), to_torch(self.network, fresh), chosen, self.layout)

    def train(self, batches, fresh: Values, **options) -> list[na.ActivityReport]:
        """Train with resets; returns the reports."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=1e-30)
        reports: list[na.ActivityReport] = []
        values = to_torch(self.network, fresh)
        ReGraMa(
            self.model,
            optimizer,
            layout=self.layout,
            initializer=lambda key: values,
            on_report=reports.append,
            **options,
        )
        for batch in batches:
            optimizer.zero_grad()
            self.loss(batch).backward()
            optimizer.step()
        return reports
