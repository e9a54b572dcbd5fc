"""Neuron outputs, read where their consumers read them."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity.layout.groups import NeuronGroup, ParamView
from neuroactivity.layout.patterns import NEURON, Pattern, bind, parse
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.models import owner_of, parameters, undisturbed

__all__ = ["activations"]


def activations(model: nn.Module, *inputs: Any, layout: na.Layout | None = None) -> dict[str, Tensor | None]:
    """Run a model and return its neurons' outputs as the layers behind read them, after the activation function.

    The model runs in evaluation mode, without gradients. Its mode, buffers and hooks and the random generators are left
    as they were.

    Args:
        model: The model.
        inputs: What the model is called with.
        layout: The neuron groups, by default those that ``layout_of`` finds. A group is read at the input of the module
            that holds its first outgoing parameter, or, without one, at the output of a module that holds this group
            alone.

    Returns:
        Outputs by group name, for :func:`neuroactivity.tau_dormant`; ``None`` for a group that no module shows: the
        inside of attention, or of a recurrent layer with several layers.

    Raises:
        LayoutError: If a group's reader was given something else than the group's neurons.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> {name: tuple(value.shape) for name, value in activations(model, torch.ones(5, 3)).items()}
        {'0': (5, 4), '2': (5, 2)}
    """
    layout = layout_of(model, *inputs) if layout is None else layout
    seen: dict[str, list[Tensor]] = {name: [] for name in layout}
    with ExitStack() as stack:
        for name, group in layout.items():
            for handle in _listen(model, group, seen[name]):
                stack.callback(handle.remove)
        with undisturbed(model), torch.no_grad():
            model.eval()
            model(*inputs)
    shapes = {name: tuple(value.shape) for name, value in parameters(model).items()}
    return {name: _outputs(layout[name], values, shapes, model) for name, values in seen.items()}


def _reader(model: nn.Module, group: NeuronGroup) -> ParamView | None:
    """Return the first outgoing view that another module holds."""
    own = owner_of(model, group.incoming[0].param)
    return next((view for view in group.outgoing if owner_of(model, view.param) is not own), None)


def _listen(model: nn.Module, group: NeuronGroup, seen: list[Tensor]) -> list[Any]:
    """Hook onto the module where a group is read."""

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0].detach())

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output).detach())

    reader = _reader(model, group)
    if reader is not None:
        return [owner_of(model, reader.param).register_forward_pre_hook(before)]
    module = owner_of(model, group.incoming[0].param)
    held = {view.param.rpartition(".")[2] for view in group.incoming + group.unscored if view.index is None}
    alone = all(name in held for name, _ in module.named_parameters(recurse=False))
    return [module.register_forward_hook(after)] if alone else []


def _outputs(
    group: NeuronGroup, seen: list[Tensor], shapes: dict[str, tuple[int, ...]], model: nn.Module
) -> Tensor | None:
    """Bring what was seen into the form that the group's activation pattern names."""
    if not seen:
        return None
    reader, neurons = _reader(model, group), group.count(shapes)
    values = seen[0] if len(seen) == 1 else torch.cat(seen)
    try:
        if reader is not None:
            convolves = isinstance(owner_of(model, reader.param), nn.modules.conv._ConvNd)
            axis = 1 if convolves else values.ndim - 1
            values = _arrange(_along_neurons(values, reader, neurons, axis), parse(group.activation))
        bind(parse(group.activation), tuple(values.shape), {NEURON: neurons})
    except (na.LayoutError, RuntimeError) as error:
        place = f", read at the input of {reader.param!r}" if reader is not None else ""
        raise na.LayoutError(f"group {group.name!r}, activation {group.activation!r}{place}: {error}") from None
    return values


def _along_neurons(values: Tensor, reader: ParamView, neurons: int, axis: int) -> Tensor:
    """Take a group's neurons out of the axis that its reader reads, and make them the last axis."""
    names = next(names for names in reader.parsed.axes if NEURON in names)
    sizes = [neurons if name == NEURON else reader.sizes.get(name, -1) for name in names]
    place = names.index(NEURON)
    if reader.owners is not None:
        positions = [position for owned in reader.owners.positions for position in owned]
        values = values.index_select(axis, torch.tensor(positions, device=values.device))
        sizes, place = [neurons] if len(positions) == neurons else [neurons, -1], 0
    values = values.reshape(*values.shape[:axis], *sizes, *values.shape[axis + 1 :])
    return values.movedim(axis + place, -1)


def _arrange(values: Tensor, pattern: Pattern) -> Tensor:
    """Move the neurons from the last axis to where the pattern of the group's outputs has them."""
    if pattern.axes[-1] == (NEURON,):
        return values
    if pattern.axes[1:2] == ((NEURON,),):
        return values.movedim(-1, 1)
    if pattern.axes[-1][0] == NEURON:
        return values.movedim(-1, -2).flatten(-2)
    return values
