"""Neuron outputs, read where their consumers read them."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity.groups import NeuronGroup, ParamView
from neuroactivity.patterns import NEURON, bind, parse
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.models import owner_of, parameters, undisturbed

__all__ = ["activations"]


def activations(model: nn.Module, *inputs: Any, layout: na.Layout | None = None) -> dict[str, Tensor]:
    """Run a model and return its neurons' outputs as the layers behind read them, after the activation function.

    The model runs in evaluation mode, without gradients. Its mode, buffers and hooks and the random generators are left
    as they were.

    Args:
        model: The model.
        inputs: What the model is called with.
        layout: The neuron groups, by default those that ``layout_of`` finds. A group is read at the input of the module
            that holds its first outgoing parameter, or, without one, at the output of its own module.

    Returns:
        Outputs by group name, for :func:`neuroactivity.tau_dormant`.

    Raises:
        LayoutError: If a group's reader was not called or was given something else than the group's neurons.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> {name: tuple(value.shape) for name, value in activations(model, torch.ones(5, 3)).items()}
        {'0': (5, 4), '2': (5, 2)}
    """
    layout = layout_of(model, *inputs) if layout is None else layout
    seen: dict[str, list[Tensor]] = {name: [] for name in layout}
    with ExitStack() as stack:
        for name, group in layout.items():
            stack.callback(_listen(model, group, seen[name]).remove)
        with undisturbed(model), torch.no_grad():
            model.eval()
            model(*inputs)
    shapes = {name: tuple(value.shape) for name, value in parameters(model).items()}
    return {name: _outputs(layout[name], values, shapes, model) for name, values in seen.items()}


def _reader(model: nn.Module, group: NeuronGroup) -> ParamView | None:
    """Return the first outgoing view that another module holds."""
    own = owner_of(model, group.incoming[0].param)
    return next((view for view in group.outgoing if owner_of(model, view.param) is not own), None)


def _listen(model: nn.Module, group: NeuronGroup, seen: list[Tensor]) -> Any:
    """Hook onto the module where a group is read."""
    reader = _reader(model, group)

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0].detach())

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output).detach())

    if reader is None:
        return owner_of(model, group.incoming[0].param).register_forward_hook(after)
    return owner_of(model, reader.param).register_forward_pre_hook(before)


def _outputs(group: NeuronGroup, seen: list[Tensor], shapes: dict[str, tuple[int, ...]], model: nn.Module) -> Tensor:
    """Bring what was seen into the form that the group's activation pattern names."""
    reader = _reader(model, group)
    where = f"group {group.name!r}, activation {group.activation!r}"
    if not seen:
        module = (reader or group.incoming[0]).param.rpartition(".")[0]
        raise na.LayoutError(f"{where}: module {module!r}, where the neurons are read, was not called")
    values = seen[0] if len(seen) == 1 else torch.cat(seen)
    neurons = group.count(shapes)
    pattern, known = parse(group.activation), {NEURON: neurons}
    try:
        bind(pattern, tuple(values.shape), known)
    except na.LayoutError as error:
        if reader is None:
            raise na.LayoutError(f"{where}: {error}") from None
        values = _select(values, reader, neurons, channels_first=len(shapes[reader.param]) > 2)
        try:
            bind(pattern, tuple(values.shape), known)
        except na.LayoutError as error:
            raise na.LayoutError(f"{where}, read at the input of {reader.param!r}: {error}") from None
    return values


def _select(values: Tensor, reader: ParamView, neurons: int, *, channels_first: bool) -> Tensor:
    """Take a group's neurons out of an axis that holds more: a flattened convolution, a concatenation."""
    axis = 1 if channels_first else values.ndim - 1
    names = next(names for names in reader.parsed.axes if NEURON in names)
    sizes = [neurons if name == NEURON else reader.sizes.get(name, -1) for name in names]
    if reader.owners is not None:
        positions = [position for owned in reader.owners.positions for position in owned]
        values = values.index_select(axis, torch.tensor(positions, device=values.device))
        sizes = [neurons] if len(positions) == neurons else [neurons, -1]
    return values.reshape(*values.shape[:axis], *sizes, *values.shape[axis + 1 :])
