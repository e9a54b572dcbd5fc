"""Discover the layout of any module: its groups by layer type, what they feed by probing its gradients."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neuroactivity import Layout, LayoutError
from neuroactivity.discovery import GradientFunction, Rule, SharedNeurons, discover_layout, list_layout
from neuroactivity.errors import check_choice
from neuroactivity.wrapping import derive_key
from neuroactivity_torch.layers import BATCH_NORMS, AttentionNeurons, list_groups
from neuroactivity_torch.parameters import parameters, swapped, undisturbed


def layout_of(
    model: nn.Module,
    *example_inputs: Any,
    shared: SharedNeurons = "incoming",
    attention: AttentionNeurons = "channels",
    rule: Rule | None = None,
    seed: int = 0,
) -> Layout:
    """Discover the neuron groups of a model and what they feed.

    The groups are listed by layer type. Their outgoing connections are discovered by
    :func:`neuroactivity.discover_outgoing`, which probes the model's gradients some hundred times and proves each
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
        seed: Seed of the probes.

    Returns:
        The layout. A group is named by its module's path, a parameter as ``named_parameters`` names it.

    Raises:
        LayoutError: If there are no neuron groups, or the model fails or its output has no gradient.
        ValueError: If ``shared`` or ``attention`` is none of their choices.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> layout = layout_of(model, torch.zeros(4, 3))
        >>> layout["0"].outgoing, layout["0"].status, layout["2"].status
        ((ParamView('2.weight', 'out neuron'),), 'exclusive', 'head')
    """
    check_choice("attention", attention, ("channels", "heads"))
    check_choice("shared", shared, ("incoming", "skip"))
    groups = list_groups(model, attention=attention, rule=rule)
    if not groups:
        raise LayoutError(f"{type(model).__name__}: found no layer with neurons; give rule= or layout=")
    if not example_inputs:
        return list_layout(groups)
    if getattr(type(model), "forward", None) is nn.Module.forward and "forward" not in vars(model):
        raise LayoutError(f"{type(model).__name__} has no forward(); give layout=, or wrap the method in a module")
    grad_fn = gradient_function(model, *example_inputs, seed=seed)
    with _one_thread():
        try:
            grad_fn(parameters(model))
        except LayoutError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            shapes = ", ".join(str(getattr(value, "shape", type(value).__name__)) for value in example_inputs)
            raise LayoutError(f"example_inputs: the model fails with inputs like these ({shapes}): {error}") from error
        return discover_layout(groups, grad_fn, parameters(model), normal=_standard_normal, shared=shared, seed=seed)


def gradient_function(model: nn.Module, *example_inputs: Any, seed: int = 0) -> GradientFunction:
    """Make the gradient function that discovery and :func:`neuroactivity.verify_layout` probe.

    A fixed random projection reduces all outputs to a scalar. The model runs in evaluation mode, but for normalisations
    over the batch, on copies of its buffers and with the same random numbers each time.

    Args:
        model: The model.
        example_inputs: What it is called with.
        seed: Seed of the inputs, the projection and the model's own random numbers.

    Returns:
        A function from parameters by name to gradients by name.
    """
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    inputs = _noisy_inputs(example_inputs, seed, dtypes.pop() if len(dtypes) == 1 else None)

    def grad_fn(params: dict[str, Tensor]) -> Mapping[str, Tensor | None]:
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        fixed = undisturbed(model, seed=derive_key(seed, 0, "model"))
        with fixed, _without_cudnn(model), torch.enable_grad(), swapped(model, leaves, buffers):
            _set_probe_mode(model)
            scalar = _project_outputs(model(*inputs), seed)
            gradients = torch.autograd.grad(scalar, list(leaves.values()), allow_unused=True)
        return dict(zip(leaves, gradients, strict=True))

    return grad_fn


def _set_probe_mode(model: nn.Module) -> None:
    """Switch dropout off, and let normalisations over the batch compute their statistics."""
    model.eval()
    for module in model.modules():
        if isinstance(module, BATCH_NORMS):
            module.train()


def _project_outputs(output: Any, seed: int) -> Tensor:
    """Reduce a model's outputs to one number by fixed random weights."""
    leaves = list(_tensors(output))
    if not leaves:
        what = f"expected an output with a gradient, got {type(output).__name__}"
        raise LayoutError(f"the model cannot be probed: {what}; give layout=")
    total = leaves[0].new_zeros(())
    for position, leaf in enumerate(leaves):
        total = total.to(leaf) + (leaf * _standard_normal(leaf, derive_key(seed, position, "projection"))).sum()
    return total


def _tensors(output: Any, depth: int = 4) -> Iterator[Tensor]:
    """Yield an output's tensors with a gradient, inside containers and objects such as distributions too."""
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, Tensor):
            if leaf.requires_grad:
                yield leaf
        elif depth and hasattr(leaf, "__dict__") and not isinstance(leaf, type | nn.Module):
            yield from _tensors(list(vars(leaf).values()), depth - 1)


def _noisy_inputs(inputs: tuple[Any, ...], seed: int, dtype: torch.dtype | None) -> tuple[Any, ...]:
    """Replace floating-point inputs by noise, so that neurons differ, in the dtype that all parameters have."""
    generator = torch.Generator("cpu").manual_seed(derive_key(seed, 0, "inputs"))

    def noise(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            noisy = torch.randn(leaf.shape, generator=generator, device="cpu")
            return noisy.to(leaf.device, dtype or leaf.dtype)
        return leaf

    return tuple(pytree.tree_map(noise, inputs))


def _standard_normal(like: Tensor, key: int) -> Tensor:
    """Draw standard normal numbers, the same on every device."""
    return torch.randn(like.shape, generator=torch.Generator("cpu").manual_seed(key), device="cpu").to(like)


@contextmanager
def _without_cudnn(model: nn.Module) -> Iterator[None]:
    """Leave a GPU to PyTorch's own kernels: cuDNN has no gradient of a recurrent layer in evaluation mode."""
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = enabled and not any(parameter.is_cuda for parameter in model.parameters())
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: in many small evaluations, several threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
