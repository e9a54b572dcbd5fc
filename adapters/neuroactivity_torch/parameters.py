"""A module's parameters as arrays by name, and back."""

import copy
import random
import sys
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuroactivity import LayoutError
from neuroactivity.arrays import check_like, is_sharded
from neuroactivity_torch.devices import shared_alike, unwrapped


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters by the names of ``named_parameters``, detached and not copied.

    Example:
        >>> {name: tuple(value.shape) for name, value in parameters(nn.Linear(3, 2)).items()}
        {'weight': (2, 3), 'bias': (2,)}
    """
    return {name: parameter.detach() for name, parameter in unwrapped(model).named_parameters()}


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    """Return what ``backward`` left in a module's parameters, by name; ``None`` where there is no gradient.

    Call it before the next ``backward`` or ``zero_grad`` that touches the module: an actor's loss adds to the gradients
    of the critic that it passes through.

    Example:
        >>> gradients(nn.Linear(3, 2))
        {'weight': None, 'bias': None}
    """
    return {name: dense_gradient(parameter) for name, parameter in unwrapped(model).named_parameters()}


def dense_gradient(parameter: Tensor) -> Tensor | None:
    """Return a parameter's gradient, detached, dense, and sharded as it is."""
    if parameter.grad is None:
        return None
    gradient = parameter.grad.detach()
    if is_sharded(gradient):
        gradient = shared_alike(gradient, parameter)
    return gradient.to_dense() if gradient.is_sparse else gradient


class UsedGradient(NamedTuple):
    """A gradient that an optimizer has stepped with, to tell whether a new backward pass has come since.

    Attributes:
        parameter: The first parameter that has one; ``None`` if none has.
        gradient: The gradient.
        version: How often it had been written to.
    """

    parameter: Tensor | None
    gradient: Tensor | None
    version: int

    @classmethod
    def of(cls, optimizer: Optimizer) -> "UsedGradient":
        """Note what an optimizer has stepped with."""
        held = (held for group in optimizer.param_groups for held in group["params"] if held.grad is not None)
        first = next(held, None)
        return cls(None, None, 0) if first is None else cls(first, first.grad, first.grad._version)

    @property
    def is_over(self) -> bool:
        """Whether there is another gradient now; one that was cleared is none."""
        now = None if self.parameter is None else dense_gradient(self.parameter)
        if self.parameter is None or now is None:
            return False
        written = self.gradient is not None and self.gradient._version != self.version
        return self.parameter.grad is not self.gradient or (written and bool(now.any()))


def write(model: nn.Module, params: Mapping[str, Tensor]) -> None:
    """Copy values into a module's parameters in place, all of them or none.

    Args:
        model: The module.
        params: Values by parameter name, of the parameters' shapes and dtypes. Parameters without a value stay as they
            are.

    Raises:
        LayoutError: If a name is unknown, or a value has another shape or dtype than its parameter; nothing is written.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> write(layer, {"bias": torch.tensor([3.0])})
        >>> layer.bias.item()
        3.0
    """
    named = dict(unwrapped(model).named_parameters())
    for name, value in params.items():
        if name not in named:
            raise LayoutError(f"parameter {name!r} is not in the model; there are {', '.join(list(named)[:8])}")
        check_like(value, named[name], f"parameter {name!r}")
    overwrite([(named[name], value) for name, value in params.items() if value.data_ptr() != named[name].data_ptr()])


def overwrite(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Copy values into tensors in place, all of them or none: if a write fails, what was written is put back.

    Args:
        pairs: Tensors with their new values.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        try:
            for tensor, value in pairs:
                kept.append((tensor, tensor.clone()))
                tensor.copy_(value)
        except BaseException:
            for tensor, value in reversed(kept):
                with suppress(Exception):  # of the tensor that cannot be written
                    tensor.copy_(value)
            raise


def owner_of(model: nn.Module, param: str) -> nn.Module:
    """Return the submodule that holds a parameter; where a part of its name is no module, the one that it is in."""
    named: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    path = param.rpartition(".")[0]
    while path not in named:
        path = path.rpartition(".")[0]
    return named[path]


class Parts(NamedTuple):
    """What there is in a model, looked up once: to walk through all of it takes as long as to run a small one."""

    modules: list[nn.Module]
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module) -> "Parts":
        """Walk through a model."""
        return cls(list(model.modules()), dict(model.named_parameters()), dict(model.named_buffers()))


_COPIED = {Tensor, tuple, list, dict, OrderedDict, deque}
"""Exactly these, and generators of random numbers: of a parameter or another module nothing is copied."""


def _is_copied(kind: type) -> bool:
    return kind in _COPIED or _is_generator(kind)


