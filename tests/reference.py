"""The definitions of the library, written a second time: slow, plain, one entry of one array after the other.

The tests hold the library to what is written here. Nothing of the library is used but the text that a layout declares:
``view.param``, ``view.pattern``, ``view.sizes`` and ``view.index``, and the fields of a group. Arrays are NumPy arrays,
scores are computed in Python floats (float64).
"""

import itertools
import math

import numpy as np


def opened(pattern):
    """The names on each axis of an array: ``"out (neuron hw)"`` is ``[["out"], ["neuron", "hw"]]``."""
    axes, inside = [], None
    for word in pattern.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            inside = []
        elif word == ")":
            axes.append(inside)
            inside = None
        elif inside is not None:
            inside.append(word)
        else:
            axes.append([word])
    return axes


def named_axes(pattern, shape):
    """The same with ``...`` replaced by as many nameless axes as the shape needs, and stacks and neurons counted."""
    axes = opened(pattern)
    for counted in ("stack", "neuron"):
        number = itertools.count()
        axes = [[f"{counted}{next(number)}" if name == counted else name for name in names] for names in axes]
    if ["..."] not in axes:
        return axes
    dots = axes.index(["..."])
    extra = len(shape) - (len(axes) - 1)
    return axes[:dots] + [[f"dots{i}"] for i in range(extra)] + axes[dots + 1 :]


def axis_sizes(pattern, shape, known):
    """The size of every name. On an axis that several names share, the one that is not known is what is left over."""
    sizes = {}
    known = {f"{name}0" if name in ("stack", "neuron") else name: size for name, size in known.items()}
    if pattern.split().count("neuron") > 1:
        known.pop("neuron0", None)  # the axes themselves tell it
    for names, length in zip(named_axes(pattern, shape), shape, strict=True):
        unknown = [name for name in names if name not in known]
        rest = length
        for name in names:
            if name in known:
                sizes[name] = known[name]
                rest //= known[name]
        if len(unknown) > 1:
            raise ValueError(f"cannot tell the sizes of {unknown}")
        if unknown:
            sizes[unknown[0]] = rest
        assert math.prod(sizes[name] for name in names) == length
    return sizes


def owned_entries(pattern, shape, sizes, index, neurons):
    """Yield every entry that belongs to a neuron: its position in the array, and whose it is.

    Whose is ``(neuron,)``, or ``(member, neuron)`` in a stack: the place of the neuron in scores and masks. In a stack
    of stacks the members of the first member come first.
    """
    known = dict(sizes)
    if index is not None:
        known["neuron"] = len(index)
    elif neurons is not None:
        known["neuron"] = neurons
    size, axes = axis_sizes(pattern, shape, known), named_axes(pattern, shape)
    for position in np.ndindex(*shape):
        coordinate = {}
        for names, place in zip(axes, position, strict=True):
            for name in reversed(names):  # the last name runs fastest
                place, coordinate[name] = divmod(place, size[name])
        neuron = place_of("neuron", coordinate, size)
        neuron = neuron if index is None else index[neuron]
        if neuron < 0:
            continue
        member = place_of("stack", coordinate, size)
        yield position, ((member, neuron) if "stack0" in coordinate else (neuron,))


def place_of(counted, coordinate, size):
    """The number of a neuron or a copy, whose axes come slowest first."""
    place = 0
    for name in (f"{counted}0", f"{counted}1"):
        if name in coordinate:
            place = place * size[name] + coordinate[name]
    return place


def count_neurons(group, arrays):
    """The number of neurons: as declared, or as the first parameter of the group tells it."""
    if group.neurons is not None:
        return group.neurons
    for view in group.incoming + group.unscored:
        if view.index is not None:
            return max(view.index) + 1
        if arrays.get(view.param) is not None:
            sizes = axis_sizes(view.pattern, arrays[view.param].shape, view.sizes)
            return sizes["neuron0"] * sizes.get("neuron1", 1)
    raise ValueError(f"no parameter of {group.name} tells its number of neurons")


def score_member(magnitudes):
    """Scores of the neurons of one group, or of one member of a stack."""
    if not all(math.isfinite(m) for m in magnitudes):
        return [math.nan for _ in magnitudes]
    if all(m == 0 for m in magnitudes):
        return [0.0 for _ in magnitudes]
    average = sum(magnitudes) / len(magnitudes)
    return [m / average for m in magnitudes]


def score(parts):
    """Scores of one group. ``parts`` yields (value, whose) for every entry that counts."""
    total, entries = {}, {}
    for value, who in parts:
        total[who] = total.get(who, 0.0) + abs(float(value))
        entries[who] = entries.get(who, 0) + 1
    shape = tuple(1 + max(places) for places in zip(*total, strict=True))
    scores = np.empty(shape)
    for member in np.ndindex(*shape[:-1]):
        neurons = [(*member, i) for i in range(shape[-1])]
        scores[member] = score_member([total[who] / entries[who] for who in neurons])
    return scores


