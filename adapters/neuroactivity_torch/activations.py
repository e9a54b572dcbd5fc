"""Neuron outputs, as the layers that read them see them."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from neuroactivity.layout import Pattern
from neuroactivity.layout.patterns import NEURON, STACK, bind, parse
from neuroactivity.wrapping import arrange_outputs, take_neurons
from neuroactivity_torch.layers import feature_axis
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.parameters import owner_of, parameters, undisturbed


def activations(model: nn.Module, *inputs: Any, layout: na.Layout | None = None) -> dict[str, Tensor | None]:
    """Run a model and return its neurons' outputs as the next layers read them, after the activation function.

    The model runs in evaluation mode, without gradients. Its mode, buffers and hooks and the random generators are left
    as they were.

    Args:
        model: The model.
        inputs: What the model is called with.
        layout: The neuron groups, by default those that ``layout_of`` discovers. A group is read at the input of the
            module that holds its first outgoing parameter; without one, at the output of its own module, if that module
            holds no other parameters.

    Returns:
        Outputs by group name, in the form of the group's activation pattern, for :func:`neuroactivity.tau_dormant`;
        ``None`` for a group whose outputs are no module's input or output: the inside of attention, or of a recurrent
        layer with several layers.

    Raises:
        LayoutError: If what was read does not have the group's neurons, or does not fit its activation pattern.

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
    return {name: _outputs(model, layout[name], values, shapes) if values else None for name, values in seen.items()}


def _reader(model: nn.Module, group: NeuronGroup) -> ParamView | None:
    """Return the first outgoing view that another module holds."""
    maker = owner_of(model, group.incoming[0].param)
    return next((view for view in group.outgoing if owner_of(model, view.param) is not maker), None)


def _listen(model: nn.Module, group: NeuronGroup, seen: list[Tensor]) -> list[Any]:
    """Hook onto the module where a group is read."""

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0].detach())

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output).detach())

    reader = _reader(model, group)
    if reader is not None:
        return [owner_of(model, reader.param).register_forward_pre_hook(before)]
    maker = owner_of(model, group.incoming[0].param)
    held = {view.param.rpartition(".")[2] for view in group.incoming + group.unscored if view.index is None}
    alone = all(name in held for name, _ in maker.named_parameters())
    return [maker.register_forward_hook(after)] if alone else []


def _outputs(model: nn.Module, group: NeuronGroup, seen: list[Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Tensor:
    """Bring what was seen into the form that the group's activation pattern names."""
    reader, pattern, neurons = _reader(model, group), parse(group.activation), group.count(shapes)
    view = reader or ParamView(group.incoming[0].param, NEURON)
    try:
        values = seen[0] if len(seen) == 1 else torch.cat(seen)
        axis = feature_axis(owner_of(model, view.param), values.ndim)
        if axis is not None or reader is not None:
            axis = values.ndim - 1 if axis is None else axis
            values = take_neurons(values, view, neurons, axis)
            values = arrange_outputs(_stacks_first(values, pattern), pattern)
        bind(pattern, tuple(values.shape), {NEURON: neurons})
    except (na.LayoutError, RuntimeError) as error:
        where = f", read at the input of {reader.param!r}" if reader is not None else ""
        raise na.LayoutError(f"group {group.name!r}, activation {group.activation!r}{where}: {error}") from None
    return values


def _stacks_first(values: Tensor, pattern: Pattern) -> Tensor:
    """Move the axes of copies to the front; they lie among the axes other than the neurons where the pattern says."""
    if not pattern.stacks:
        return values
    others = bind(Pattern(tuple([names for names in pattern.axes if NEURON not in names])), values.shape[:-1], {})
    stacks = [axis for axis, name in enumerate(others.names) if name == STACK]
    return values.movedim(stacks, list(range(len(stacks))))
