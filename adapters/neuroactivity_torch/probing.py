"""Run a model to probe it: from parameters to gradients, and to outputs."""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neuroactivity import ActivityWarning, LayoutError
from neuroactivity.arrays import to_dense
from neuroactivity.discovery.gradients import GradientStream, OutputFunction, Take, attributes
from neuroactivity.wrapping import derive_key
from neuroactivity_torch.layers import BATCH_NORMS, resting_statistics
from neuroactivity_torch.parameters import Parts, parameters, swapped, undisturbed

Reader: TypeAlias = Callable[..., Any]
"""What reads a model's neurons: called with the model's inputs, it returns outputs."""
T = TypeVar("T")


class Probed(nn.Module):
    """A model together with the modules that read its neurons."""

    def __init__(self, model: nn.Module, readers: Iterable[Reader]) -> None:
        super().__init__()
        self.model = model
        self.readers = nn.ModuleList([reader for reader in readers if isinstance(reader, nn.Module)])


def probed_parameters(probed: Probed, tied: Mapping[str, str]) -> dict[str, Tensor]:
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
    it keeps something from one call for the next. Parameters that it writes to itself, as an embedding with a largest
    norm does, are copied. Normalisations over the batch use its statistics, dropout is off. A fixed random projection
    reduces all outputs to a scalar. Each gradient is handed over as soon as it is complete.
    """
    probed = Probed(model, readers)
    parts = Parts.of(probed)
    names = {name.removeprefix("model."): name for name in parts.parameters}
    names |= {alias: f"model.{alias}" for alias in tied or {}}
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    inputs = _noisy_inputs(inputs, seed, dtypes.pop() if len(dtypes) == 1 else None)
    resting, written = resting_statistics(probed), set[str]()

    @contextmanager
    def running(params: Mapping[str, Tensor], *, training: bool, calls: int) -> Iterator[list[list[Any]]]:
        buffers = {name: resting.get(name, buffer).clone() for name, buffer in parts.buffers.items()}
        values = {names[name]: value.clone() if name in written else value for name, value in params.items()}
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
        leaves = _tensors([run(params, training=each, calls=calls) for each in modes])
        return [leaf.float() if leaf.is_floating_point() and leaf.itemsize < 4 else leaf.clone() for leaf in leaves]

    noisy = {
        name: value + 0.1 * standard_normal(value, seed)
        for name, value in probed_parameters(probed, tied or {}).items()
    }
    stamps = {name: _stamp(value) for name, value in noisy.items()}
    with torch.no_grad():
        evaluated = run(noisy, training=False, calls=2)
        trained = _unless_it_fails(lambda: run(noisy, training=True, calls=2), evaluated)
    written |= {name for name, value in noisy.items() if value._version or _stamp(value) != stamps[name]}
    modes = [False] if _are_close(evaluated[0], trained[0]) else [False, True]
    calls = 1 if _are_close(*evaluated) and _are_close(*trained) else 2
    return GradientStream(each), output_fn


def _stamp(value: Tensor) -> tuple[Any, ...]:
    """Return numbers that tell whether a tensor has been written to, as by ``.data``, which counts no version."""
    return value.sum().item(), torch.linalg.vector_norm(value).item()


def _unless_it_fails(function: Callable[[], T], otherwise: T) -> T:
    """Run a model in training mode, for which it may need more than its inputs."""
    try:
        return function()
    except Exception as error:
        text = "the model cannot be called in training mode with these inputs, so what is read there alone is unknown: "
        warnings.warn(text + " ".join(str(error).split())[:200], ActivityWarning, stacklevel=4)
        return otherwise


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
        total = total.to(leaf) + (leaf * standard_normal(leaf, derive_key(seed, position, "projection"))).sum()
    return total


def _tensors(output: Any, depth: int = 4) -> Iterator[Tensor]:
    """Yield an output's tensors, inside containers and objects such as distributions too."""
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, Tensor):
            yield leaf
        elif depth and not isinstance(leaf, nn.Module):
            yield from _tensors(attributes(leaf), depth - 1)


def _noisy_inputs(inputs: tuple[Any, ...], seed: int, dtype: torch.dtype | None) -> tuple[Any, ...]:
    """Replace floating-point inputs by noise, so that neurons differ, in the dtype that all parameters have."""
    generator = torch.Generator("cpu").manual_seed(derive_key(seed, 0, "inputs"))

    def noise(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            noisy = torch.randn(leaf.shape, generator=generator, device="cpu")
            return noisy.to(leaf.device, dtype or leaf.dtype)
        return leaf

    return tuple(pytree.tree_map(noise, inputs))


def standard_normal(like: Tensor, key: int) -> Tensor:
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