def grama(grads, layout):
    """GraMa: the mean magnitude of a neuron's incoming gradients over the group's mean."""
    scores = {}
    for group in layout.values():
        present = [view for view in group.incoming if grads[view.param] is not None]
        neurons = count_neurons(group, grads) if present else 0
        parts = [
            (grads[view.param][position], who)
            for view in present
            for position, who in owned_entries(view.pattern, grads[view.param].shape, view.sizes, view.index, neurons)
        ]
        if present:
            scores[group.name] = score(parts)
    return scores


def tau_dormant(outputs, layout):
    """The tau-dormant score; also GraMa of the gradients of the neuron outputs."""
    scores = {}
    for group in layout.values():
        array = outputs[group.name]
        if array is not None:
            entries = owned_entries(group.activation, array.shape, {}, None, group.neurons)
            scores[group.name] = score([(array[position], who) for position, who in entries])
    return scores


def mask_member(scores, tau, max_fraction, reset_silent):
    """Which neurons of one group, or of one member of a stack, are reset."""
    chosen = sorted((s, i) for i, s in enumerate(scores) if s <= tau)
    if max_fraction is not None:
        chosen = chosen[: math.floor(max_fraction * len(scores) + 1e-9)]
    if all(s == 0 for s in scores) and not reset_silent:
        chosen = []
    if not all(math.isfinite(s) for s in scores):
        chosen = []
    return [i in {neuron for _, neuron in chosen} for i in range(len(scores))]


def reset_masks(scores, tau, max_fraction=None, reset_silent=False):
    """Masks of all groups."""
    masks = {}
    for name, group_scores in scores.items():
        masks[name] = np.zeros(group_scores.shape, dtype=bool)
        for member in np.ndindex(*group_scores.shape[:-1]):
            row = [float(s) for s in group_scores[member]]
            masks[name][member] = mask_member(row, tau, max_fraction, reset_silent)
    return masks


def entries_to_reset(roles, arrays, masks, layout):
    """Yield the parameter and the position of every entry that belongs to a masked neuron in one of the roles."""
    for name, mask in masks.items():
        group = layout[name]
        if not group.resettable:
            continue
        for role in roles:
            for view in getattr(group, role):
                if arrays[view.param] is None:
                    continue
                shape = arrays[view.param].shape
                for position, who in owned_entries(view.pattern, shape, view.sizes, view.index, mask.shape[-1]):
                    if mask[who]:
                        yield view.param, position


def reset(params, fresh, masks, layout, outgoing="zero"):
    """Incoming and unscored entries from ``fresh``; then outgoing ones: zero, small, from ``fresh``, or as they are."""
    new = {name: array.copy() for name, array in params.items()}
    for param, position in entries_to_reset(("incoming", "unscored"), params, masks, layout):
        new[param][position] = fresh[param][position]
    if outgoing == "small":
        for name, mask in masks.items():
            for view in layout[name].outgoing if layout[name].resettable else ():
                shrink(view, new[view.param], params[view.param], fresh[view.param], mask)
    elif outgoing != "keep":
        for param, position in entries_to_reset(("outgoing",), params, masks, layout):
            new[param][position] = 0 if outgoing == "zero" else fresh[param][position]
    return new


def shrink(view, array, old, fresh, mask):
    """Fresh entries whose mean square, neuron by neuron, is 0.02 squared times that of the living neurons' entries."""
    entries = list(owned_entries(view.pattern, array.shape, view.sizes, view.index, mask.shape[-1]))
    living, drawn = {}, {}
    for position, who in entries:
        if not mask[who]:
            living.setdefault(who[:-1], []).append(float(old[position]) ** 2)
        drawn.setdefault(who, []).append(float(fresh[position]) ** 2)
    for position, who in entries:
        if mask[who]:
            others, own = np.mean(living.get(who[:-1], [0.0])), np.mean(drawn[who])
            array[position] = 0.02 * fresh[position] * math.sqrt(others / own) if own else 0.0


def reset_moments(moments, masks, layout, fresh=None, outgoing="zero"):
    """Every entry that ``reset`` writes: zero, or what ``fresh`` has there."""
    new = {name: None if array is None else array.copy() for name, array in moments.items()}
    roles = ("incoming", "unscored") if outgoing == "keep" else ("incoming", "unscored", "outgoing")
    for param, position in entries_to_reset(roles, moments, masks, layout):
        new[param][position] = 0 if fresh is None else fresh[param][position]
    return new
