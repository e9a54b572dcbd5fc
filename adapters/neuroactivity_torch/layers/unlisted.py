"""What is in no neuron group: layers with computed weights, modules whose weights nobody described."""

import warnings
from collections.abc import Collection, Sequence

from torch import nn
from torch.nn.utils import prune

import neuroactivity as na
from neuroactivity.discovery.names import looks_like_a_layer, say_computed, say_unlisted


def pruned_parameters(module: nn.Module) -> set[str]:
    """Name the parameters of a module that ``torch.nn.utils.prune`` masks; they are called ``..._orig`` then."""
    hooks = module._forward_pre_hooks.values()
    return {hook._tensor_name for hook in hooks if isinstance(hook, prune.BasePruningMethod)}


def warn_of_unlisted(model: nn.Module, taken: Collection[str], computed: Sequence[str], *, stacklevel: int) -> None:
    """Warn of layers whose weights are no parameters, of masked ones, and of modules whose weights are in no group.

    Args:
        model: The model.
        taken: The parameters that are in groups.
        computed: Paths of the layers whose weights are computed from other parameters.
        stacklevel: As for ``warnings.warn``.
    """
    if computed:
        text = say_computed([path or "the model" for path in computed])
        warnings.warn(text, na.ActivityWarning, stacklevel=stacklevel)
    masked = [path or "the model" for path, module in model.named_modules() if pruned_parameters(module)]
    if masked:
        warnings.warn(
            f"the weights of {', '.join(masked)} are computed from other parameters (prune): their neurons are "
            "measured by the parameters called ..._orig, and not reset",
            na.ActivityWarning,
            stacklevel=stacklevel,
        )
    unknown = _unknown(model, taken, computed)
    if unknown:
        warnings.warn(say_unlisted(unknown), na.ActivityWarning, stacklevel=stacklevel)


def _unknown(model: nn.Module, taken: Collection[str], computed: Sequence[str]) -> list[str]:
    """Name the modules that have trained weights of their own, none of them in a group, with class and shapes."""
    found, seen = [], set[int]()
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        own = {name: value for name, value in module.named_parameters(recurse=False) if id(value) not in seen}
        seen |= {id(value) for value in own.values()}
        inside = any(path == layer or path.startswith(f"{layer}.parametrizations".lstrip(".")) for layer in computed)
        if inside or any(prefix + name in taken for name in own):
            continue
        weights = [f"{name} {tuple(value.shape)}" for name, value in own.items() if _is_weight(path, name, value)]
        if weights:
            found.append(f"{path or 'the model'} ({type(module).__name__}: {', '.join(weights)})")
    return found


def _is_weight(path: str, name: str, value: nn.Parameter) -> bool:
    last = path.rpartition(".")[2] if name.isdigit() else name  # in a ParameterList the list has the name
    return value.requires_grad and value.is_floating_point() and looks_like_a_layer(last, value.shape)
