"""Discover the layout of any module: its groups by layer type, what they feed by probing its gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from neuroactivity import Layout, LayoutError
from neuroactivity.discovery import Rule, SharedNeurons, discover_layout, list_layout
from neuroactivity.discovery.gradients import GradientFunction
from neuroactivity.errors import check_choice
from neuroactivity_torch.devices import check_unsharded, check_wrapping, unwrapped
from neuroactivity_torch.layers import AttentionNeurons, list_groups, list_tied_groups
from neuroactivity_torch.probing import Probed, Reader, probe_functions, probed_parameters, standard_normal
from neuroactivity_torch.tied import tie, tied_parameters, turned

_LARGE = 10_000_000  # parameters from which an evaluation takes so long that more than one thread helps


def layout_of(
    model: nn.Module,
    *example_inputs: Any,
    shared: SharedNeurons = "incoming",
    attention: AttentionNeurons = "channels",
    rule: Rule | None = None,
    readers: Sequence[Reader] = (),
    seed: int = 0,
) -> Layout:
    """Discover the neuron groups of a model and what they feed.

    The groups are listed by layer type. Their outgoing connections are discovered by
    :func:`neuroactivity.discover_outgoing`, which probes the model's gradients several hundred times and proves each
    connection; the model is left exactly as it was. Print ``layout.describe()`` to check it at a glance.

    Args:
        model: Any module.
        example_inputs: What the model is called with: a batch of a few samples; floating-point values are replaced by
            noise, of the parameters' dtype. Without any, the groups are only listed, which is enough to measure them.
        shared: Whether a reset of neurons that are read only together with other groups, as in a residual stream, draws
            fresh incoming parameters (``"incoming"``, as the paper's own code does) or skips them (``"skip"``).
        attention: Whether a neuron of ``MultiheadAttention`` is a channel of a projection (``"channels"``) or a whole
            head (``"heads"``).
        rule: Asked first for every parameter: from its name and value to its group, or None to leave it to what is
            known here.
        readers: Whatever else reads the model's neurons, called with the same inputs: for the critic of an agent with a
            shared encoder, ``[actor]`` or ``[lambda obs, action: actor(obs)]``. What it returns counts as an output.
        seed: Seed of the probes.

    Returns:
        The layout. A group is named by its module's path, a parameter as ``named_parameters`` names it.

    Raises:
        LayoutError: If there are no neuron groups, the model fails or its output has no gradient, or its parameters
            are sharded already.
        ValueError: If ``shared`` or ``attention`` is none of their choices.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> layout = layout_of(model, torch.zeros(4, 3))
        >>> layout["0"].outgoing, layout["0"].status, layout["2"].status
        ((ParamView('2.weight', 'out neuron'),), 'exclusive', 'head')
    """
    check_choice("attention", attention, ("channels", "heads"))
    check_choice("shared", shared, ("incoming", "skip"))
    model = unwrapped(model)
    check_wrapping(model)
    groups = list_groups(model, attention=attention, rule=rule)
    if not groups:
        raise LayoutError(f"{type(model).__name__}: found no layer with neurons; give rule= or layout=")
    if not example_inputs:
        return list_layout(groups)
    if getattr(type(model), "forward", None) is nn.Module.forward and "forward" not in vars(model):
        raise LayoutError(f"{type(model).__name__} has no forward(); give layout=, or wrap the method in a module")
    check_unsharded(model)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise LayoutError(
            f"{type(model).__name__} is on the meta device, where parameters have no values to probe; give them values "
            "(model.to_empty(device=...)), or list the groups without example inputs"
        )
    others = list_tied_groups(model, tied_parameters(model), attention=attention)
    tied = turned(tied_parameters(model), groups, others)
    others = list_tied_groups(model, tied, attention=attention)
    params = probed_parameters(Probed(model, readers), tied)
    with _one_thread(model):
        try:
            grad_fn, output_fn = probe_functions(model, *example_inputs, readers=readers, tied=tied, seed=seed)
            grad_fn.each(params, params, lambda name, gradient: None)
        except LayoutError:
            raise
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
            shapes = ", ".join(str(getattr(value, "shape", type(value).__name__)) for value in example_inputs)
            raise LayoutError(f"example_inputs: the model fails with inputs like these ({shapes}): {error}") from error
        discovered = discover_layout(
            [*groups, *others],
            grad_fn,
            params,
            normal=standard_normal,
            output_fn=output_fn,
            shared=shared,
            seed=seed,
        )
    return tie(discovered, groups, tied)


def gradient_function(model: nn.Module, *example_inputs: Any, seed: int = 0) -> GradientFunction:
    """Make the gradient function that :func:`neuroactivity.verify_layout` checks a layout with.

    Args:
        model: The model.
        example_inputs: What it is called with.
        seed: Seed of the inputs, the projection and the model's own random numbers.

    Returns:
        A function from parameters by name to gradients by name.
    """
    return probe_functions(unwrapped(model), *example_inputs, seed=seed)[0]


def _is_large(model: nn.Module) -> bool:
    return sum(parameter.numel() for parameter in model.parameters()) >= _LARGE


@contextmanager
def _one_thread(model: nn.Module) -> Iterator[None]:
    """Compute with one thread, unless the model is large: in small evaluations, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if _is_large(model) else 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
