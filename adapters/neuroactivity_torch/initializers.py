"""Fresh parameter values: from the layers' own initialisers, a snapshot of the start, or the user's function.

Every draw has its own key and its own generator; the global generators are left as they were.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity.layout.groups import ParamView
from neuroactivity.layout.patterns import NEURON, BoundPattern
from neuroactivity.wrapping import derive_key
from neuroactivity_torch.models import check_like, owner_of, parameters

__all__ = ["FreshValues", "Initializer"]

Initializer: TypeAlias = Literal["layer", "snapshot"] | Callable[[int], Mapping[str, Tensor]]
"""``"layer"``, ``"snapshot"``, or a function from a key to freshly initialised parameters by name."""


class FreshValues:
    """Draws fresh values for the parameters that a reset takes over.

    Args:
        model: The model.
        layout: Its neuron groups.
        initializer: ``"layer"`` calls the ``reset_parameters`` of the module that holds the parameter, on a copy.
            ``"snapshot"`` takes rows at random from the values that the model has now. A function gets a key, an
            integer, while PyTorch's CPU generator is seeded with it, and returns fresh parameters by name.
        seed: Seed of all draws.

    Raises:
        ValueError: If a parameter has no initialiser, or a fresh value does not fit its parameter.
    """

    def __init__(self, model: nn.Module, layout: na.Layout, initializer: Initializer, *, seed: int) -> None:
        self._model, self._initializer, self._seed = model, initializer, seed
        self._views: dict[str, list[tuple[ParamView, BoundPattern]]] = {}
        shapes = {name: tuple(value.shape) for name, value in parameters(model).items()}
        for group in layout.values():
            for role, view, bound in group.bind(shapes).views:
                if group.resettable and role != "outgoing":
                    self._views.setdefault(view.param, []).append((view, bound))
        self.snapshot: dict[str, Tensor] | None = None
        if initializer == "snapshot":
            self.snapshot = {name: parameters(model)[name].clone() for name in self._views}
        elif initializer != "layer" and not callable(initializer):
            raise ValueError(f"initializer: expected 'layer', 'snapshot' or a function, got {initializer!r}")
        self.draw(event=0, names=self._views)

    def draw(self, event: int, names: Iterable[str]) -> dict[str, Tensor]:
        """Draw fresh values for the named parameters, on their devices.

        Args:
            event: Number of the reset.
            names: Names of parameters; those that no reset takes over are passed over.
        """
        wanted = [name for name in names if name in self._views]
        if self.snapshot is not None:
            fresh = {name: self._resample(name, event) for name in wanted}
        elif callable(self._initializer):
            fresh = self._call(event, wanted)
        else:
            fresh = {name: self._layer(name, event) for name in wanted}
        current = parameters(self._model)
        for name, value in fresh.items():
            check_like(value, current[name], f"parameter {name!r}, fresh value")
        return {name: value.detach().to(current[name].device) for name, value in fresh.items()}

    def _layer(self, name: str, event: int) -> Tensor:
        module = _skeleton(owner_of(self._model, name))
        initialise = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if initialise is None:
            raise ValueError(
                f"parameter {name!r}: {type(module).__name__} has no reset_parameters(), so initializer='layer' cannot "
                "draw fresh values for it; use initializer='snapshot' or a function from a key to fresh parameters"
            )
        with _seeded(derive_key(self._seed, event, name)):
            initialise()
        return dict(module.named_parameters(recurse=False))[name.rpartition(".")[2]]

    def _resample(self, name: str, event: int) -> Tensor:
        """Give each neuron the snapshot's entries of a neuron drawn at random."""
        assert self.snapshot is not None
        values = self.snapshot[name]
        generator = torch.Generator().manual_seed(derive_key(self._seed, event, name))
        for view, bound in self._views[name]:
            axis = bound.names.index(NEURON)
            owned = [[i] for i in range(bound.sizes[axis])] if view.owners is None else view.owners.positions
            positions = list(range(bound.sizes[axis]))
            for own, given in zip(owned, torch.randint(len(owned), (len(owned),), generator=generator), strict=True):
                for rank, position in enumerate(own):
                    positions[position] = owned[given][rank % len(owned[given])]
            index = torch.tensor(positions, device=values.device)
            values = values.reshape(bound.sizes).index_select(axis, index).reshape(values.shape)
        return values

    def _call(self, event: int, names: list[str]) -> dict[str, Tensor]:
        assert callable(self._initializer)
        key = derive_key(self._seed, event, "")
        with _seeded(key):
            fresh = self._initializer(key)
        missing = [name for name in names if name not in fresh]
        if missing:
            raise ValueError(f"initializer: expected a fresh value for parameter {missing[0]!r}, got {list(fresh)[:8]}")
        return {name: fresh[name] for name in names}


def _skeleton(module: nn.Module) -> nn.Module:
    """Copy a module with empty parameters on the CPU, sharing everything else; hooks and values stay untouched."""
    copy = type(module).__new__(type(module))
    copy.__dict__ = dict(module.__dict__)
    copy.__dict__["_parameters"] = {
        name: None if value is None else nn.Parameter(torch.zeros(value.shape, dtype=value.dtype), value.requires_grad)
        for name, value in module._parameters.items()
    }
    copy.__dict__["_buffers"] = {
        name: None if value is None else value.detach().to("cpu", copy=True) for name, value in module._buffers.items()
    }
    copy.__dict__["_modules"] = {
        name: None if child is None else _skeleton(child) for name, child in module._modules.items()
    }
    return copy


@contextmanager
def _seeded(key: int) -> Iterator[None]:
    """Seed the CPU generator, and put it back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key)
        yield
