"""How a layer initialises its parameters, entry by entry, found out without drawing a number."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class Scheme(NamedTuple):
    """One distribution of all entries of a parameter.

    Attributes:
        kind: ``"uniform"`` with its bounds, ``"normal"`` with mean and standard deviation, or ``"constant"``.
        values: The two numbers, or the one.
    """

    kind: str
    values: tuple[float, ...]

    def fill(self, tensor: Tensor, generator: torch.Generator) -> Tensor:
        """Fill a tensor of the CPU, and return it."""
        if self.kind == "uniform":
            return tensor.uniform_(*self.values, generator=generator)
        if self.kind == "normal":
            return tensor.normal_(*self.values, generator=generator)
        return tensor.fill_(*self.values)


class _Recorder(TorchDispatchMode):
    """Notes what is written into tensors that have no memory."""

    def __init__(self, params: dict[str, Tensor]) -> None:
        super().__init__()
        self._params = params
        self._names = {value.untyped_storage()._cdata: name for name, value in params.items()}
        self.found: dict[str, Scheme | None] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for argument, given in zip(operation._schema.arguments, args, strict=False):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            for value in given if isinstance(given, list | tuple) else [given]:
                name = self._names.get(value.untyped_storage()._cdata)
                if name is not None:
                    whole = value is given and value.numel() == self._params[name].numel()
                    self.found[name] = _scheme(operation, args[1:], kwargs or {}) if whole else None
        return result


def _scheme(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scheme | None:
    """What an operation fills a tensor with."""
    given = [argument.name for argument in operation._schema.arguments[1:]]
    defaults = {argument.name: argument.default_value for argument in operation._schema.arguments[1:]}
    named = defaults | dict(zip(given, args, strict=False)) | kwargs
    match operation._overloadpacket.__name__:
        case "uniform_":
            return Scheme("uniform", (named["from"], named["to"]))
        case "normal_":
            return Scheme("normal", (named["mean"], named["std"]))
        case "zero_":
            return Scheme("constant", (0.0,))
        case "fill_" if isinstance(named["value"], int | float):
            return Scheme("constant", (float(named["value"]),))
    return None


def schemes(module: nn.Module, initialise: Callable[[], Any]) -> dict[str, Scheme]:
    """Return how a function initialises a module's own parameters, where it draws all their entries alike.

    Args:
        module: A module whose parameters are on the meta device.
        initialise: Its method that initialises them.
    """
    params = {name: value for name, value in module._parameters.items() if value is not None}
    try:
        with torch.no_grad(), _Recorder(params) as recorder:
            initialise()
    except Exception:  # noqa: BLE001: it needs numbers, so it is no scheme of this kind
        return {}
    kept = [name for name, value in params.items() if module._parameters.get(name) is value]
    return {name: scheme for name in kept if (scheme := recorder.found.get(name)) is not None}
