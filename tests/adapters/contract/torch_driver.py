"""The network and its wrappers in PyTorch."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa, activations, layout_of, parameters, write
from tests.adapters.contract.network import FRESH, LAYERS, SHAPES, Counts, Values, X, layout, reset, weights


class Gated(nn.Module):
    """The network, of PyTorch's layers."""

    def __init__(self) -> None:
        super().__init__()
        for layer, shape in SHAPES.items():
            self.add_module(layer, nn.Linear(*shape))

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        return self.out(torch.relu(self.value(hidden)) * torch.relu(self.gate(hidden)))


class Unknown(torch.optim.Optimizer):
    """An optimizer with a state that nobody has described."""

    def __init__(self, params) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["odd"] = torch.ones(3)
            parameter -= 0.25 * parameter.grad


OPTIMIZERS = {
    "adam": lambda params: torch.optim.Adam(params, lr=0.01),
    "sgd": lambda params: torch.optim.SGD(params, lr=0.0),
    "unknown": Unknown,
}


class TorchDriver:
    """Trains the network with gradients that it is given; without a method by the plain optimizer."""

    rounding, initializers = 0.0, ("layer", "snapshot")
    read_as_factors: frozenset[str] = frozenset()

    def __init__(
        self,
        method: str | None = None,
        *,
        optimizer: Any = "adam",
        prepare: Callable[[nn.Module], None] = lambda model: None,
        initial: Values | None = None,
        trained: Sequence[str] = LAYERS,
        groups: na.Layout | None = None,
        initializer: str | Mapping[str, np.ndarray] = FRESH,
        **options: Any,
    ) -> None:
        self.model, self.probe = Gated(), X
        write(self.model, self.native(weights() if initial is None else initial))
        prepare(self.model)
        params = [p for name, p in self.model.named_parameters() if name.split(".")[0] in trained]
        self.optimizer = OPTIMIZERS.get(optimizer, optimizer)(params or [nn.Parameter(torch.ones(1))])
        if method is None:
            return
        if method == "redo":
            options["probe"] = lambda: torch.from_numpy(self.probe)
        self.wrapper = {"regrama": ReGraMa, "redo": ReDo}[method](
            self.model,
            self.optimizer,
            layout=self.layout(groups or layout()),
            initializer=self._initializer(initializer),
            **options,
        )

    def _initializer(self, initializer: str | Mapping[str, np.ndarray]) -> Any:
        if isinstance(initializer, str):
            return "layer" if initializer == "drawn" else initializer
        return lambda key: {n: v.to(self.model.get_parameter(n).dtype) for n, v in self.native(initializer).items()}

    @staticmethod
    def name(param: str) -> str:
        """Name a parameter as PyTorch does."""
        return param.replace("/", ".").replace("kernel", "weight")

    @classmethod
    def native(cls, values: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return {cls.name(name): torch.from_numpy(value.T.copy()) for name, value in values.items()}

    @classmethod
    def group(cls, group: na.NeuronGroup) -> na.NeuronGroup:
        """Describe a group in PyTorch's names and order of axes."""
        roles = {
            role: tuple(
                replace(view, param=cls.name(view.param), pattern=" ".join(reversed(view.pattern.split())))
                for view in getattr(group, role)
            )
            for role in ("incoming", "unscored", "outgoing")
        }
        return replace(group, **roles)

    @classmethod
    def layout(cls, groups: na.Layout) -> na.Layout:
        return na.Layout([cls.group(group) for group in groups.values()])

    @staticmethod
    def find_layout(**options: Any) -> na.Layout:
        """Find the layout of the network, instead of being given it."""
        return layout_of(Gated(), torch.from_numpy(X), **options)

    def activations(self, x: np.ndarray, groups: na.Layout) -> dict[str, np.ndarray]:
        outputs = activations(self.model, torch.from_numpy(x), layout=self.layout(groups))
        return {name: value.numpy() for name, value in outputs.items()}

    def step(self, grads: Mapping[str, np.ndarray | None]) -> None:
        """Take a step with these gradients, where there are some."""
        self.give(grads)
        self.optimizer.step()

    def give(self, grads: Mapping[str, np.ndarray | None]) -> None:
        """Put gradients where the step finds them, in the precision of their parameters."""
        native = self.native({name: value for name, value in grads.items() if value is not None})
        for name, parameter in self.model.named_parameters():
            parameter.grad = native[name].to(parameter.dtype) if name in native else None

    def params(self) -> Values:
        return self._read(parameters(self.model))

    def moments(self) -> list[Values]:
        """Return Adam's first and second moments."""
        named, state = dict(self.model.named_parameters()), self.optimizer.state
        return [
            self._read({name: state[parameter][key] for name, parameter in named.items()})
            for key in ("exp_avg", "exp_avg_sq")
        ]

    @staticmethod
    def _read(values: Mapping[str, torch.Tensor]) -> Values:
        wide = {n: value.to(torch.promote_types(value.dtype, torch.float32)) for n, value in values.items()}
        return {n.replace(".", "/").replace("weight", "kernel"): value.numpy().T.copy() for n, value in wide.items()}

    @staticmethod
    def expected(values: Values, dead: Mapping[str, list[int]]) -> Values:
        """What a reset of these neurons makes of the values that a step has left."""
        return reset(values, dead, FRESH)

    def counts(self) -> Counts:
        return Counts(*(getattr(self.wrapper, name) for name in Counts._fields))

    def report(self) -> na.ActivityReport | None:
        return self.wrapper.last_report

    def scalars(self, prefix: str) -> dict[str, float]:
        return self.wrapper.scalars(prefix)

    def state(self) -> Any:
        """Copy all that a resumed run is given."""
        return copy.deepcopy([part.state_dict() for part in (self.model, self.optimizer, self.wrapper)])

    def resume(self, state: Any) -> None:
        for part, saved in zip((self.model, self.optimizer, self.wrapper), state, strict=True):
            part.load_state_dict(saved)

    def wrap_again(self) -> None:
        """Attach another wrapper that resets the same."""
        ReGraMa(self.model, self.optimizer, layout=self.wrapper.layout)

    @staticmethod
    def noise() -> list[float]:
        """Draw from the framework's global generator."""
        return torch.rand(3).tolist()
