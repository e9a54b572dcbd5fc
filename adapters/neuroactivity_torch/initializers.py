"""Fresh parameter values: from the layers' own initialisers, a snapshot of the start, or the user's function.

Every draw has its own key and its own generator; the global generators are left as they were.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity.wrapping import check_fresh, check_initializer, check_seed, derive_key, drawn_views, resample
from neuroactivity_torch.parameters import owner_of, parameters

Initializer: TypeAlias = Literal["layer", "snapshot"] | Callable[[int], Mapping[str, Tensor]]
"""``"layer"``, ``"snapshot"``, or a function from a key to freshly initialised parameters by name."""


class FreshValues:
    """Draws fresh values for the parameters of neurons that are reset.

    Args:
        model: The model.
        layout: Its neuron groups.
        initializer: ``"layer"`` calls the ``reset_parameters`` of the module that holds the parameter, on a copy.
            ``"snapshot"`` draws rows at random from the values that the model has now. A function gets a key, an
            integer, while PyTorch's CPU generator is seeded with it, and returns fresh parameters by name.
        seed: Seed of all draws.

    Attributes:
        snapshot: The values that rows are drawn from, by parameter name; ``None`` for another initializer.

    Raises:
        ValueError: If the initializer or the seed is not of these, a parameter has no initialiser, or a fresh value is
            missing or does not fit its parameter.
    """

    def __init__(self, model: nn.Module, layout: na.Layout, initializer: Initializer, *, seed: int) -> None:
        check_initializer(initializer, "layer", "snapshot")
        self._model, self._initializer, self._seed = model, initializer, check_seed(seed)
        params = parameters(model)
        self._views = drawn_views(layout, {name: tuple(value.shape) for name, value in params.items()})
        self.snapshot: dict[str, Tensor] | None = None
        if initializer == "snapshot":
            self.snapshot = {name: params[name].clone() for name in self._views}
        self.draw(event=0, names=self._views)

    def draw(self, event: int, names: Iterable[str]) -> dict[str, Tensor]:
        """Draw fresh values for the named parameters, on their devices.

        Args:
            event: Number of the reset.
            names: Names of parameters; those that no reset draws anew are skipped.
        """
        names = [name for name in names if name in self._views]
        fresh: Mapping[str, Tensor]
        if self.snapshot is not None:
            fresh = {name: self._resample(name, self.snapshot[name], event) for name in names}
        elif callable(self._initializer):
            key = derive_key(self._seed, event, "")
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(key)
                fresh = self._initializer(key)
        else:
            fresh = {name: self._reinitialise(name, event) for name in names}
        params = parameters(self._model)
        check_fresh(fresh, params, names)
        return {name: fresh[name].detach().to(params[name].device) for name in names}

    def _reinitialise(self, name: str, event: int) -> Tensor:
        """Run the initialiser of the module that holds a parameter, on a copy."""
        module = _skeleton(owner_of(self._model, name))
        initialise = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if initialise is None:
            raise ValueError(
                f"parameter {name!r}: {type(module).__name__} has no reset_parameters(), so initializer='layer' cannot "
                "draw fresh values for it; use initializer='snapshot' or a function from a key to fresh parameters"
            )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_key(self._seed, event, name))
            initialise()
        return module.get_parameter(name.rpartition(".")[2])

    def _resample(self, name: str, values: Tensor, event: int) -> Tensor:
        """Give each neuron the snapshot's entries of a neuron drawn at random."""
        generator = torch.Generator().manual_seed(derive_key(self._seed, event, name))

        def donors(neurons: int, number: int) -> Tensor:
            return torch.randint(neurons, (neurons,), generator=generator).to(values.device)

        exchanged: Tensor = resample(values, self._views[name], donors)
        return exchanged


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
