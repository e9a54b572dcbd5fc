"""Which parameters an optimizer trains, by identity, and what has changed since a wrapper was attached."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from neuroactivity import ActivityWarning, Layout, LayoutError
from neuroactivity_torch.optimizers import Stepper


def trained_parameters(params: Mapping[str, nn.Parameter], steppers: Sequence[Stepper]) -> dict[str, nn.Parameter]:
    """Return those parameters of a model that the optimizers hold and that require a gradient, by name."""
    held = {number for stepper in steppers for number in stepper.holds()}
    return {name: p for name, p in params.items() if id(p) in held and p.requires_grad}


def fitting_groups(layout: Layout, params: Mapping[str, Tensor]) -> Layout:
    """Return the groups that the model's parameters, as they are now, still fit."""
    fitting = []
    for group in layout.values():
        alone = replace(group, partners=())
        try:
            Layout([alone]).validate(params)
        except LayoutError:
            continue
        fitting.append(group)
    names = {group.name for group in fitting}
    return Layout([replace(g, partners=tuple([name for name in g.partners if name in names])) for g in fitting])


def warn_of_changes(
    model: nn.Module,
    before: Mapping[str, nn.Parameter],
    now: Mapping[str, nn.Parameter],
    old: Layout,
    new: Layout,
    resized: Collection[str],
) -> None:
    """Name the parameters that were frozen, replaced, removed or added, and what that means for their groups.

    Args:
        model: The model.
        before: The parameters that were trained at the last look, by name.
        now: Those that are trained now.
        old: The groups that were measured.
        new: The groups that are.
        resized: The parameters that have another shape now.
    """
    there, found = dict(model.named_parameters()), {}
    for name in (*before, *[name for name in now if name not in before]):
        if name not in now:
            found[name] = _loss(before[name], there.get(name))
        elif name not in before:
            found[name] = "trained now"
        elif now[name] is not before[name]:
            found[name] = "replaced"
        elif name in resized:
            found[name] = "of another shape"
    parts = [f"{what}: {_listed([n for n, w in found.items() if w == what])}" for what in dict.fromkeys(found.values())]
    grouped = {view.param for group in (*old.values(), *new.values()) for _, view in group.views}
    kept = {name for name, group in new.items() if group.resettable}
    effects = {
        "no longer measured": [name for name in old if name not in new],
        "measured and no longer reset": [n for n, g in old.items() if g.resettable and n in new and n not in kept],
        "in no neuron group": [name for name in now if name not in before and name not in grouped],
    }
    parts += [f"{effect}: {_listed(names)}" for effect, names in effects.items() if names]
    message = f"the parameters that the optimizer trains have changed since the last look ({'; '.join(parts)})"
    warnings.warn(message, ActivityWarning, stacklevel=3)


def _loss(before: nn.Parameter, there: nn.Parameter | None) -> str:
    """Say why a parameter is no longer trained."""
    if there is None:
        return "no longer in the model"
    if there is not before:
        return "replaced, and not in the optimizer"
    return "taken out of the optimizer" if there.requires_grad else "frozen"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
