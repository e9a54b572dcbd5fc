"""Parameters that layers of two kinds share: an embedding that is the output matrix too.

Discovery probes the model as if each layer had its own: whatever neither owns nor feeds a shared parameter is read in
the same way for all their values, hence for equal ones too. Nothing is claimed of the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import nn

from neuroactivity import Layout, NeuronGroup


def tied_parameters(model: nn.Module) -> dict[str, str]:
    """Name the further places where modules hold a parameter, each with the name that ``named_parameters`` has for it.

    Example:
        >>> model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))
        >>> model[1].weight = model[0].weight
        >>> tied_parameters(model)
        {'1.weight': '0.weight'}
    """
    first: dict[int, str] = {}
    tied = {}
    for path, module in model.named_modules():
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                name = f"{path}.{leaf}" if path else leaf
                original = first.setdefault(id(parameter), name)
                if original != name and not isinstance(module, nn.RNNBase):  # which keeps a list of them
                    tied[name] = original
    return tied


def turned(tied: Mapping[str, str], groups: Iterable[NeuronGroup], others: Iterable[NeuronGroup]) -> dict[str, str]:
    """Keep the parameters whose layers count their neurons along different axes; the rest is one layer used twice.

    Args:
        tied: From :func:`tied_parameters`.
        groups: The groups of the model, where a parameter belongs to the first of its layers.
        others: The groups of the layers that hold it besides.
    """
    patterns = {view.param: view.pattern for group in groups for _, view in group.views}
    further = {view.param: view.pattern for group in others for _, view in group.views}
    there = {alias: original for alias, original in tied.items() if alias in further and original in patterns}
    return {alias: original for alias, original in there.items() if further[alias] != patterns[original]}


def tie(discovered: Layout, groups: Sequence[NeuronGroup], tied: Mapping[str, str]) -> Layout:
    """Return the layout of a model from that of the same model with untied parameters.

    Args:
        discovered: The layout with a group for each layer.
        groups: The groups of the model, where a parameter belongs to the first of its layers.
        tied: From :func:`tied_parameters`.
    """
    names = {group.name for group in groups}
    return Layout([_tie(discovered[group.name], names, tied) for group in groups])


def _tie(group: NeuronGroup, names: set[str], tied: Mapping[str, str]) -> NeuronGroup:
    """Withdraw what was claimed of a group that a shared parameter makes, or that feeds one."""
    own = {view.param for view in group.incoming + group.unscored}
    fed = {view.param for view in group.outgoing}
    reason = ""
    for alias, original in tied.items():
        if original in own and group.status != "head":
            reason = f"its {original} is {alias} as well"
        elif fed & {alias, original}:
            reason = reason or f"feeds {alias}, which is {original} as well"
    if reason:
        return replace(group, outgoing=(), partners=(), status="unproved", reason=reason, resettable=False)
    return replace(group, partners=tuple([partner for partner in group.partners if partner in names]))
