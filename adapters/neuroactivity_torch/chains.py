"""Find the layout of nested ``nn.Sequential`` chains, where what feeds what can be read off the order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

import neuroactivity as na
from neuroactivity import LayoutError
from neuroactivity_torch.models import parameters

__all__ = ["layout_of"]

_CONVOLUTIONS: dict[type[nn.Module], str] = {nn.Conv1d: "k", nn.Conv2d: "h w", nn.Conv3d: "d h w"}
_MIXING_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_NORMS = (*_MIXING_NORMS, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NEURONWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Softplus, nn.Softsign, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
    *(nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Threshold, nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout),
    *(nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d),
    *(nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d),
    *(nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.Upsample, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
)


@dataclass
class _Draft:
    """A group whose outgoing parameters are not known yet."""

    name: str
    kind: str
    views: dict[str, Any]
    outgoing: list[tuple[str, str]] = field(default_factory=list)
    form: str = "neuron"  # how its neurons lie along the axis that the next layer reads
    status: str = "exclusive"
    reason: str = ""


def layout_of(model: nn.Module, *example_inputs: Any) -> na.Layout:
    """Find the neuron groups of a chain of layers.

    Args:
        model: Nested ``nn.Sequential`` of ``Linear``, ``Conv1d`` to ``Conv3d``, normalisations, activation functions,
            dropout, pooling and ``Flatten``.
        example_inputs: What the model is called with. A chain can be read without.

    Returns:
        A group for each layer with weights, named by the module's path. The last layer is an output head: not
        resettable. A layer whose neurons reach the next layer through a normalisation over neurons has the status
        ``through_norm``.

    Raises:
        LayoutError: If the model is anything else than such a chain; give ``layout=`` then.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> layout = layout_of(model)
        >>> layout["0"].outgoing, layout["2"].status
        ((ParamView('2.weight', 'out neuron'),), 'head')
    """
    drafts: list[_Draft] = []
    open_drafts: list[_Draft] = []
    for path, module in _chain(model, ""):
        draft = _layer(path, module, open_drafts)
        if draft is None:
            _pass_through(path, module, open_drafts)
        elif draft.kind == "norm":
            open_drafts.append(draft)
        else:
            open_drafts = [draft]
        drafts += [draft] if draft is not None else []
    for draft in open_drafts:
        draft.status, draft.reason = "head", "nothing with weights behind it"
    layout = na.Layout([_group(draft) for draft in drafts])
    layout.validate(parameters(model))
    return layout


def _chain(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of nested Sequentials in the order in which they are called."""
    if type(module) is not nn.Sequential:
        yield path, module
        return
    seen: set[int] = set()
    for name, child in module.named_children():
        yield from _chain(child, f"{path}.{name}" if path else name)
    for child in module:
        if id(child) in seen and next(child.parameters(), None) is not None:
            raise _unreadable(path, child, "it stands in the chain twice")
        seen.add(id(child))


def _layer(path: str, module: nn.Module, before: list[_Draft]) -> _Draft | None:
    """Read a layer with weights, and let it consume the groups before it."""
    prefix = f"{path}." if path else ""
    bias = f"{prefix}bias" if getattr(module, "bias", None) is not None else None
    kernel = _CONVOLUTIONS.get(type(module))
    if type(module) is nn.Linear or kernel:
        if kernel and module.groups != 1:
            raise _unreadable(path, module, "it has channel groups")
        for draft in before:
            if kernel and draft.form != "channel":
                raise _unreadable(path, module, f"it reads layer {draft.name!r}, which has no channels")
            if not kernel and draft.form == "channel":
                raise _unreadable(path, module, f"it reads the channels of layer {draft.name!r} without a Flatten")
            axis = "neuron" if kernel else draft.form
            draft.outgoing.append((f"{prefix}weight", f"out {axis} {kernel}" if kernel else f"out {axis}"))
        pattern = f"neuron in {kernel}" if kernel else "neuron in"
        views = {"weight": (f"{prefix}weight", pattern), "bias": bias}
        return _Draft(path, "conv" if kernel else "dense", views, form="channel" if kernel else "neuron")
    if not isinstance(module, _NORMS):
        return None
    form = before[-1].form if before else "neuron"
    if isinstance(module, _MIXING_NORMS):
        for draft in before:
            draft.status, draft.reason = "through_norm", f"its neurons take part in the statistics of {path!r}"
    if getattr(module, "weight", None) is None:
        return None
    last_axis = isinstance(module, nn.LayerNorm | nn.RMSNorm)
    if module.weight.ndim != 1 or (last_axis and form == "channel"):
        raise _unreadable(path, module, "its scale does not lie along the neurons before it")
    flat = form == "(neuron hw)"
    return _Draft(path, "norm", {"scale": f"{prefix}weight", "shift": bias}, form="neuron" if flat else form)


def _pass_through(path: str, module: nn.Module, before: list[_Draft]) -> None:
    """Let a layer without groups pass, if it keeps neurons apart."""
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        for draft in before:
            draft.form = "(neuron hw)" if draft.form == "channel" else draft.form
    elif not isinstance(module, (*_NEURONWISE, *_NORMS)):
        raise _unreadable(path, module, "it is not a layer whose outputs can be told apart")


def _group(draft: _Draft) -> na.NeuronGroup:
    """Finish a group."""
    build: dict[str, Callable[..., na.NeuronGroup]] = {"dense": na.dense, "conv": na.conv, "norm": na.norm}
    group = build[draft.kind](
        draft.name or draft.kind, outgoing=draft.outgoing, resettable=draft.status != "head", **draft.views
    )
    channels = draft.kind == "norm" and any(pattern != "out neuron" for _, pattern in draft.outgoing)
    activation = "batch neuron ..." if channels else group.activation
    return na.NeuronGroup(
        group.name,
        group.incoming,
        group.restored,
        group.outgoing,
        activation=activation,
        resettable=group.resettable,
        status=draft.status,
        reason=draft.reason,
    )


def _unreadable(path: str, module: nn.Module, why: str) -> LayoutError:
    hint = "only chains of nn.Sequential can be read, give layout= for this model"
    return LayoutError(f"module {path!r} ({type(module).__name__}): {why}; {hint}")
