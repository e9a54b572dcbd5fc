"""Which layer has which neuron groups: the parameters and axes of each layer, without what the neurons feed.

:mod:`.builtin` knows PyTorch's own layers by their types, :mod:`.alike` layers of any library by names and shapes, and
:mod:`.unlisted` names what is in no group.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from torch import nn
from torch.nn.parameter import UninitializedParameter

from neuroactivity import LayoutError, NeuronGroup, ParamView
from neuroactivity.discovery import Rule, groups_by_rule
from neuroactivity.discovery.names import check_not_empty
from neuroactivity_torch.layers.alike import groups_alike, is_alike, norm_axis, resting_statistics
from neuroactivity_torch.layers.builtin import BATCH_NORMS, AttentionNeurons, builtin_axis, builtin_groups
from neuroactivity_torch.layers.unlisted import pruned_parameters, warn_of_unlisted

__all__ = ["BATCH_NORMS", "AttentionNeurons", "feature_axis", "list_groups", "list_tied_groups", "resting_statistics"]


def list_groups(
    model: nn.Module, *, attention: AttentionNeurons = "channels", rule: Rule | None = None
) -> list[NeuronGroup]:
    """List the neuron groups of a model by its layers, in the order of its parameters.

    Known by type are ``Linear``, ``Conv1d`` to ``Conv3d`` and their transposes, ``Embedding``, the normalisations,
    ``MultiheadAttention``, ``RNN``, ``GRU``, ``LSTM`` and their cells; by names and shapes the normalisations of other
    libraries, ``NoisyLinear``, and ``Conv1D`` as in GPT-2. A parameter that two modules share belongs to the first. A
    warning names the layers whose weights are computed from other parameters, and the modules with trained weights
    that are in no group.

    Args:
        model: The model.
        attention: Whether a neuron of ``MultiheadAttention`` is a channel of a projection or a whole head.
        rule: Asked first for every parameter: from its name and value to its group, or None to leave it to what is
            known here.

    Raises:
        LayoutError: If a rule's group contradicts itself, a group has no neurons, or a lazy layer no shapes.
    """
    named = dict(model.named_parameters())
    for name, value in named.items():
        if isinstance(value, UninitializedParameter):
            raise LayoutError(f"parameter {name!r} has no shape yet: call the model on example inputs first")
    there = {name for name, _ in nn.Module.named_parameters(model, remove_duplicate=False)}  # with shared ones
    groups = groups_by_rule(rule, named)
    taken = {param for group in groups for param in _params(group)}
    computed: list[str] = []
    for path, module in model.named_modules():
        listed = [group for group in _module_groups(path, module, attention) if taken.isdisjoint(_params(group))]
        groups += [group for group in listed if all(_is_float(named.get(param)) for param in _params(group))]
        if not there.issuperset(param for group in listed for param in _params(group)):
            computed.append(path)
    check_not_empty(groups, {name: tuple(value.shape) for name, value in named.items()})
    warn_of_unlisted(model, {param for group in groups for param in _params(group)}, computed, stacklevel=4)
    order = {name: position for position, name in enumerate(named)}
    return sorted(groups, key=lambda group: order.get(group.incoming[0].param, len(order)))


def list_tied_groups(
    model: nn.Module, tied: Collection[str], *, attention: AttentionNeurons = "channels"
) -> list[NeuronGroup]:
    """List the groups of the layers that hold a parameter of another layer, which :func:`list_groups` leaves out.

    Args:
        model: The model.
        tied: The names of these parameters in these layers.
        attention: As for :func:`list_groups`.
    """
    there = dict(model.named_parameters(remove_duplicate=False))
    modules = [group for path, module in model.named_modules() for group in _module_groups(path, module, attention)]
    listed = [group for group in modules if not set(tied).isdisjoint(_params(group))]
    return [group for group in listed if all(_is_float(there.get(param)) for param in _params(group))]


def feature_axis(module: nn.Module, ndim: int) -> int | None:
    """Return the axis of a layer's inputs and outputs that counts features; ``None`` if the layer is not known."""
    axis = builtin_axis(module, ndim)
    return norm_axis(module, ndim) if axis is None and is_alike(module) else axis


def _params(group: NeuronGroup) -> list[str]:
    """Name the parameters that belong to a group's neurons."""
    return [view.param for view in group.incoming + group.unscored]


def _is_float(parameter: nn.Parameter | None) -> bool:
    return parameter is not None and parameter.is_floating_point()


def _module_groups(path: str, module: nn.Module, attention: AttentionNeurons) -> Iterator[NeuronGroup]:
    """List the groups of one module, without its children's."""
    prefix, name = f"{path}." if path else "", path or type(module).__name__.lower()
    groups = groups_alike(prefix, name, module) if is_alike(module) else builtin_groups(prefix, name, module, attention)

    def unpruned(views: Sequence[ParamView]) -> tuple[ParamView, ...]:
        changed = [view.param.removeprefix(prefix) in pruned for view in views]
        return tuple([replace(v, param=f"{v.param}_orig") if c else v for v, c in zip(views, changed, strict=True)])

    pruned = pruned_parameters(module)
    for group in groups:
        if pruned.isdisjoint(view.param.removeprefix(prefix) for _, view in group.views):
            yield group
        else:
            incoming, unscored, outgoing = map(unpruned, (group.incoming, group.unscored, group.outgoing))
            yield replace(group, incoming=incoming, unscored=unscored, outgoing=outgoing, resettable=False)
