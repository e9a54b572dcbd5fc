"""Gradients of what layers return before their activation functions, for each sample."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity import NeuronGroup
from neuroactivity_torch.activations import plainly
from neuroactivity_torch.arranging import in_form, put_together
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.parameters import parameters
from neuroactivity_torch.readers import RECURRENT, layer_of, makes_alone, owners_of
from neuroactivity_torch.tracks import Seen


def activation_gradients(
    model: nn.Module, *inputs: Any, loss: Callable[[Any], Tensor], layout: na.Layout | None = None
) -> dict[str, Tensor | None]:
    """Return the gradients of a loss with respect to what each layer returns, for ``signal="activations"``.

    These are gradients of pre-activations: of a layer's outputs before the activation function. They tell dead neurons,
    since no gradient passes a ReLU that is zero on every sample; gradients of what the function returns do not. The
    model runs once, in the mode that it is in; gradients that its parameters hold are not touched, and its buffers and
    the random generators are left as they were.

    Args:
        model: The model.
        inputs: What the model is called with.
        loss: From what the model returns to a scalar: a sum or a mean over the samples.
        layout: The neuron groups, by default those that ``layout_of`` discovers.

    Returns:
        Gradients by group name, one for each sample and in the form of the group's activation pattern, for
        :func:`neuroactivity.grama`; ``None`` for a group that is not all that its module returns, such as the inside of
        attention or of a recurrent layer, and for one that the loss does not depend on.

    Raises:
        LayoutError: If a group's activation pattern has no place for what its layer returns.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> layout = na.Layout([na.dense("fc", weight=("0.weight", "neuron in"))])
        >>> grads = activation_gradients(model, torch.ones(5, 3), loss=lambda out: out.square().mean(), layout=layout)
        >>> na.grama(grads, layout, signal="activations")["fc"].shape
        torch.Size([4])
    """
    layout = layout_of(model, *inputs) if layout is None else layout
    made: dict[nn.Module, list[NeuronGroup]] = {}
    for group in layout.values():
        maker = layer_of(model, group.incoming[0].param)
        if makes_alone(model, group) and not isinstance(maker, RECURRENT):
            made.setdefault(maker, []).append(group)
    returned: list[tuple[nn.Module, Tensor]] = []

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        returned.append((module, output if output.requires_grad else output.requires_grad_()))
        return output.clone()  # operations in place change the copy

    with ExitStack() as stack:
        for module in made:
            stack.callback(module.register_forward_hook(after).remove)
        with plainly(model), torch.enable_grad():
            scalar, outputs = loss(model(*inputs)), [output for _, output in returned]
            found = torch.autograd.grad(scalar, outputs, allow_unused=True) if outputs else ()
    shapes = {name: tuple(value.shape) for name, value in parameters(model).items()}
    seen: dict[str, list[Seen]] = {}
    for (module, _), gradient in zip(returned, found, strict=True):
        for group in made[module] if gradient is not None else ():
            owners = owners_of(module, group, gradient, group.count(shapes))
            if owners is not None:
                seen.setdefault(group.name, []).append(Seen(gradient, owners, None))
    return {name: _arranged(group, seen.get(name, []), group.count(shapes)) for name, group in layout.items()}


def _arranged(group: NeuronGroup, seen: list[Seen], neurons: int) -> Tensor | None:
    """Bring a group's gradients into the form that its activation pattern names."""
    values = put_together(group, seen, neurons)
    try:
        return None if values is None else in_form(values, group, neurons)
    except na.LayoutError as error:
        raise na.LayoutError(f"group {group.name!r}, activation {group.activation!r}: {error}") from None