@cache
def _is_generator(kind: type) -> bool:
    """Whether a class is one of generators of random numbers: PyTorch's, Python's, NumPy's, which need not be there."""
    numpy: Any = sys.modules.get("numpy")
    of_numpy = (numpy.random.Generator, numpy.random.RandomState) if numpy else ()
    return issubclass(kind, (torch.Generator, random.Random, *of_numpy))


@contextmanager
def swapped(
    model: nn.Module, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], parts: Parts | None = None
) -> Iterator[None]:
    """Let a model compute with other tensors in the place of its parameters and buffers, and leave it as it was.

    Tensors are exchanged by identity wherever a module keeps them: under several names, in an alias of the module, in a
    recurrent layer's list of weights. What the modules' attributes were before, they are afterwards, the same objects;
    ``torch.func.functional_call`` loses the originals of a module that is registered twice. Other tensors among the
    attributes are copied, in case the model writes into them, and so are random generators.

    Args:
        model: The module.
        params: Tensors by the names of ``named_parameters``; parameters that are not named stay in place. A further
            name of a shared parameter gives that layer a tensor of its own.
        buffers: Likewise by the names of ``named_buffers``.
        parts: The model's parts, if they are known.

    Raises:
        LayoutError: If the parameters cannot be exchanged, as in a model that ``torch.jit`` has compiled.
    """
    modules, own, own_buffers = parts or Parts.of(model)
    others: dict[int, Any] = {id(old): buffers[name] for name, old in own_buffers.items() if name in buffers}
    others.update({id(old): params[name] for name, old in own.items() if name in params})
    kept = [(vars(module), dict(vars(module))) for module in modules]
    try:
        for attributes, values in kept:
            found = [(name, value) for name, value in values.items() if id(value) in others or _is_copied(type(value))]
            attributes.update([(name, _exchange(value, others)) for name, value in found])
        for name in params.keys() - own.keys():
            owner_of(model, name)._parameters[name.rpartition(".")[2]] = params[name]  # type: ignore[assignment]
        if any(params.get(name, parameter) is not parameter for name, parameter in model.named_parameters()):
            raise LayoutError(f"the parameters of {type(model).__name__} cannot be exchanged to probe it; give layout=")
        yield
    finally:
        for attributes, values in kept:
            attributes.clear()
            attributes.update(values)


def _exchange(value: Any, others: dict[int, Any]) -> Any:
    """Copy plain containers, with other tensors in them; ``others`` has what takes an object's place, by identity."""
    if id(value) in others:
        return others[id(value)]
    kind: Any = type(value)
    if not _is_copied(kind):
        return value
    if _is_generator(kind):
        return others.setdefault(
            id(value), copy.deepcopy(value) if kind is not torch.Generator else value.clone_state()
        )
    if kind is Tensor:
        return others.setdefault(id(value), value.detach().clone())
    if kind is tuple:
        return tuple([_exchange(entry, others) for entry in value])
    copied: Any
    copied = others[id(value)] = deque(maxlen=value.maxlen) if kind is deque else kind()
    if kind in (list, deque):
        copied.extend([_exchange(entry, others) for entry in value])
    elif value:
        copied.update([(key, _exchange(entry, others)) for key, entry in value.items()])
    return copied


@contextmanager
def seeded(seed: int | None, devices: Sequence[int] = ()) -> Iterator[None]:
    """Restore the random generators of PyTorch, Python and NumPy afterwards; a seed sets them meanwhile.

    Args:
        seed: The seed; with ``None`` they go on from where they are.
        devices: CUDA devices whose generators take part.
    """
    numpy: Any = sys.modules.get("numpy")
    of_python, of_numpy = random.getstate(), numpy.random.get_state() if numpy else None
    try:
        with torch.random.fork_rng(devices=list(devices)):
            if seed is not None:
                for generator in (torch.default_generator, *[torch.cuda.default_generators[i] for i in devices]):
                    generator.manual_seed(seed)
                random.seed(seed)
                if numpy:
                    numpy.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(of_python)
        if numpy:
            numpy.random.set_state(of_numpy)


@contextmanager
def undisturbed(model: nn.Module, *, seed: int | None = None, parts: Parts | None = None) -> Iterator[None]:
    """Restore a model's mode and buffers and the random generators afterwards; a seed sets the generators meanwhile."""
    modules, own, own_buffers = parts or Parts.of(model)
    modes = [(module, module.training) for module in modules]
    buffers = [(buffer, buffer.clone()) for buffer in own_buffers.values()]
    devices = sorted({parameter.device.index for parameter in own.values() if parameter.is_cuda})
    try:
        with seeded(seed, devices):
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
