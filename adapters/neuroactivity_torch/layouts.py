"""Discover the layout of any module: its groups by layer type, what they feed by probing its gradients."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neuroactivity import Layout, LayoutError
from neuroactivity.arrays import to_dense
from neuroactivity.discovery import Rule, SharedNeurons, discover_layout, list_layout
from neuroactivity.discovery.gradients import GradientFunction, GradientStream, OutputFunction, Take
from neuroactivity.errors import check_choice
from neuroactivity.wrapping import derive_key
from neuroactivity_torch.devices import check_unsharded, check_wrapping, unwrapped
from neuroactivity_torch.layers import BATCH_NORMS, AttentionNeurons, list_groups, list_tied_groups, resting_statistics
from neuroactivity_torch.parameters import Parts, parameters, swapped, undisturbed
from neuroactivity_torch.tied import tie, tied_parameters, turned

Reader: TypeAlias = Callable[..., Any]
"""What reads a model's neurons: called with the model's inputs, it returns outputs."""

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
    params = _probed_parameters(_Probed(model, readers), tied)
    with _one_thread(model):
        try:
            grad_fn, output_fn = probe_functions(model, *example_inputs, readers=readers, tied=tied, seed=seed)
            grad_fn.each(params, params, lambda name, gradient: None)
        except LayoutError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            shapes = ", ".join(str(getattr(value, "shape", type(value).__name__)) for value in example_inputs)
            raise LayoutError(f"example_inputs: the model fails with inputs like these ({shapes}): {error}") from error
        discovered = discover_layout(
            [*groups, *others],
            grad_fn,
            params,
            normal=_standard_normal,
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


class _Probed(nn.Module):
    """A model together with the modules that read its neurons."""

    def __init__(self, model: nn.Module, readers: Iterable[Reader]) -> None:
        super().__init__()
        self.model = model
        self.readers = nn.ModuleList([reader for reader in readers if isinstance(reader, nn.Module)])


def _probed_parameters(probed: _Probed, tied: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the model's parameters by their names, and what its readers have beside as ``readers.0. ...``.

    Parameters to untie are named once more. Integers, which have no gradient, stay as they are.
    """
    named = {name.removeprefix("model."): value for name, value in parameters(probed).items()}
    named |= {alias: named[original] for alias, original in tied.items()}
    return {name: value for name, value in named.items() if _is_differentiable(value)}


def probe_functions(
    model: nn.Module, *inputs: Any, readers: Sequence[Reader] = (), tied: Mapping[str, str] | None = None, seed: int = 0
) -> tuple[GradientStream, OutputFunction]:
    """Make the functions that discovery probes: from parameters to gradients, and to outputs.

    The model runs on copies of its buffers and with the same random numbers each time, in evaluation mode, and in
    training mode as well if it computes something else there, as noisy layers and auxiliary heads do; twice in a row if
    it keeps something from one call for the next. Normalisations over the batch use its statistics, dropout is off. A
    fixed random projection reduces all outputs to a scalar. Each gradient is handed over as soon as it is complete.
    """
    probed = _Probed(model, readers)
    parts = Parts.of(probed)
    names = {name.removeprefix("model."): name for name in parts.parameters}
    names |= {alias: f"model.{alias}" for alias in tied or {}}
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    inputs = _noisy_inputs(inputs, seed, dtypes.pop() if len(dtypes) == 1 else None)
    resting = resting_statistics(probed)

    @contextmanager
    def running(params: Mapping[str, Tensor], *, training: bool, calls: int) -> Iterator[list[list[Any]]]:
        buffers = {name: resting.get(name, buffer).clone() for name, buffer in parts.buffers.items()}
        values = {names[name]: value for name, value in params.items()}
        with undisturbed(probed, seed=derive_key(seed, 0, "model"), parts=parts), _without_cudnn(model):
            _set_probe_mode(parts.modules, training=training)
            with swapped(probed, values, buffers, parts):
                start, results = torch.get_rng_state(), []
                for _ in range(calls):
                    torch.set_rng_state(start)
                    results.append([model(*inputs), *[reader(*inputs) for reader in readers]])
                yield results

    def run(params: Mapping[str, Tensor], *, training: bool, calls: int) -> list[list[Any]]:
        with running(params, training=training, calls=calls) as results:
            return results

    def each(params: dict[str, Tensor], wanted: Iterable[str], take: Take) -> None:
        leaves = {name: value.detach().requires_grad_() for name, value in params.items() if _is_differentiable(value)}
        asked = {name: leaves[name] for name in wanted if name in leaves}

        def hand_over(leaf: Tensor, name: str) -> None:
            take(name, to_dense(leaf.grad))
            leaf.grad = None

        for name, leaf in asked.items():
            leaf.register_post_accumulate_grad_hook(partial(hand_over, name=name))  # type: ignore[no-untyped-call]
        *others, last = modes
        with torch.enable_grad():
            results = [run(leaves, training=training, calls=calls) for training in others]
            with running(leaves, training=last, calls=calls) as found:  # activation checkpoints run the model again
                scalar = _project_outputs([*results, found], seed)
                if asked:
                    scalar.backward(inputs=list(asked.values()))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def output_fn(params: dict[str, Tensor]) -> list[Tensor]:
        return [leaf.clone() for leaf in _tensors([run(params, training=each, calls=calls) for each in modes])]

    noisy = {
        name: value + 0.1 * _standard_normal(value, seed)
        for name, value in _probed_parameters(probed, tied or {}).items()
    }
    with torch.no_grad():
        evaluated, trained = [run(noisy, training=training, calls=2) for training in (False, True)]
    modes = [False] if _are_close(evaluated[0], trained[0]) else [False, True]
    calls = 1 if _are_close(*evaluated) and _are_close(*trained) else 2
    return GradientStream(each), output_fn


def _is_large(model: nn.Module) -> bool:
    return sum(parameter.numel() for parameter in model.parameters()) >= _LARGE


def _is_differentiable(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def _are_close(first: Any, second: Any) -> bool:
    """Whether two calls' outputs are the same but for rounding."""
    pairs = list(itertools.zip_longest(_tensors(first), _tensors(second), fillvalue=torch.empty(0)))
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True) for a, b in pairs)


def _set_probe_mode(modules: Sequence[nn.Module], *, training: bool) -> None:
    """Switch dropout off, and let normalisations over the batch compute their statistics."""
    modules[0].train(training)
    for module in modules:
        if isinstance(module, BATCH_NORMS):
            module.train()
        elif isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()


def _project_outputs(output: list[list[list[Any]]], seed: int) -> Tensor:
    """Reduce the outputs of each mode to one number by fixed random weights."""
    leaves = [leaf for leaf in _tensors(output) if leaf.requires_grad]
    if not leaves:
        what = f"expected an output with a gradient, got {type(output[0][0][0]).__name__}"
        raise LayoutError(f"the model cannot be probed: {what}; give layout=")
    total = leaves[0].new_zeros(())
    for position, leaf in enumerate(leaves):
        total = total.to(leaf) + (leaf * _standard_normal(leaf, derive_key(seed, position, "projection"))).sum()
    return total


def _tensors(output: Any, depth: int = 4) -> Iterator[Tensor]:
    """Yield an output's tensors, inside containers and objects such as distributions too."""
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, Tensor):
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
def _one_thread(model: nn.Module) -> Iterator[None]:
    """Compute with one thread, unless the model is large: in small evaluations, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if _is_large(model) else 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
